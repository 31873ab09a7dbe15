"""TrakEM2 projects as datasets: the real one, and the phantom's against its label images."""

import numpy as np
import pytest
import tifffile

from bench.config.data import PhantomConfig, PrepareConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.images.planes import read_unlabelled
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.metrics.instances import instance_scores, match_instances
from bench.phantom.write import write_phantom


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """Three regions of three sections, each the middle of its montages."""
    folder = tmp_path_factory.mktemp("phantom") / "phantom"
    return write_phantom(PhantomConfig(output=str(folder), size_px=128, montage_px=192))


@pytest.fixture(scope="module")
def from_project(phantom, tmp_path_factory):
    tree = read_input(
        PrepareConfig(
            input=str(phantom / "project.xml"), splits="regions:train=0;val=1;test=2", margin_px=10
        )
    )
    return write_prepared(tree, tmp_path_factory.mktemp("prepared") / "prepared")


def same_up_to_numbering(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two label images have the same instances."""
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    return all(np.unique(side).size == side.size for side in pairs) and [0, 0] in pairs.T.tolist()


def test_same_up_to_numbering_notices_a_merge_and_a_shift():
    labels = np.array([[0, 1, 2], [0, 1, 2]])
    assert same_up_to_numbering(labels, np.array([[0, 7, 3], [0, 7, 3]]))
    assert not same_up_to_numbering(labels, np.array([[0, 1, 1], [0, 1, 1]]))
    assert not same_up_to_numbering(labels, np.array([[0, 0, 1], [0, 0, 1]]))


def test_regions_are_crops_around_the_annotation(phantom, from_project: PreparedDataset):
    assert len(from_project.sections("train")) == 3
    assert from_project.pixel_size_nm == 5.0
    assert from_project.manifest["section_nm"] == 50.0
    entries = [entry for entry in from_project.manifest["sections"] if entry["split"] == "val"]
    assert {entry["region"] for entry in entries} == {"region1"}
    # The annotation fills the middle 128 px of a montage up to its border.
    for entry in entries:
        assert all(128 <= side <= 148 for side in entry["shape"])


def test_labels_and_pixels_are_those_of_the_phantom(phantom, from_project: PreparedDataset):
    """The crops hold the annotated region: wherever it lies in them, raw and labels agree."""
    paths = sorted((phantom / "train/raw").iterdir())
    for name, path in zip(from_project.sections("train"), paths, strict=True):
        raw, truth = from_project.read_raw(name), tifffile.imread(path)
        top, left = find_inside(raw, truth)
        window = slice(top, top + 128), slice(left, left + 128)
        for structure in from_project.structures:
            expected = tifffile.imread(phantom / "train" / structure / path.name)
            labels = from_project.read_labels(name, structure)
            assert same_up_to_numbering(labels[window], expected)
            assert np.count_nonzero(labels) == np.count_nonzero(expected)


def find_inside(image: np.ndarray, part: np.ndarray) -> tuple[int, int]:
    """Row and column at which a part lies in an image."""
    height, width = part.shape
    for top in range(image.shape[0] - height + 1):
        for left in range(image.shape[1] - width + 1):
            if np.array_equal(image[top : top + height, left : left + width], part):
                return top, left
    raise AssertionError("the annotated region is not in the crop")


def test_montages_without_val_and_test_regions_are_unlabelled_data(
    phantom, from_project: PreparedDataset
):
    names = from_project.unlabelled()
    assert len(names) == 3
    montages = sorted((phantom / "montages").glob("region0_*.tif"))
    for name, montage in zip(names, montages, strict=True):
        np.testing.assert_array_equal(from_project.read_raw(name), tifffile.imread(montage))
    read = read_unlabelled("auto", from_project)
    assert [image.name for image in read] == list(names)
    assert any("montages of 6 layers" in line for line in from_project.manifest["warnings"])
    from_project.verify()


def test_the_real_project_by_section(shared, tmp_path):
    tree = read_input(
        PrepareConfig(
            input=str(shared / "trakem2/project.xml.gz"),
            splits="train=0;val=1;test=2",
            margin_px=99,
        )
    )
    dataset = write_prepared(tree, tmp_path / "prepared")
    for split, number in (("train", 0), ("val", 1), ("test", 2)):
        (name,) = dataset.sections(split)
        raw = tifffile.imread(shared / f"trakem2/m0_section{number}.tif")
        np.testing.assert_array_equal(dataset.read_raw(name), raw)
        for structure in dataset.structures:
            truth = tifffile.imread(shared / f"trakem2/expected/{structure}.tif")[number]
            labels = dataset.read_labels(name, structure)
            assert same_up_to_numbering(labels, truth)
            scores = instance_scores(match_instances(truth=truth, prediction=labels))
            assert scores["instance_f1"] == 1.0
    assert any(line == "vesicle: 611 objects, taken as vesicles" for line in tree.found)


def test_classes_of_a_project_are_mapped_or_named(phantom):
    project = str(phantom / "project.xml")
    splits = "regions:train=0;val=1;test=2"
    tree = read_input(PrepareConfig(input=project, splits=splits, structures="vesicle=membrane"))
    assert tree.structures == ("membrane",)
    with pytest.raises(BenchError, match="received the classes 'membrane', 'mitochondria'"):
        read_input(PrepareConfig(input=project, splits=splits, structures="golgi=vesicles"))
