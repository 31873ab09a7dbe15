"""Entry point prepare."""

from cli import run_step

from bench.config.data import PrepareConfig


def main(config: PrepareConfig) -> None:
    """Check annotated images and write them as one prepared dataset."""
    from bench.steps.prepare import prepare

    prepare(config)


if __name__ == "__main__":
    run_step(PrepareConfig, main)
