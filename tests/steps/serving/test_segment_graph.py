"""Sections cut into tasks, and done by two workers of this machine, with a process per task."""

import json

import numpy as np
import pytest
import tifffile

from bench.cluster.graph import Outcome
from bench.config.running import SegmentConfig
from bench.core.hashing import file_sha256
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.ingest.images.planes import list_planes
from bench.recipe.predictor import RecipePredictor
from bench.recipe.recipe import Recipe, RecipeMember
from bench.steps.segment import segment_here
from bench.steps.serving import parts as segment_parts
from bench.steps.serving.graph import choose_on_workers, count_finished, segment_on_workers
from bench.steps.serving.parts import plan_tasks
from bench.steps.serving.task import do_task
from bench.steps.serving.work import HANDOVER, SETTINGS, Work, hand_over, take_over

CPU = choose_compute("cpu", "auto")


@pytest.fixture
def make_work(two_models, tmp_path):
    """Makes the work of a recipe of the first models, in a folder of a name."""

    def make(name, number=2, augmentations=("rot90",)):
        members = tuple(
            RecipeMember(f"m{n}", "scratch", n, "run", "", "evaluation", file_sha256(path))
            for n, path in enumerate(two_models[:number])
        )
        recipe = Recipe(
            structure="vesicles",
            dataset="d" * 64,
            pixel_size_nm=5.0,
            rescale=True,
            members=members,
            ensemble="mean",
            weights=(2, 1)[:number],
            augmentations=augmentations,
            level=128,
            opening_radius_px=1,
            min_area_px=5,
            watershed=None,
            metric="dice",
        )
        predictor = RecipePredictor.open(recipe, two_models[:number], CPU)
        return Work(predictor, CPU, {"min_area_px": 7}, "ome_zarr", tmp_path / name)

    return make


@pytest.fixture
def folder(tmp_path):
    """A section of 130 x 140 px, and two of 40 x 40 px in a stack."""
    random, images = np.random.default_rng(0), tmp_path / "images"
    images.mkdir()
    for name, shape in (("large", (130, 140)), ("small", (2, 40, 40))):
        noise = random.integers(0, 256, shape).astype(np.uint8)
        tifffile.imwrite(images / f"{name}.tif", noise, photometric="minisblack")
    return images


def config(folder, **settings):
    given = {"input": str(folder), "device": "cpu", "pixel_size_nm": 5.0}
    return SegmentConfig(**(given | {"cluster": "local", "workers": 2} | settings))


def names_of(tasks):
    return [task.name.split(": ")[1] for task in tasks]


def test_a_segmentation_is_cut_by_hand(make_work, folder):
    """At 5 nm the large section has 5 x 5 tiles of 32 px; at 4 nm, 162 x 175 px, 7 x 8 of 24 px.

    The small ones have 2 x 2, and at 50 x 50 px 3 x 3. All are 107, a sixth is less than the
    fewest: 32 a task. On a CPU a batch is a tile: 56 are 2 tasks.
    """
    work, planes = make_work("work"), list_planes(str(folder), 5.0)
    tasks = plan_tasks(work, planes, 2)
    assert names_of(tasks) == [
        "large, model 0 rot90",
        "large, model 1 rot90, batches 0 to 27",
        "large, model 1 rot90, batches 28 to 55",
        "large, model 1 rot90",
        "large",
        "small_z0 and 1 more",
    ]
    names = [task.name for task in tasks]
    assert [task.needs for task in tasks] == [
        *((), (), ()),
        (names[1], names[2]),
        (names[0], names[3]),
        (),
    ]


def test_more_tiles_are_cut_by_the_number_of_workers(make_work, folder, monkeypatch):
    """107 tiles for 4 workers: a twelfth is 8.9, so 9 a task at most."""
    monkeypatch.setitem(segment_parts.FEWEST_TILES, "cpu", 1)
    tasks = names_of(plan_tasks(make_work("work"), list_planes(str(folder), 5.0), 4))
    cut = [name for name in tasks if name.startswith("large, model 1 rot90, batches")]
    # 56 tiles in 7 tasks.
    assert [name.split("batches ")[1] for name in cut] == [
        f"{n} to {n + 7}" for n in range(0, 56, 8)
    ]


def test_what_is_finished_is_no_task(make_work, folder):
    work, planes = make_work("work", 2), list_planes(str(folder), 5.0)
    large, second = planes[0], work.predictor.passes[1]
    tiles = work.tiles / large.name
    work.predictor.predict_tiles(second, large.read(), 5.0, tiles, slice(0, 4))
    # 52 are left of the second model.
    assert names_of(plan_tasks(work, planes, 2))[:4] == [
        "large, model 0 rot90",
        "large, model 1 rot90, batches 4 to 29",
        "large, model 1 rot90, batches 30 to 55",
        "large, model 1 rot90",
    ]
    work.predictor.keep_pass(second, large.read(), 5.0, tiles, lambda more: None)
    assert count_finished(work, planes, {plane.name: 81 for plane in planes}) == 56
    # 25 tiles of the first are few enough for one task with what follows.
    assert names_of(plan_tasks(work, planes, 2)) == ["large", "small_z0 and 1 more"]
    segment_here(work, planes[1:])
    assert names_of(plan_tasks(work, planes, 2)) == ["large"]
    segment_here(work, planes)
    assert plan_tasks(work, planes, 2) == []
    assert count_finished(work, planes, {plane.name: 81 for plane in planes}) == 3 * 81


def test_two_workers_write_the_bytes_of_one_process(
    make_work, folder, two_models, two_workers, contents
):
    """Of two models: of one the tiles of the large section are cut, of the other they are not."""
    here, there = make_work("here"), make_work("there")
    planes = list_planes(str(folder), 5.0)
    segment_here(here, planes)
    segment_on_workers(there, planes, config(folder), two_models, two_workers)
    written = contents(there.content)
    assert {name.split("/")[0] for name in written} == {"large", "small_z0", "small_z1", "overlays"}
    assert written == contents(here.content)
    assert [path.read_bytes() for path in map(there.part_of, planes)] == [
        path.read_bytes() for path in map(here.part_of, planes)
    ]
    assert list(there.tiles.iterdir()) == []


def test_a_task_that_fails_ends_the_segmentation(make_work, folder, two_models, two_workers):
    planes = list_planes(str(folder / "small.tif"), 5.0)
    (folder / "small.tif").unlink()
    work = make_work("work")
    with pytest.raises(
        BenchError, match=r"task \d: small_z.* failed .*must be readable.*goes on with"
    ):
        segment_on_workers(work, planes, config(folder), two_models, two_workers)
    assert not work.content.exists()


def test_the_device_is_that_of_the_workers(two_workers, folder):
    found = choose_on_workers(config(folder, device="auto", cluster="tcp://"), two_workers)
    assert found == choose_compute("auto", "auto")


def test_a_device_that_a_worker_lacks_is_refused(two_workers, folder, monkeypatch):
    answer = do_task({"payload": {"device": "cuda:99"}, "results": {}})
    assert "device must be auto, cpu or a GPU" in answer.reason
    monkeypatch.setattr(two_workers, "run", lambda *given, workers: dict.fromkeys(workers, answer))
    with pytest.raises(BenchError, match=r"worker t.*: device must be auto, cpu or a GPU"):
        choose_on_workers(config(folder, cluster="tcp://"), two_workers)
    two = iter([["cpu", "bf16"], ["cuda", "bf16"]])
    monkeypatch.setattr(
        two_workers, "run", lambda *given, workers: {w: Outcome("done", next(two)) for w in workers}
    )
    with pytest.raises(BenchError, match=r"alike, one does on cuda in bf16 and another on cpu in"):
        choose_on_workers(config(folder, cluster="tcp://"), two_workers)


def test_a_worker_of_another_kind_is_refused(make_work, folder, two_models):
    work = make_work("work")
    hand_over(work, two_models, config(folder))
    settings = work.folder / HANDOVER / SETTINGS
    said = json.loads(settings.read_text())
    said["compute"] = ["cuda", "bf16"]
    settings.write_text(json.dumps(said))
    with pytest.raises(BenchError, match=r"alike, one does on cpu in .* another on cuda in bf16"):
        take_over(work.folder)


def test_a_worker_without_the_folder_says_so(tmp_path):
    payload = {"folder": str(tmp_path / "elsewhere"), "parts": []}
    outcome = do_task({"payload": payload, "results": {}})
    assert outcome.state == "failed"
    assert "choose an output on storage that all machines share" in outcome.reason
