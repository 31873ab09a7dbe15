"""How long a benchmark will take, and what is said of it."""

import logging
from dataclasses import replace

import pytest
import torch

from bench.config.running import BenchmarkConfig
from bench.dataset.prepared import PreparedDataset
from bench.inference.device import Compute
from bench.methods import METHODS
from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint
from bench.models.foreign import write_synapsenet_file
from bench.models.sam import write_tiny_sam
from bench.steps.grid import plan
from bench.steps.grid.measure import Speed
from bench.steps.grid.plan import format_time, make_plan
from bench.training import speed
from bench.training.pixels.fitting import USUAL_WORK
from bench.training.pixels.pace import PixelSpeed
from bench.training.speed import time_calls

ARGUMENTS = {"in_channels": 1, "depth": 4, "features": 4, "out_channels": 1}
INFO = ModelInfo("unet2d", ARGUMENTS, ("foreground",), "", 5.0, "section", 32, 16)
CPU = Compute(torch.device("cpu"), "fp32")
# An iteration of 4 patches of 32 px takes a second, a tile of 32 px a tenth.
SPEED = Speed(CPU, INFO, 1.0, 4, 32, 0.1, 1000)


@pytest.fixture
def config(pipeline, tiny, tmp_path):
    return BenchmarkConfig(
        dataset=str(pipeline.dataset),
        output=str(tmp_path / "out"),
        split="val",
        structures="mito",
        **tiny,
    )


@pytest.fixture
def seconds(store, monkeypatch):
    """The time that is planned where all networks have the same speed."""
    said = []

    def keep(found):
        said.append(found)
        return format_time(found)

    monkeypatch.setattr(plan, "measure_training", lambda *_: SPEED)
    monkeypatch.setattr(plan, "measure_prediction", lambda *_: SPEED)
    monkeypatch.setattr(plan, "format_time", keep)

    def tell(config):
        said.clear()
        make_plan(config, PreparedDataset.open(config.dataset), store)
        return said[0]

    return tell


def test_iterations_count_by_their_pixels_and_predictions_by_their_tiles(config, seconds):
    # 2 validation sections of 64 px are 8 tiles: one validation, one evaluation.
    one = replace(config, methods="scratch", iterations=20, epoch_iterations=20, optimize=False)
    assert seconds(one) == pytest.approx(20 + 0.8 + 0.8)
    assert seconds(replace(one, seeds="0,1")) == pytest.approx(2 * 21.6)
    assert seconds(replace(one, batch_size=2)) == pytest.approx(10 + 1.6)
    assert seconds(replace(one, patch_px=64)) == pytest.approx(80 + 1.6)
    assert seconds(replace(one, epoch_iterations=10)) == pytest.approx(20 + 2.4)
    assert seconds(replace(one, augmentations="all")) == pytest.approx(20 + 0.8 + 8 * 0.8)
    # On test there are 3 sections, and the search reads validation.
    tested = replace(one, split="test", optimize=True)
    assert seconds(tested) == pytest.approx(20 + 0.8 + 1.2 + 0.8)
    # Three tiles are tried where none is given.
    assert seconds(replace(one, tile_px=None, halo_px=None)) == pytest.approx(20 + 4 * 0.8 + 0.8)


def test_a_section_is_as_large_as_its_own_source_sees_it(config, seconds, tmp_path):
    # 64 px of 5 nm are 128 px of 2.5 nm: 16 tiles a section, for this source only.
    fine = replace(INFO, input_pixel_size_nm=2.5)
    save_checkpoint(tmp_path / "fine.safetensors", build_model("unet2d", ARGUMENTS), fine)
    source = str(tmp_path / "fine.safetensors")
    one = replace(config, iterations=20, epoch_iterations=20, optimize=False, source=source)
    assert seconds(replace(one, methods="finetuned")) == pytest.approx(20 + 3.2 + 3.2)
    assert seconds(replace(one, methods="scratch")) == pytest.approx(20 + 0.8 + 0.8)
    assert seconds(replace(one, methods="scratch,finetuned")) == pytest.approx(26.4 + 21.6)
    assert seconds(replace(one, methods="unadapted", rescale=False)) == pytest.approx(0.8)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Settings of a benchmark whose sources are small files."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    arguments = ARGUMENTS | {"out_channels": 2}
    weights = build_model("unet2d", arguments).state_dict()
    write_synapsenet_file(tmp_path / "source.pt", weights, arguments)
    write_tiny_sam(tmp_path / "sam.pt", image_px=64)
    return {
        "source": str(tmp_path / "source.pt"),
        "domain_adapt": "iterations=20,epoch_iterations=20,batch_size=4,patch_px=32",
        "microsam": f"source={tmp_path / 'sam.pt'},iterations=2,epoch_iterations=2,patch_px=64,"
        "sub_iterations=1,objects_per_batch=2,points_per_side=2,tile_px=64,halo_px=0",
    }


def test_an_adaptation_that_others_start_from_counts_once(config, sources, seconds):
    grid = replace(config, iterations=20, epoch_iterations=20, optimize=False, **sources)
    # The source is validated too.
    adapted = 20 * 4 / 3 + 2 * 0.8
    assert seconds(replace(grid, methods="domain_adapted")) == pytest.approx(adapted + 0.8)
    both = seconds(replace(grid, methods="domain_adapted,da_finetuned"))
    assert both == pytest.approx(adapted + 0.8 + 20 + 0.8 + 0.8)


def test_every_network_is_timed_once_by_its_real_step(config, sources, store, caplog):
    ours = [row for row in METHODS.values() if row.network in ("unet2d", "sam")]
    names = [row.name for row in ours if not row.of_classes]
    small = {"iterations": 2, "epoch_iterations": 2, "pretrain": "patch_px=32"}
    grid = replace(config, methods=",".join(names), **small, **sources)
    with caplog.at_level(logging.INFO):
        found = make_plan(grid, PreparedDataset.open(grid.dataset), store)
    assert caplog.text.count("timing an iteration") == 2
    (line,) = [line for line in found.lines if line.startswith("about ")]
    assert "unet2d: an iteration (batch 4, patch 32 px)" in line
    assert "sam: an iteration (batch 1, patch 64 px)" in line
    assert (found.notes, len(found.cells)) == ([], len(names))
    assert not store.client.search_runs([store.experiment_id])


def test_a_fit_on_pixels_is_foreseen(config, seconds, store, monkeypatch):
    grid = replace(config, methods="pixel_classifier", optimize=False)
    found = make_plan(grid, PreparedDataset.open(grid.dataset), store)
    assert not [line for line in found.lines if "not known" in line]
    # 5 sections of 64 px are filtered, and two validated and scored, a tile each.
    pixels = PixelSpeed(2.0, 3.0)
    info = replace(INFO, architecture="pixel_classifier", tile_px=1024, halo_px=208)
    fast = replace(SPEED, info=info, iteration_s=0.0, tile_s=pixels.tile_s(1024), pixels=pixels)
    monkeypatch.setattr(plan, "measure_training", lambda *_: fast)
    sections = PreparedDataset.open(grid.dataset).sections("train")
    work = USUAL_WORK["pixel_classifier"]
    expected = pixels.training_s(work, 64**2 * len(sections), 2 * fast.tile_s) + 2 * fast.tile_s
    assert seconds(grid) == pytest.approx(expected)
    assert seconds(replace(grid, seeds="0,1")) == pytest.approx(2 * expected)


def test_what_takes_long_is_said_with_the_presets_that_do_not(config, store, monkeypatch):
    monkeypatch.setattr(plan, "measure_training", lambda *_: SPEED)
    opened = {"iterations": None, "epoch_iterations": None, "patch_px": None, "lr": None}
    grid = replace(config, methods="scratch", tile_px=None, halo_px=None, **opened)

    def last_line(grid):
        return make_plan(grid, PreparedDataset.open(grid.dataset), store).lines[-1]

    # 5000 iterations of 4 patches of 256 px, and 23 validations of 2 tiles.
    assert last_line(grid) == (
        "over an hour: -P preset=quick takes about 40 min (scratch), -P preset=evening takes about "
        "4 h 30 min (scratch)"
    )
    typed = replace(grid, iterations=1000, patch_px=256, seeds="0")
    assert last_line(typed) == (
        "over an hour: fewer methods, seeds, structures or iterations take less"
    )
    monkeypatch.setattr(plan, "LONG_S", 1e9)
    assert "GB of disk" in last_line(grid)


@pytest.mark.parametrize(
    ("took", "calls", "made", "expected"),
    [
        # So little work that nobody must know it better.
        ([0.5], 10, 1, 0.5),
        # The first is slow, and the others are many.
        ([5.0, *[0.5] * 9], 1000, 5, 0.5),
        # Too slow to be done twice.
        ([20.0], 1000, 1, 20.0),
        ([10.0, 8.0], 1000, 2, 8.0),
    ],
)
def test_few_calls_are_timed(monkeypatch, took, calls, made, expected):
    now, left = [0.0], list(took)

    def call():
        now[0] += left.pop(0)

    monkeypatch.setattr(speed.time, "monotonic", lambda: now[0])
    assert time_calls(call, calls) == pytest.approx(expected)
    assert len(took) - len(left) == made
