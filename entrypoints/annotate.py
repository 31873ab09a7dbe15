"""Entry point annotate."""

from cli import run_step

from bench.config.data import AnnotateConfig


def main(config: AnnotateConfig) -> str:
    """Annotate sections in micro_sam's window with a SAM of yours, and save it for prepare."""
    from bench.steps.annotate import annotate

    return annotate(config)


if __name__ == "__main__":
    run_step(AnnotateConfig, main)
