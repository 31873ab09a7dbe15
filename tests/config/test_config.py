import dataclasses
import math
import types
from typing import get_type_hints

import pytest

from bench.config import data, detection, measuring, pretraining, running, scoring, training
from bench.config.data import (
    AnnotateConfig,
    CorrectConfig,
    ExportConfig,
    ExportModelConfig,
    LabelsConfig,
    PhantomConfig,
    PhantomModelsConfig,
    PrepareConfig,
)
from bench.config.detection import DetectConfig, PseudoConfig
from bench.config.measuring import MeasureConfig
from bench.config.pretraining import PretrainConfig
from bench.config.running import BenchmarkConfig, ClusterConfig, SegmentConfig
from bench.config.scoring import (
    CompareConfig,
    EvaluateConfig,
    OptimizeConfig,
    PromoteConfig,
    PublishConfig,
)
from bench.config.settings import StepConfig, parse_settings
from bench.config.training import (
    DomainAdaptConfig,
    FinetuneConfig,
    MicrosamConfig,
    TrainingConfig,
)
from bench.errors import BenchError

CONFIGS = [
    value
    for module in (data, training, pretraining, detection, measuring, scoring, running)
    for value in vars(module).values()
    if isinstance(value, type)
    and issubclass(value, StepConfig)
    and value.__module__ == module.__name__
]
# What several steps have in common; no step has them alone.
SHARED = (TrainingConfig, ClusterConfig, LabelsConfig)
FIELDS = [
    pytest.param(config, field, id=f"{config.__name__}.{field.name}")
    for config in CONFIGS
    for field in dataclasses.fields(config)
]


@pytest.mark.parametrize("config", CONFIGS)
def test_defaults_are_within_their_own_bounds(config):
    config()


@pytest.mark.parametrize(("config", "field"), FIELDS)
def test_a_default_has_the_type_of_its_field(config, field):
    hint = get_type_hints(config)[field.name]
    kinds = hint.__args__ if isinstance(hint, types.UnionType) else (hint,)
    assert type(field.default) in kinds


@pytest.mark.parametrize(("config", "field"), FIELDS)
def test_bounds_hold(config, field):
    limits = field.metadata
    if limits["choices"] is not None:
        with pytest.raises(BenchError, match=f"unknown {field.name} 'no such'"):
            config(**{field.name: "no such"})
    for bound, beyond in (("minimum", -1), ("maximum", 1)):
        if limits[bound] is None:
            continue
        config(**{field.name: limits[bound]})
        with pytest.raises(BenchError, match=f"{field.name} must be at .* received"):
            config(**{field.name: limits[bound] + beyond})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value):
    with pytest.raises(BenchError, match="lr must be a finite number"):
        FinetuneConfig(lr=value)


def test_settings_that_cannot_change_a_result_are_no_part_of_its_identity():
    left_out = {
        config: {f.name for f in dataclasses.fields(config) if not f.metadata["added"]}
        - set(config().identity())
        for config in CONFIGS
        if config not in SHARED
    }
    assert left_out == {
        PhantomConfig: {"output"},
        PrepareConfig: {
            *("input", "output", "overwrite", "roots", "check", "min_gap_nm", "add_to"),
        },
        # How many folds there are is said by the arguments of the network that has them, which
        # structures by the run's structure, and snapshots and balance where there are any.
        FinetuneConfig: {
            *("dataset", "checkpoint_iterations", "trust_checkpoint", "folds"),
            *("snapshots", "structures", "pseudo", "balance"),
        },
        PhantomModelsConfig: {"dataset", "output"},
        ExportConfig: {"dataset", "input", "output"},
        MeasureConfig: {"dataset", "input", "second", "output"},
        ExportModelConfig: {"authors", "check", "cite", "input", "licence", "name", "output"},
        CorrectConfig: {"dataset", "input", "output"},
        AnnotateConfig: {"dataset", "input", "output"},
        PromoteConfig: {"experiment", "replace"},
        PublishConfig: {"dataset", "output"},
        SegmentConfig: {"cluster", "cluster_profile", "input", "output", "workers"},
        OptimizeConfig: {"dataset", "runs", "methods", "experiment", "output", "planes"},
        DomainAdaptConfig: {
            *("dataset", "unlabelled", "checkpoint_iterations"),
            *("trust_checkpoint", "warn_empty_iterations"),
        },
        MicrosamConfig: {"dataset", "checkpoint_iterations", "trust_checkpoint"},
        PretrainConfig: {"dataset", "input", "checkpoint_iterations"},
        DetectConfig: {"dataset", "checkpoint_iterations"},
        PseudoConfig: {"dataset", "input", "output", "run_id"},
        EvaluateConfig: {"dataset", "trust_checkpoint"},
        CompareConfig: {"output", "watch", "watch_seconds"},
        BenchmarkConfig: {
            "balance",
            "checkpoint_iterations",
            "external",
            "folds",
            "cluster",
            "cluster_profile",
            "dataset",
            "detect",
            "engine",
            "metrics",
            "output",
            "plan",
            "planes",
            "preset",
            "pretrain",
            "pseudo",
            "resume",
            "snapshots",
            "stale_min",
            "trust_checkpoint",
            "workers",
        },
    }


def test_a_benchmark_trains_with_the_same_defaults_as_finetune():
    shared = {f.name for f in dataclasses.fields(TrainingConfig)}
    grid, cell = vars(BenchmarkConfig()), vars(FinetuneConfig())
    assert {name: grid[name] for name in shared} == {name: cell[name] for name in shared}


def test_settings_of_a_stage_are_read_by_their_types():
    text = "iterations=20, epoch_iterations=auto,lr=1e-3,flip=off,loss=dice"
    settings = {"iterations": 20, "epoch_iterations": None, "lr": 1e-3, "flip": False}
    assert parse_settings(FinetuneConfig, text) == settings | {"loss": "dice"}
    given = parse_settings(FinetuneConfig, "source=mito=a,vesicles=b; lr=0.1")
    assert given == {"source": "mito=a,vesicles=b", "lr": 0.1}
    assert parse_settings(FinetuneConfig, "none") == parse_settings(FinetuneConfig, "") == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("iterations", "settings are name=value, separated by .*, received 'iterations'"),
        ("iteration=3", "unknown setting of FinetuneConfig 'iteration': choose one of"),
        ("iterations=3.5", "iterations must be a int, received '3.5'"),
        ("flip=perhaps", "flip must be true or false, received 'perhaps'"),
        ("iterations=auto", "iterations must be a int, received 'auto'"),
    ],
)
def test_settings_of_a_stage_that_are_wrong(text, message):
    with pytest.raises(BenchError, match=message):
        parse_settings(FinetuneConfig, text)


def test_a_setting_that_was_added_counts_where_it_is_given():
    assert "width" not in FinetuneConfig().identity()
    assert FinetuneConfig(width=192).identity()["width"] == 192
    assert FinetuneConfig().identity({"width": 48})["width"] == 48
    assert "width" not in FinetuneConfig(width=192).identity({"width": None})
