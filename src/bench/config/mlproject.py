"""MLproject and docker/MLproject, made from the configs: ``make mlproject``."""

import dataclasses
import json
import textwrap
import types
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from bench.config.data import ExportConfig, PhantomConfig, PrepareConfig
from bench.config.running import BenchmarkConfig, SegmentConfig
from bench.config.scoring import CompareConfig, EvaluateConfig, OptimizeConfig, PromoteConfig
from bench.config.settings import StepConfig
from bench.config.training import (
    DomainAdaptConfig,
    FinetuneConfig,
    MicrosamConfig,
    PhantomModelsConfig,
)
from bench.words import AUTO

# A new entry point is one row, a file of its name in entrypoints/, and `make mlproject`.
ENTRY_POINTS: dict[str, type[StepConfig]] = {
    "phantom": PhantomConfig,
    "prepare": PrepareConfig,
    "finetune": FinetuneConfig,
    "microsam": MicrosamConfig,
    "domain_adapt": DomainAdaptConfig,
    "evaluate": EvaluateConfig,
    "compare": CompareConfig,
    "benchmark": BenchmarkConfig,
    "phantom_models": PhantomModelsConfig,
    "export": ExportConfig,
    "segment": SegmentConfig,
    "optimize": OptimizeConfig,
    "promote": PromoteConfig,
}

_HEAD = """\
# Made by `make mlproject` from src/bench/config, the home of the defaults. Placeholders stand bare:
# mlflow quotes the values for the shell, and quotes of ours would undo that. `auto` lets the step
# decide.
name: synapse-bench

conda_env: conda.yaml
"""
_TYPES = {int: "int", float: "float", str: "string", bool: "string"}
_INDENT = " " * 6
_COLUMNS = 96


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
    hints = get_type_hints(config_type)
    fields = sorted(dataclasses.fields(config_type), key=lambda field: field.name)
    rows = "".join(f"{_INDENT}{f.name}: {_parameter(f.default, hints[f.name])}\n" for f in fields)
    # A space that no line is broken at: an option and its value stay together.
    options = (f"--{field.name}\0{{{field.name}}}" for field in fields)
    command = textwrap.fill(
        " ".join((f"python\0entrypoints/{name}.py", *options)),
        width=_COLUMNS,
        initial_indent=_INDENT,
        subsequent_indent=_INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    ).replace("\0", " ")
    return f"  {name}:\n    parameters:\n{rows}    command: >-\n{command}\n"


def _parameter(default: Any, hint: Any) -> str:
    """Type and default of a parameter: what may be ``auto`` is a string to mlflow."""
    kind = "string" if isinstance(hint, types.UnionType) else _TYPES[hint]
    return f"{{type: {kind}, default: {_yaml(AUTO if default is None else default)}}}"


def _yaml(value: Any) -> str:
    """A value as YAML reads it again: quoted only where it would become something else."""
    if isinstance(value, bool):
        return json.dumps(json.dumps(value))
    if isinstance(value, float):
        # To YAML, 1e-05 is a word.
        return format(Decimal(repr(value)), "f")
    text = str(value)
    return text if yaml.safe_load(f"[{text}]") == [value] else json.dumps(text)


if __name__ == "__main__":
    for path, text in mlproject_texts(Path(__file__).parents[3]).items():
        temporary = path.with_name(f"{path.name}.new")
        temporary.write_text(text)
        temporary.replace(path)
