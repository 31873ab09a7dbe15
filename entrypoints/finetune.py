"""Entry point finetune."""

from cli import run_step

from bench.config.training import FinetuneConfig


def main(config: FinetuneConfig) -> None:
    """Train a segmentation network on a structure; resumes if it was interrupted."""
    from bench.steps.ending import end_training
    from bench.steps.finetune import finetune

    end_training(config.dataset, finetune(config))


if __name__ == "__main__":
    run_step(FinetuneConfig, main)
