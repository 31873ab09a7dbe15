"""Entry point correct."""

from cli import run_step

from bench.config.data import CorrectConfig


def main(config: CorrectConfig) -> str:
    """Correct labels by hand in napari, the doubtful objects first, and save them as annotation."""
    from bench.steps.correct import correct

    return correct(config)


if __name__ == "__main__":
    run_step(CorrectConfig, main)
