"""Entry point suggest."""

from cli import run_step

from bench.config.advice import SuggestConfig


def main(config: SuggestConfig) -> str:
    """Say what to annotate next, with what models find pre-drawn to be corrected; resumes."""
    from bench.steps.suggest import suggest

    return suggest(config)


if __name__ == "__main__":
    run_step(SuggestConfig, main)
