"""Entry point finetune."""

from cli import run_step

from bench.config.training import FinetuneConfig


def main(config: FinetuneConfig) -> str:
    """Train a segmentation network on a structure; resumes if it was interrupted."""
    from bench.steps.finetune import finetune

    return finetune(config)


if __name__ == "__main__":
    run_step(FinetuneConfig, main)
