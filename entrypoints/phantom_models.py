"""Entry point phantom_models."""

from cli import run_step

from bench.config.data import PhantomModelsConfig


def main(config: PhantomModelsConfig) -> None:
    """Train small source models and write them in the formats of the published ones."""
    from bench.steps.phantom_models import phantom_models

    phantom_models(config)


if __name__ == "__main__":
    run_step(PhantomModelsConfig, main)
