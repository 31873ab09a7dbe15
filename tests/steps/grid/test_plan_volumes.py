"""How long networks of volumes take in a benchmark, and whose patches and tiles are whose."""

from dataclasses import replace

import pytest
import torch

from bench.config.running import BenchmarkConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.models.checkpoint import ModelInfo
from bench.steps.grid import plan
from bench.steps.grid.cells import GridCell, evaluation_configs, model_config
from bench.steps.grid.measure import Speed
from bench.steps.grid.plan import make_plan

ARGUMENTS = {"in_channels": 1, "depth": 2, "features": 4, "out_channels": 1}
INFO = ModelInfo(
    *("unet3d", ARGUMENTS, ("foreground",), "", 2.2, "volume", 16, 4),
    tile_planes=16,
    halo_planes=4,
    input_section_nm=2.2,
)
CPU = Compute(torch.device("cpu"), "fp32")
# An iteration of 50 patches of 32 voxels takes a second, a tile of 16 voxels a tenth.
SPEED = Speed(CPU, INFO, 1.0, 50, 32, 0.1, 1000)


@pytest.fixture(scope="module")
def dataset(prepare_volumes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    return prepare_volumes(folder, counts={"train": 1, "val": 1, "test": 2}, shape=(16, 32, 32))


@pytest.fixture
def config(dataset, tmp_path):
    return BenchmarkConfig(
        dataset=dataset,
        output=str(tmp_path / "out"),
        methods="unet3d",
        structures="vesicles",
        iterations=20,
        epoch_iterations=10,
        features=4,
        optimize=False,
        device="cpu",
        precision="fp32",
    )


def test_iterations_count_by_their_voxels_and_predictions_by_theirs(config, store, monkeypatch):
    said = []
    monkeypatch.setattr(plan, "measure_training", lambda *_: SPEED)
    monkeypatch.setattr(plan, "format_time", lambda found: said.append(found) or "")

    def seconds(config):
        said.clear()
        make_plan(config, PreparedDataset.open(config.dataset), store)
        return said[0]

    # 16 x 32 x 32 are 4 tiles of 16 voxels: two validations, and two volumes to test on.
    assert seconds(config) == pytest.approx(20 + 2 * 0.4 + 0.8)
    assert seconds(replace(config, iterations=10)) == pytest.approx(10 + 0.4 + 0.8)
    # Symmetries are not those of a volume.
    assert seconds(replace(config, augmentations="all")) == pytest.approx(20 + 0.8 + 0.8)
    # What is said of patches and tiles is said of sections.
    sections = {"patch_px": 128, "tile_px": 512, "halo_px": 64, "batch_size": 3}
    assert seconds(replace(config, **sections)) == pytest.approx(20 + 0.8 + 0.8)


def test_tiles_of_volumes_are_counted_at_the_scale_they_are_fed_at():
    planes = [(32, 32)] * 16
    assert SPEED.count_tiles(planes, None, None) == 4
    assert SPEED.count_tiles(planes, 4.4, 2.2, 2.0) == 32
    assert SPEED.count_tiles(planes[:1], None, None) == 1
    anisotropic = replace(SPEED, info=replace(INFO, tile_planes=8))
    assert anisotropic.count_tiles(planes, None, None) == 8
    assert "a tile of 16 px x 16 planes" in str(SPEED)


def test_a_network_of_volumes_has_patches_and_tiles_of_its_own(config):
    typed = replace(config, patch_px=128, tile_px=512, halo_px=64, batch_size=3, lr=0.5)
    volume, section = (GridCell.named(name, "vesicles", 0, None) for name in ("unet3d", "scratch"))
    found = model_config(volume, typed)
    assert (found.patch_px, found.batch_size, found.tile_px, found.halo_px) == (None,) * 4
    assert (found.lr, found.features, found.iterations) == (0.5, 4, 20)
    found = model_config(section, typed)
    assert (found.patch_px, found.batch_size, found.tile_px, found.halo_px) == (128, 3, 512, 64)
    typed = replace(typed, augmentations="all")
    assert evaluation_configs(volume, typed, "")["test"].augmentations == "none"
    assert evaluation_configs(section, typed, "")["test"].augmentations == "all"


def test_networks_of_both_kinds_are_timed_in_one_plan(config, store):
    both = replace(config, methods="unet3d,scratch", iterations=1, patch_px=32, batch_size=2)
    both = replace(both, tile_px=32, halo_px=16)
    found = make_plan(both, PreparedDataset.open(both.dataset), store)
    (line,) = [line for line in found.lines if line.startswith("about ")]
    assert "unet3d: an iteration (batch 50, patch 32 px)" in line
    assert "a tile of 64 px x 64 planes" in line
    assert "unet2d: an iteration (batch 2, patch 32 px)" in line
    assert len(found.cells) == 2


def test_sections_are_refused_before_anything_runs(config, pipeline, store):
    sections = replace(config, dataset=str(pipeline.dataset), structures="mito", split="val")
    with pytest.raises(BenchError, match="takes volumes, received the sections of"):
        make_plan(sections, PreparedDataset.open(sections.dataset), store)
