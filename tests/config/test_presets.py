"""A preset gives values to what is left open, and to nothing else."""

from dataclasses import fields, replace

import pytest

from bench.config.presets import methods_from_scratch, with_preset
from bench.config.running import BenchmarkConfig
from bench.config.settings import parse_settings
from bench.config.training import DomainAdaptConfig, FinetuneConfig, MicrosamConfig
from bench.methods import FIRST_RELEASE, METHODS
from bench.structures import split_names

NAMES = next(f for f in fields(BenchmarkConfig) if f.name == "preset").metadata["choices"]
SIZES = {"iterations": 7, "patch_px": 64, "lr": 0.5, "schedule": "onecycle", "seeds": "9"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_typed_wins(name, device):
    typed = BenchmarkConfig(preset=name, methods="scratch", tile_px=32, halo_px=16, **SIZES)
    texts = {"domain_adapt": "iterations=3", "microsam": "iterations=4;source=mito=a,vesicles=b"}
    found = with_preset(replace(typed, **texts), device)
    assert replace(found, domain_adapt="none", microsam="none") == typed
    assert parse_settings(DomainAdaptConfig, found.domain_adapt)["iterations"] == 3
    given = parse_settings(MicrosamConfig, found.microsam)
    assert (given["iterations"], given["source"]) == (4, "mito=a,vesicles=b")


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_can_be_run(name, device):
    typed = BenchmarkConfig(preset=name)
    found = with_preset(typed, device)
    assert set(split_names(found.methods)) <= set(METHODS)
    assert all(METHODS[each].start == "random" for each in methods_from_scratch(typed, device))
    assert all(seed.isdecimal() for seed in split_names(found.seeds))
    parse_settings(DomainAdaptConfig, found.domain_adapt)
    parse_settings(MicrosamConfig, found.microsam)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_auto_and_paper_are_what_fine_tuning_does_by_default(device):
    for name in ("auto", "paper"):
        found = with_preset(BenchmarkConfig(preset=name), device)
        assert split_names(found.methods) == list(FIRST_RELEASE)
        # Whose names stand for several settings of a training.
        several = {"labelled", "structures"}
        for field in set(vars(found)) & set(vars(FinetuneConfig())) - several:
            assert getattr(found, field) == getattr(FinetuneConfig(), field), field
