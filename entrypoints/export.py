"""Entry point export."""

from cli import run_step

from bench.config.data import ExportConfig


def main(config: ExportConfig) -> None:
    """Write instance labels for TrakEM2, IMOD, Fiji or napari, where a person corrects them."""
    from bench.steps.export import export

    export(config)


if __name__ == "__main__":
    run_step(ExportConfig, main)
