"""Entry point publish."""

from cli import run_step

from bench.config.scoring import PublishConfig


def main(config: PublishConfig) -> None:
    """Write a folder by which others can check a result, or check one: recipe, scores, hashes."""
    from bench.steps.publish import publish

    publish(config)


if __name__ == "__main__":
    run_step(PublishConfig, main)
