"""Entry point optimize."""

from cli import run_step

from bench.config.scoring import OptimizeConfig


def main(config: OptimizeConfig) -> str:
    """Search the best combination of evaluated models on the validation split."""
    from bench.steps.optimize import optimize

    return optimize(config)


if __name__ == "__main__":
    run_step(OptimizeConfig, main)
