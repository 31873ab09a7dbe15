"""Entry point benchmark."""

from cli import run_step

from bench.config.running import BenchmarkConfig


def main(config: BenchmarkConfig) -> None:
    """Train, evaluate and compare methods x structures x seeds."""
    from bench.steps.benchmark import benchmark

    benchmark(config)


if __name__ == "__main__":
    run_step(BenchmarkConfig, main)
