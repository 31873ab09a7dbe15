"""What an evaluation says of its data, and the crops that it keeps for the page."""

import json

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from bench.dataset.prepared import PreparedDataset
from bench.ingest.writing import write_prepared
from bench.report.data_facts import DataFacts, merge_facts
from bench.report.figures.crops import PANELS
from bench.steps.scoring.evaluation_report import find_facts
from bench.steps.scoring.score_files import CROP_TITLE, crop_file
from bench.steps.scoring.units import list_units
from bench.tracking.queries import DATA_TAG, Cell, fetch_artifact


def write(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(pixels.astype(np.uint8)))


@pytest.fixture
def of_masks(tmp_path, read_tree):
    """Prepares a training and two test sections whose masks are this one."""

    def prepare(mask, size=5.0):
        random = np.random.default_rng(0)
        for number, split in enumerate(("train", "val", "test", "test")):
            name = f"s{number}.png"
            write(tmp_path / "in" / split / "raw" / name, random.integers(0, 255, mask.shape))
            write(tmp_path / "in" / split / "membrane" / name, 255 * mask)
        return write_prepared(read_tree(tmp_path / "in", pixel_size_nm=size), tmp_path / "out")

    return prepare


def blobs(number):
    mask = np.zeros((120, 120), bool)
    for place in range(number):
        y, x = 20 * (place // 5) + 2, 20 * (place % 5) + 2
        mask[y : y + 8, x : x + 8] = True
    return mask


def test_what_is_one_region_has_no_instances_to_score(of_masks):
    mask = np.zeros((120, 120), bool)
    mask[50:60] = mask[:, 50:60] = True
    facts = find_facts(list_units(of_masks(mask), "test"), "membrane")
    assert facts == DataFacts(5.0, None, "its annotation has 2 in 2 sections")


def test_a_network_with_specks_has_none_either(of_masks):
    mask = blobs(12)
    mask[100:118] = True
    assert "is a network" in find_facts(list_units(of_masks(mask), "test"), "membrane").uncounted


def test_objects_are_counted(of_masks):
    dataset = of_masks(blobs(12), size=None)
    assert find_facts(list_units(dataset, "test"), "membrane") == DataFacts(None, None, "")


@pytest.mark.parametrize(
    ("method", "labelled", "sections"),
    [("scratch", None, 1), ("finetuned", 3, 3), ("unadapted", None, None)],
)
def test_sections_that_a_method_learned_from_are_known(of_masks, method, labelled, sections):
    dataset = of_masks(blobs(4))
    here = Cell(method, "membrane", dataset.content_hash, 0, labelled)
    assert find_facts(list_units(dataset, "test"), "membrane", here).training_sections == sections
    elsewhere = Cell(method, "membrane", "0" * 64, 0, labelled)
    assert find_facts(list_units(dataset, "test"), "membrane", elsewhere).training_sections is None


def test_facts_of_several_runs_are_what_any_of_them_says():
    facts = [DataFacts(), DataFacts(training_sections=3), DataFacts(4.6, 5, "a network")]
    assert merge_facts(facts) == DataFacts(4.6, 3, "a network")
    assert merge_facts([]) == DataFacts()


def test_an_evaluation_keeps_its_facts_and_crops_of_its_typical_sections(pipeline):
    tags = pipeline.store.client.get_run(pipeline.on_test).data.tags
    assert json.loads(tags[DATA_TAG]) == {
        "pixel_size_nm": 5.0,
        "training_sections": 3,
        "uncounted": "",
        "unit": "section",
    }
    for name in PreparedDataset.open(str(pipeline.dataset)).sections("test"):
        with Image.open(fetch_artifact(pipeline.store, pipeline.on_test, crop_file(name))) as image:
            assert image.size == (len(PANELS) * 256, 256)
            assert image.info[CROP_TITLE] == "x 0 to 64, y 0 to 64 px, enlarged 4 times"


def test_the_pictures_of_a_training_have_a_scale_bar(pipeline):
    client = pipeline.store.client
    images = [file.path for file in client.list_artifacts(pipeline.trained, "images")]
    # Each is there in small too.
    shown = [fetch_artifact(pipeline.store, pipeline.trained, path) for path in images]
    pixels = [
        np.asarray(Image.open(path).convert("RGB")) for path in shown if path.suffix == ".png"
    ]
    assert pixels
    for image in pixels:
        # 50 nm of 5 nm a pixel, in the lower left corner, its edge black.
        bar = (image[-6:, :20] == 255).all(axis=2)
        assert bar.sum(axis=1).max() == 9
