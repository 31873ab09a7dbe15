"""Entry point evaluate."""

from cli import run_step

from bench.config.scoring import EvaluateConfig


def main(config: EvaluateConfig) -> str:
    """Score a trained model on a split, with predictions and pictures."""
    from bench.steps.evaluate import evaluate

    return evaluate(config)


if __name__ == "__main__":
    run_step(EvaluateConfig, main)
