"""Entry point promote."""

from cli import run_step

from bench.config.scoring import PromoteConfig


def main(config: PromoteConfig) -> None:
    """Register the best combination of a structure as its champion."""
    from bench.steps.promote import promote

    promote(config)


if __name__ == "__main__":
    run_step(PromoteConfig, main)
