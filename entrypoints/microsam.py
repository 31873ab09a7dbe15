"""Entry point microsam."""

from cli import run_step

from bench.config.training import MicrosamConfig


def main(config: MicrosamConfig) -> str:
    """Segment a structure with Segment Anything, as it is or trained; resumes if interrupted."""
    from bench.steps.microsam import microsam

    return microsam(config)


if __name__ == "__main__":
    run_step(MicrosamConfig, main)
