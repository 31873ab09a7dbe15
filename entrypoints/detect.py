"""Entry point detect."""

from cli import run_step

from bench.config.detection import DetectConfig


def main(config: DetectConfig) -> str:
    """Train a detector on the boxes of the annotated instances."""
    from bench.steps.detect import detect

    return detect(config)


if __name__ == "__main__":
    run_step(DetectConfig, main)
