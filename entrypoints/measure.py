"""Entry point measure."""

from cli import run_step

from bench.config.measuring import MeasureConfig


def main(config: MeasureConfig) -> None:
    """Measure what was segmented, and correct it for what the model misses and adds."""
    from bench.steps.measure import measure

    measure(config)


if __name__ == "__main__":
    run_step(MeasureConfig, main)
