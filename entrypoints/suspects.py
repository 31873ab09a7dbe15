"""Entry point suspects."""

from cli import run_step

from bench.config.advice import SuspectsConfig


def main(config: SuspectsConfig) -> str:
    """List where annotation is doubtful: missing, extra and badly drawn objects; resumes."""
    from bench.steps.suspects import suspects

    return suspects(config)


if __name__ == "__main__":
    run_step(SuspectsConfig, main)
