"""TrakEM2 projects as datasets: the real one, and the phantom's against its label images."""

import numpy as np
import pytest
import tifffile

from bench.config.data import PhantomConfig, PrepareConfig
from bench.dataset.partial import read_ignore_levels
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
    # The margin makes the section of train the whole montage, which is not stored again.
    (montage,), (train,) = dataset.unlabelled(), dataset.sections("train")
    assert dataset.find(montage)["file"] == dataset.find(train)["file"]
    assert len(list((dataset.root / "sections").iterdir())) == 3
    np.testing.assert_array_equal(dataset.read_raw(montage), dataset.read_raw(train))
    dataset.verify()


def test_classes_of_a_project_are_mapped_or_named(phantom):
    project = str(phantom / "project.xml")
    splits = "regions:train=0;val=1;test=2"
    tree = read_input(PrepareConfig(input=project, splits=splits, structures="vesicle=membrane"))
    assert tree.structures == ("membrane",)
    with pytest.raises(BenchError, match="received the classes 'membrane', 'mitochondria'"):
        read_input(PrepareConfig(input=project, splits=splits, structures="golgi=vesicles"))


def write_lossy_project(folder, imaged, regions=((2, 2), (34, 26))):
    """Writes a project of four layers as TrakEM2 saves it; `imaged` layers have an image.

    Of each region a square of 12 px is drawn in every layer. A layer of a lost section has no
    patch, which is how TrakEM2 keeps its place in the series.
    """
    rng = np.random.default_rng(0)
    layers, areas = [], []
    for number in range(4):
        patch = ""
        if number in imaged:
            image = rng.integers(0, 255, (48, 64), np.uint8)
            tifffile.imwrite(folder / f"sec{number}.tif", image)
            patch = (
                f'<t2_patch oid="{200 + number}" width="64.0" height="48.0" '
                f'transform="matrix(1.0,0.0,0.0,1.0,0.0,0.0)" title="sec{number}.tif" links="" '
                f'type="0" file_path="sec{number}.tif" o_width="64" o_height="48"></t2_patch>'
            )
        layers.append(
            f'<t2_layer oid="{20 + number}" thickness="10.0" z="{number}0.0" title="">{patch}'
            "</t2_layer>"
        )
    for place, (x, y) in enumerate(regions):
        drawn = "".join(
            f'<t2_area layer_id="{20 + number}"><t2_path d="M 0 0 L 12 0 L 12 12 L 0 12 z"/>'
            "</t2_area>"
            for number in range(4)
        )
        areas.append(
            f'<t2_area_list oid="{100 + place}" transform="matrix(1.0,0.0,0.0,1.0,{x}.0,{y}.0)" '
            f'title="mitochondria" layer_set_id="9">{drawn}</t2_area_list>'
        )
    tree = "".join(f'<area_list id="{5 + i}" oid="{100 + i}"/>' for i in range(len(regions)))
    (folder / "project.xml").write_text(
        '<?xml version="1.0" encoding="ISO-8859-1"?>\n<!DOCTYPE trakem2_anything [\n'
        "\t<!ELEMENT trakem2 (project,t2_layer_set)>\n] >\n<trakem2>"
        '<project id="0" title="p"><anything id="1" title="p"><mitochondria id="2">'
        f"{tree}</mitochondria></anything></project>"
        '<t2_layer_set oid="9" transform="matrix(1.0,0.0,0.0,1.0,0.0,0.0)" layer_width="64.0" '
        'layer_height="48.0"><t2_calibration pixelWidth="5.0" pixelHeight="5.0" pixelDepth="50.0" '
        f'unit="nm"/>{"".join(areas)}{"".join(layers)}</t2_layer_set></trakem2>'
    )
    return folder / "project.xml"


def test_a_layer_without_an_image_is_left_out_and_named(read_tree, tmp_path):
    project = write_lossy_project(tmp_path, imaged=(0, 2, 3))
    tree = read_tree(project, splits="train=0,1;val=2;test=3", margin_px=2)
    assert {section.number for section in tree.sections} == {0, 2, 3}
    assert len(tree.sections) == 6
    (warning,) = [text for text in tree.warnings if "without an image" in text]
    assert warning.startswith("layers of project.xml without an image are left out")
    assert ": layer 1: " in warning
    assert [section.number for section in tree.unlabelled] == [0]
    dataset = write_prepared(tree, tmp_path.parent / f"{tmp_path.name}-out")
    assert dataset.instances("test", "mitochondria") == 2
    assert warning in dataset.manifest["warnings"]


def test_a_split_of_nothing_but_lost_sections_says_why_it_is_empty(read_tree, tmp_path):
    project = write_lossy_project(tmp_path, imaged=(0, 1, 3))
    with pytest.raises(BenchError, match=r"received none for val: .*; .*are left out.*: layer 2: "):
        read_tree(project, splits="train=0,1;val=2;test=3", margin_px=2)


@pytest.mark.parametrize("made", [True, False])
def test_a_project_without_images_is_an_error_that_names_its_layers(
    shared, read_tree, tmp_path, made
):
    project = write_lossy_project(tmp_path, imaged=())
    given = project if made else shared / "formats/trakem2_conformance.xml"
    with pytest.raises(BenchError, match=r"must have an image .*received none in layer 0, layer 1"):
        read_tree(given, splits="train=0;val=1", margin_px=2)


def test_an_image_that_is_gone_is_an_error_that_names_it(read_tree, tmp_path):
    project = write_lossy_project(tmp_path, imaged=(0, 1, 2, 3))
    (tmp_path / "sec1.tif").unlink()
    with pytest.raises(BenchError, match=r"must be there, received .*sec1.tif, which is no file"):
        read_tree(project, splits="train=0,1;val=2;test=3", margin_px=2)


def test_an_area_list_of_trakem2(read_tree, tmp_path):
    project = write_lossy_project(tmp_path, imaged=range(4))
    text = project.read_text()
    extra = (
        '<t2_area_list oid="150" transform="matrix(1.0,0.0,0.0,1.0,2.0,2.0)" title="unlabelled" '
        'layer_set_id="9"><t2_area layer_id="20"><t2_path d="M 0 0 L 6 0 L 6 12 L 0 12 z"/>'
        "</t2_area></t2_area_list>"
    )
    text = text.replace('<area_list id="5"', '<area_list id="50" oid="150"/><area_list id="5"')
    text = text.replace('<t2_area_list oid="100"', extra + '<t2_area_list oid="100"')
    project.write_text(text)
    settings = {"splits": "train=0,1;val=2;test=3", "margin_px": 2}
    tree = read_tree(project, ignore="unlabelled", **settings)
    assert any("unlabelled: 1 objects, taken as (not annotated)" in line for line in tree.found)
    dataset = write_prepared(tree, tmp_path.parent / f"{tmp_path.name}-out")
    assert dataset.structures == ("mitochondria",)
    levels = read_ignore_levels(dataset, "train-region0_section000", "mitochondria")
    assert np.count_nonzero(levels == 1) == 72
    assert read_ignore_levels(dataset, "train-region0_section001", "mitochondria") is None
