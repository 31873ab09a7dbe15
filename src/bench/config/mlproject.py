"""MLproject and docker/MLproject, made from the configs: ``make mlproject``."""

import dataclasses
import textwrap
from pathlib import Path
from typing import Any

from bench.config.advice import SuggestConfig, SuspectsConfig
from bench.config.data import (
    AnnotateConfig,
    CorrectConfig,
    ExportConfig,
    ExportModelConfig,
    PhantomConfig,
    PhantomModelsConfig,
    PrepareConfig,
)
from bench.config.detection import DetectConfig, PseudoConfig
from bench.config.measuring import MeasureConfig
from bench.config.pretraining import PretrainConfig
from bench.config.running import BenchmarkConfig, SegmentConfig
from bench.config.scoring import (
    CompareConfig,
    EvaluateConfig,
    OptimizeConfig,
    PromoteConfig,
    PublishConfig,
)
from bench.config.settings import StepConfig
from bench.config.training import (
    DomainAdaptConfig,
    FinetuneConfig,
    MicrosamConfig,
)
from bench.words import AUTO

# A new entry point is one row, a file of its name in entrypoints/, and `make mlproject`.
ENTRY_POINTS: dict[str, type[StepConfig]] = {
    "phantom": PhantomConfig,
    "prepare": PrepareConfig,
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "detect": DetectConfig,
    "microsam": MicrosamConfig,
    "pseudo": PseudoConfig,
    "domain_adapt": DomainAdaptConfig,
    "evaluate": EvaluateConfig,
    "compare": CompareConfig,
    "benchmark": BenchmarkConfig,
    "phantom_models": PhantomModelsConfig,
    "export": ExportConfig,
    "export_model": ExportModelConfig,
    "segment": SegmentConfig,
    "measure": MeasureConfig,
    "correct": CorrectConfig,
    "annotate": AnnotateConfig,
    "optimize": OptimizeConfig,
    "promote": PromoteConfig,
    "publish": PublishConfig,
    "suggest": SuggestConfig,
    "suspects": SuspectsConfig,
}

_HEAD = """\
# Made by `make mlproject` from src/bench/config, the home of the defaults, which stand here for
# readers only: mlflow passes on what is given by -P, quoted for the shell, and shows that in the
# run. Declared as parameters, all of them would stand there. `auto` lets the step decide.
name: synapse-bench

conda_env: conda.yaml
"""
_COLUMNS = 100


def mlproject_texts(root: Path) -> dict[Path, str]:
    """The two files and what must stand in them.

    Args:
        root: The project's folder, whose docker/MLproject.head says what the container has of
            its own.
    """
    entry_points = "entry_points:\n" + "".join(
        _entry_point(name, config_type) for name, config_type in ENTRY_POINTS.items()
    )
    heads = {
        root / "MLproject": _HEAD,
        root / "docker" / "MLproject": (root / "docker" / "MLproject.head").read_text(),
    }
    return {path: f"{head}\n{entry_points}" for path, head in heads.items()}


def _entry_point(name: str, config_type: type[StepConfig]) -> str:
    fields = sorted(dataclasses.fields(config_type), key=lambda field: field.name)
    lines = (_describe(field) for field in fields)
    return f"  {name}:\n{''.join(lines)}    command: python entrypoints/{name}.py\n"


def _describe(field: "dataclasses.Field[Any]") -> str:
    """A setting with its default and what it is, as a comment."""
    default = AUTO if field.default is None else field.default
    shown = str(default).lower() if isinstance(default, bool) else default
    text = f"{field.name}={shown}: {field.metadata['help']}"
    return (
        textwrap.fill(text, width=_COLUMNS, initial_indent="    # ", subsequent_indent="    #   ")
        + "\n"
    )


if __name__ == "__main__":
    for path, text in mlproject_texts(Path(__file__).parents[3]).items():
        temporary = path.with_name(f"{path.name}.new")
        temporary.write_text(text)
        temporary.replace(path)
