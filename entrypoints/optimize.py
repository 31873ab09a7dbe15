"""Entry point optimize."""

from cli import run_step

from bench.config.scoring import OptimizeConfig


def main(config: OptimizeConfig) -> None:
    """Search the best combination of evaluated models on the validation split."""
    from bench.steps.ending import end_search
    from bench.steps.optimize import optimize

    end_search(config, optimize(config))


if __name__ == "__main__":
    run_step(OptimizeConfig, main)
