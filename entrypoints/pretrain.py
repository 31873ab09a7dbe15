"""Entry point pretrain."""

from cli import run_step

from bench.config.pretraining import PretrainConfig


def main(config: PretrainConfig) -> str:
    """Train a network to reconstruct images without labels, to fine-tune it; resumes."""
    from bench.steps.pretrain import pretrain

    return pretrain(config)


if __name__ == "__main__":
    run_step(PretrainConfig, main)
