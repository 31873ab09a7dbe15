"""Trainings and scores where not everything is annotated: nothing of what lies there is read."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from safetensors.torch import load_file
from skimage.measure import label

from bench.config.data import PrepareConfig
from bench.config.scoring import EvaluateConfig
from bench.config.training import FinetuneConfig
from bench.errors import BenchError
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.training import pixel_classifier
from bench.tracking.queries import fetch_artifact
from bench.tracking.runs import WARNING_TAG
from bench.training.pixels.fitting import PixelWork

SHAPE = (64, 64)
SETTINGS = {
    "structure": "mito",
    "source": "random",
    "iterations": 4,
    "epoch_iterations": 2,
    "batch_size": 3,
    "patch_px": 32,
    "features": 4,
    "lr": 0.01,
    "device": "cpu",
    "precision": "fp32",
}
SECTIONS = {"tile_px": 32, "halo_px": 16}


def fill_with(kind, rng, shape):
    if kind == "nothing":
        return np.zeros(shape, np.uint8)
    if kind == "foreground":
        return np.ones(shape, np.uint8)
    # Ids of objects beside it among them, or none of those.
    return rng.integers(*((200, 250) if kind == "others" else (0, 200)), shape).astype(np.uint8)


def write_tree(root, kind, planes=1, structures=("mito", "vesicles")):
    """Sections half of which is not annotated in blocks, filled with whatever is said."""
    rng, filling = np.random.default_rng(0), np.random.default_rng(1)
    for split in ("train", "val", "test"):
        shape = (planes, *SHAPE) if planes > 1 else SHAPE
        raw = rng.integers(0, 255, shape).astype(np.uint8)
        blocks = rng.random((4, 4)) < 0.5
        opened = np.kron(blocks, np.ones((16, 16), bool)) * np.ones(shape, bool)
        images = {"raw": raw, "unsure": opened.astype(np.uint8)}
        for structure in structures:
            spots = rng.random(SHAPE) < 0.02
            for axis in (0, 1):
                spots |= np.roll(spots, 1, axis) | np.roll(spots, 2, axis)
            mask = label(spots, connectivity=1) * np.ones(shape, int)
            mask = np.where(opened, fill_with(kind, filling, shape), mask).astype(np.uint8)
            images[structure] = mask
        for folder, image in images.items():
            path = root / split / folder / "a.tif"
            path.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(path, image)
    return root


@pytest.fixture(scope="module")
def prepare_filled(tmp_path_factory):
    """Prepares the tree with a filling; with ``ignore`` none it counts as annotation."""

    def prepare(kind, planes=1, ignore="unsure"):
        folder = tmp_path_factory.mktemp("filled")
        tree = write_tree(folder / "tree", kind, planes)
        config = PrepareConfig(
            input=str(tree),
            ignore=ignore,
            pixel_size_nm=5,
            section_nm=5,
            structures="mito,vesicles",
        )
        return str(write_prepared(read_input(config), folder / "prepared").root)

    return prepare


def train(make_store, folder, dataset, settings):
    store = make_store(folder)
    run_id = finetune(FinetuneConfig(dataset=dataset, **SETTINGS | settings), store)
    files = Path(store.client.get_run(run_id).info.artifact_uri.removeprefix("file://"))
    return store, run_id, load_file(files / "checkpoint/last.safetensors")


def are_equal(first, second):
    return first.keys() == second.keys() and all(bool((first[n] == second[n]).all()) for n in first)


@pytest.mark.parametrize(
    ("method", "planes", "kind", "more"),
    [
        ("scratch", 1, "foreground", SECTIONS),
        ("scratch_classes", 1, "ids", {"structures": "mito,vesicles", **SECTIONS}),
        ("unet3d", 12, "ids", {"patch_px": 16, "batch_size": 2}),
    ],
)
def test_weights_do_not_know_what_the_filling_was(
    prepare_filled, make_store, tmp_path, method, planes, kind, more
):
    settings = {"method": method, **more}
    weights = [
        train(make_store, tmp_path / each, prepare_filled(each, planes), settings)[2]
        for each in ("nothing", kind)
    ]
    assert are_equal(*weights)
    # The same labels as annotation teach something else.
    plain = prepare_filled("nothing", planes, ignore="none")
    assert not are_equal(weights[0], train(make_store, tmp_path / "plain", plain, settings)[2])


def test_a_pixel_classifier_learns_from_what_is_annotated(
    prepare_filled, make_store, tmp_path, monkeypatch
):
    monkeypatch.setattr(pixel_classifier, "PixelWork", lambda: PixelWork(pixels=1000, trees=4))
    store, trees = make_store(tmp_path), []
    for kind, ignore in (("nothing", "unsure"), ("foreground", "unsure"), ("nothing", "none")):
        config = FinetuneConfig(
            dataset=prepare_filled(kind, ignore=ignore),
            structure="mito",
            method="pixel_classifier",
            device="cpu",
        )
        folder = fetch_artifact(store, finetune(config, store), "checkpoint")
        trees.append(load_file(folder / "best.safetensors"))
    assert are_equal(trees[0], trees[1])
    # The same labels as annotation teach something else, and have another threshold.
    shifts = [each.pop("shift") for each in trees]
    assert shifts[0] != shifts[2]
    assert not are_equal(trees[0], trees[2])


def test_an_evaluation_says_the_share_and_does_not_read_the_filling(
    prepare_filled, make_store, tmp_path
):
    store, run_id, _ = train(
        make_store, tmp_path / "store", prepare_filled("nothing"), SECTIONS | {"method": "scratch"}
    )
    scores = []
    for kind in ("nothing", "others"):
        config = EvaluateConfig(
            dataset=prepare_filled(kind),
            run_id=run_id,
            min_area_px=0,
            opening_radius_px=0,
            metrics="*",
        )
        run = store.client.get_run(evaluate(config, store)).data
        scores.append(run.metrics)
        assert 0.2 < run.metrics["val/ignored_fraction"] < 0.8
        assert "is not annotated, and counts for nothing" in json.dumps(run.tags[WARNING_TAG])
    timed = [name for name in scores[0] if name.startswith(("predict/", "system/"))]
    for each in scores:
        for name in timed:
            each.pop(name, None)
    assert scores[0] == pytest.approx(scores[1])


def test_rows_that_cannot_honour_it_refuse(prepare_filled, make_store, tmp_path):
    from bench.config.data import ExportConfig
    from bench.config.training import MicrosamConfig
    from bench.steps.export import export
    from bench.steps.training.microsam_task import resolve_microsam

    dataset, store = prepare_filled("nothing"), make_store(tmp_path / "store")
    config = ExportConfig(dataset=dataset, run_id="none", output=str(tmp_path / "out"))
    with pytest.raises(BenchError, match="takes what is not annotated for background") as caught:
        export(config, store)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()
    for mode in ("prompted", "detector"):
        with pytest.raises(BenchError, match=r"a part is not annotated|detector"):
            resolve_microsam(MicrosamConfig(dataset=dataset, structure="mito", mode=mode), store)
