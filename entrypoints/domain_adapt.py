"""Entry point domain_adapt."""

from cli import run_step

from bench.config.training import DomainAdaptConfig


def main(config: DomainAdaptConfig) -> str:
    """Adapt a model to unlabelled images by a mean teacher; resumes if it was interrupted."""
    from bench.steps.domain_adapt import domain_adapt

    return domain_adapt(config)


if __name__ == "__main__":
    run_step(DomainAdaptConfig, main)
