"""Entry point phantom."""

from cli import run_step

from bench.config.data import PhantomConfig


def main(config: PhantomConfig) -> None:
    """Write synthetic electron microscopy with known truth."""
    from bench.steps.phantom import phantom

    phantom(config)


if __name__ == "__main__":
    run_step(PhantomConfig, main)
