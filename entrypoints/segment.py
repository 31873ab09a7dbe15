"""Entry point segment."""

from cli import run_step

from bench.config.running import SegmentConfig


def main(config: SegmentConfig) -> str:
    """Apply a trained model to new images: instances, probabilities, tables and pictures."""
    from bench.steps.segment import segment

    return segment(config)


if __name__ == "__main__":
    run_step(SegmentConfig, main)
