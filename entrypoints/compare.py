"""Entry point compare."""

from cli import run_step

from bench.config.scoring import CompareConfig


def main(config: CompareConfig) -> None:
    """Tabulate the newest evaluations of every method and structure."""
    from bench.steps.compare import compare

    compare(config)


if __name__ == "__main__":
    run_step(CompareConfig, main)
