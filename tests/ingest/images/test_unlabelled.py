import numpy as np
import pytest
import tifffile

from bench.config.data import PrepareConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.images.planes import hash_unlabelled, read_unlabelled
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared


@pytest.fixture(scope="module")
def dataset(tiny_tree, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared") / "tiny"
    write_prepared(read_input(PrepareConfig(input=str(tiny_tree), pixel_size_nm=5.0)), output)
    return PreparedDataset.open(output)


@pytest.fixture
def montages(tmp_path):
    folder = tmp_path / "montages"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape, nm in (("m10", (40, 50), 2.0), ("m2", (3, 20, 30), None)):
        pixels = rng.integers(0, 60000, shape).astype(np.uint16)
        tags = {"resolution": (1e7 / nm, 1e7 / nm), "resolutionunit": "CENTIMETER"} if nm else {}
        tifffile.imwrite(folder / f"{name}.tif", pixels, photometric="minisblack", **tags)
    return folder


def test_auto_takes_the_training_sections(dataset):
    images = read_unlabelled("auto", dataset)
    assert tuple(image.name for image in images) == dataset.sections("train")
    for image in images:
        assert np.array_equal(image.pixels, dataset.read_raw(image.name))
        assert image.pixel_size_nm == 5.0


def test_a_folder_gives_all_its_sections_in_natural_order(dataset, montages):
    images = read_unlabelled(str(montages), dataset)
    assert [image.name for image in images] == ["m2.tif"] * 3 + ["m10.tif"]
    assert [image.pixels.shape for image in images] == [(20, 30)] * 3 + [(40, 50)]
    assert {image.pixels.dtype for image in images} == {np.dtype(np.uint16)}
    # What a file states, else what the dataset has.
    assert [image.pixel_size_nm for image in images] == [5.0, 5.0, 5.0, 2.0]
    both = read_unlabelled(f"{montages / 'm10.tif'}, {montages}", dataset)
    assert len(both) == 5


def test_the_hash_is_that_of_the_content(dataset, montages, tmp_path):
    first = hash_unlabelled(str(montages), dataset)
    assert first != hash_unlabelled("auto", dataset)
    moved = montages.rename(tmp_path / "elsewhere")
    assert hash_unlabelled(str(moved), dataset) == first
    tifffile.imwrite(moved / "m3.tif", np.zeros((9, 9), np.uint8))
    assert hash_unlabelled(str(moved), dataset) != first


@pytest.mark.parametrize("where", ["no/such", "{folder}/notes.txt", " , "])
def test_what_is_no_image_is_refused_in_one_line(dataset, tmp_path, where):
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(BenchError, match=r"unlabelled must name .* use unlabelled=auto") as error:
        read_unlabelled(where.format(folder=tmp_path), dataset)
    assert "\n" not in str(error.value)
