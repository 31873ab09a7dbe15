"""Entry point pseudo."""

from cli import run_step

from bench.config.detection import PseudoConfig


def main(config: PseudoConfig) -> str:
    """Make pseudo-masks of images without labels, where detector and SAM are sure; resumes."""
    from bench.steps.pseudo import pseudo

    return pseudo(config)


if __name__ == "__main__":
    run_step(PseudoConfig, main)
