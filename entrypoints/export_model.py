"""Entry point export_model."""

from cli import run_step

from bench.config.data import ExportModelConfig


def main(config: ExportModelConfig) -> None:
    """Write a champion as a model of bioimage.io, tested, with weights, texts and a test image."""
    from bench.steps.export_model import export_model

    export_model(config)


if __name__ == "__main__":
    run_step(ExportModelConfig, main)
