"""Inputs of every layout, through the door that prepare uses, to a prepared dataset."""

import json
import shutil
import unicodedata
import zipfile

import h5py
import imagecodecs
import mrcfile
import numpy as np
import pytest
import roifile
import tifffile
import zarr

from bench.config.data import PrepareConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.metrics.instances import match_instances
from bench.metrics.overlap import count_pixels, dice_score

SHAPE = (40, 50)
SPLITS = "train=0;val=1;test=2"


def make_raw(seed: int, sections: int = 1) -> np.ndarray:
    raw = np.random.default_rng(seed).integers(0, 255, (sections, *SHAPE), dtype=np.uint8)
    return raw if sections > 1 else raw[0]


def rectangle(left: int, top: int, right: int, bottom: int) -> list[list[int]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


# Two vesicles, one of them under a corner of the other, and a mitochondrion: what every format
# below is given, as corners in px.
OBJECTS = {
    "vesicle-001": rectangle(2, 3, 12, 9),
    "vesicle-002": rectangle(20, 20, 26, 30),
    "mito-001": rectangle(30, 5, 45, 15),
}


def paint(kind: str) -> np.ndarray:
    labels = np.zeros(SHAPE, np.uint8)
    names = [name for name in OBJECTS if name.startswith(kind)]
    for number, name in enumerate(names, start=1):
        (left, top), _, (right, bottom), _ = OBJECTS[name]
        labels[top:bottom, left:right] = number
    return labels


def write_rois(path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, corners in OBJECTS.items():
            roi = roifile.ImagejRoi.frompoints(np.array(corners, float), name=name)
            archive.writestr(f"{name}.roi", roi.tobytes())


def write_geojson(path) -> None:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
            "properties": {"classification": {"name": name.partition("-")[0]}},
        }
        for name, corners in OBJECTS.items()
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def write_coco(path, images) -> None:
    annotations = [
        {
            "id": 10 * number + place,
            "image_id": number,
            "category_id": 1 if name.startswith("vesicle") else 2,
            "segmentation": [np.ravel(corners).tolist()],
            "iscrowd": 0,
        }
        for number in range(len(images))
        for place, (name, corners) in enumerate(OBJECTS.items())
    ]
    content = {
        "images": [
            {"id": number, "file_name": name, "height": SHAPE[0], "width": SHAPE[1]}
            for number, name in enumerate(images)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "vesicle"}, {"id": 2, "name": "mito"}],
    }
    path.write_text(json.dumps(content))


@pytest.fixture
def prepared(tmp_path):
    def prepare(path, **settings) -> PreparedDataset:
        settings = {"splits": SPLITS, "pixel_size_nm": 5.0} | settings
        tree = read_input(PrepareConfig(input=str(path), **settings))
        return write_prepared(tree, tmp_path / "prepared")

    return prepare


@pytest.fixture
def images(tmp_path):
    """A folder of three images, s0 to s2."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        tifffile.imwrite(folder / f"s{number}.tif", make_raw(number))
    return folder


def check_labels(dataset: PreparedDataset) -> None:
    for split, name in (("train", "train-s0"), ("val", "val-s1"), ("test", "test-s2")):
        assert dataset.sections(split) == (name,)
        np.testing.assert_array_equal(dataset.read_labels(name, "vesicles"), paint("vesicle"))
        np.testing.assert_array_equal(dataset.read_labels(name, "mitochondria"), paint("mito"))
        np.testing.assert_array_equal(dataset.read_raw(name), make_raw(int(name[-1])))


def test_fiji_rois_beside_their_images(images, prepared):
    for number in range(3):
        write_rois(images / f"s{number}.zip")
    check_labels(prepared(images))


def test_geojson_beside_images_and_named_with_a_word(images, prepared):
    write_geojson(images / "s0.geojson")
    write_geojson(images / "s1_annotations.geojson")
    write_geojson(images / "s2.json")
    check_labels(prepared(images))


def test_one_coco_file_for_all_images(images, prepared):
    write_coco(images / "annotations.json", ["s0.tif", "s1.tif", "s2.tif"])
    check_labels(prepared(images))


def test_coco_file_of_a_copy_at_half_size(images, prepared, tmp_path):
    write_coco(images / "a.json", [f"C:\\em\\s{number}.tif" for number in range(3)])
    check_labels(prepared(images))
    content = json.loads((images / "a.json").read_text())
    for image in content["images"]:
        image.update(height=SHAPE[0] // 2, width=SHAPE[1] // 2)
    for item in content["annotations"]:
        item["segmentation"] = (np.array(item["segmentation"]) / 2).tolist()
    (images / "a.json").write_text(json.dumps(content))
    shutil.rmtree(tmp_path / "prepared")
    with pytest.raises(BenchError, match=r"a.json must be about .* of s0.tif, 50 x 40 px"):
        prepared(images)
    check_labels(prepared(images, scale="auto"))


def test_annotation_pairs_in_both_forms_of_unicode(images, prepared):
    composed, apart = (unicodedata.normalize(f, "Pr\u00e4parat") for f in ("NFC", "NFD"))
    for number in range(3):
        (images / f"s{number}.tif").rename(images / f"{apart} {number}.tif")
        write_rois(images / f"{composed} {number}.zip")
    dataset = prepared(images)
    name = dataset.sections("val")[0]
    np.testing.assert_array_equal(dataset.read_labels(name, "vesicles"), paint("vesicle"))


def test_label_images_named_by_class(images, prepared):
    for number in range(3):
        tifffile.imwrite(images / f"s{number}_vesicles.tif", paint("vesicle"))
        tifffile.imwrite(images / f"s{number}-mito.tif", paint("mito"))
    check_labels(prepared(images))


def test_semantic_values_are_mapped_and_cut_into_components(images, prepared):
    semantic = np.where(paint("vesicle") > 0, 3, np.where(paint("mito") > 0, 7, 0)).astype("u1")
    for number in range(3):
        tifffile.imwrite(images / f"s{number}_labels.tif", semantic)
    check_labels(prepared(images, structures="3=vesicles,7=mitochondria"))


def test_ids_of_a_single_structure(images, prepared):
    for number in range(3):
        tifffile.imwrite(images / f"s{number}_labels.tif", paint("vesicle"))
    dataset = prepared(images, structures="vesicles")
    assert dataset.structures == ("vesicles",)
    with pytest.raises(BenchError, match="must say which structure it labels"):
        read_input(PrepareConfig(input=str(images), splits=SPLITS))


def test_an_image_without_objects_of_a_class_is_empty_in_it(images, prepared):
    write_coco(images / "annotations.json", ["s0.tif", "s1.tif", "s2.tif"])
    content = json.loads((images / "annotations.json").read_text())
    content["annotations"] = [
        a for a in content["annotations"] if a["image_id"] != 2 or a["category_id"] != 2
    ]
    (images / "annotations.json").write_text(json.dumps(content))
    dataset = prepared(images)
    assert not dataset.read_labels("test-s2", "mitochondria").any()
    assert dataset.read_labels("test-s2", "vesicles").any()


def test_annotation_files_in_a_folder_tree(images, prepared, tmp_path):
    tree = tmp_path / "tree"
    for number, split in enumerate(("train", "val", "test")):
        for folder in ("raw", "annotations", "membrane"):
            (tree / split / folder).mkdir(parents=True)
        tifffile.imwrite(tree / split / "raw" / f"s{number}.tif", make_raw(number))
        write_rois(tree / split / "annotations" / f"s{number}.zip")
        write_rois(tree / split / "membrane" / f"s{number}.zip")
    dataset = prepared(tree, splits="auto")
    check_labels(dataset)
    # In a structure's folder the classes of the file do not matter.
    assert dataset.instances("train", "membrane") == 3


def test_folders_named_by_other_classes_are_mapped(prepared, tmp_path):
    for number, split in enumerate(("train", "val", "test")):
        for kind in ("raw", "SV pool", "golgi"):
            (tmp_path / "tree" / split / kind).mkdir(parents=True)
            content = make_raw(number) if kind == "raw" else paint("vesicle")
            tifffile.imwrite(tmp_path / "tree" / split / kind / f"s{number}.tif", content)
    unmapped = read_input(PrepareConfig(input=str(tmp_path / "tree")))
    assert unmapped.structures == ("golgi", "sv_pool")
    dataset = prepared(tmp_path / "tree", splits="auto", structures="sv*=vesicles,golgi=membrane")
    assert set(dataset.structures) == {"vesicles", "membrane"}


def volume_labels() -> np.ndarray:
    return np.stack([paint("vesicle"), paint("vesicle"), np.zeros(SHAPE, np.uint8), paint("mito")])


def check_volume(dataset: PreparedDataset, raw: np.ndarray) -> None:
    assert dataset.sections("train") == ("train-tomo_z00", "train-tomo_z01")
    assert dataset.sections("val") == ("val-tomo_z03",)
    np.testing.assert_array_equal(dataset.read_raw("val-tomo_z03"), raw[3])
    np.testing.assert_array_equal(
        dataset.read_labels("train-tomo_z01", "vesicles"), volume_labels()[1]
    )
    assert dataset.find("val-tomo_z03")["region"] == "tomo"
    assert dataset.find("val-tomo_z03")["number"] == 3


def test_an_mrc_volume_with_a_label_volume(prepared, tmp_path):
    raw = make_raw(0, 4).astype(np.int16)
    with mrcfile.new(tmp_path / "tomo.rec") as file:
        file.set_data(raw)
        file.voxel_size = 20.0
    tifffile.imwrite(tmp_path / "tomo_labels.tif", volume_labels(), photometric="minisblack")
    dataset = prepared(
        tmp_path / "tomo.rec",
        splits="train=0-1;val=3",
        structures="vesicles",
        pixel_size_nm=None,
        rows="stored",
    )
    check_volume(dataset, raw)
    assert dataset.pixel_size_nm == pytest.approx(2.0)
    assert dataset.manifest["section_nm"] == pytest.approx(2.0)


def test_the_cremi_layout_with_labels_of_a_part(prepared, tmp_path):
    raw = make_raw(1, 6)
    path = tmp_path / "tomo.h5"
    with h5py.File(path, "w") as file:
        big = np.full((6, SHAPE[0] + 10, SHAPE[1] + 20), 99, np.uint8)
        big[1:5, 4:-6, 8:-12] = raw[1:5]
        file["volumes/raw"] = big
        file["volumes/raw"].attrs["resolution"] = (40.0, 4.0, 4.0)
        labels = volume_labels().astype(np.uint64)
        labels[labels == 0] = np.iinfo(np.uint64).max
        file["volumes/labels/vesicle"] = labels
        file["volumes/labels/vesicle"].attrs["resolution"] = (40.0, 4.0, 4.0)
        file["volumes/labels/vesicle"].attrs["offset"] = (40.0, 16.0, 32.0)
        file["volumes/labels/neuron_ids"] = np.ones((6, 60, 70), np.uint64)
    dataset = prepared(path, splits="train=0-1;val=3", pixel_size_nm=None)
    check_volume(dataset, raw[1:5])
    assert (dataset.pixel_size_nm, dataset.manifest["section_nm"]) == (4.0, 40.0)
    with h5py.File(path, "a") as file:
        file["volumes/labels/vesicle"].attrs["offset"] = (200.0, 16.0, 32.0)
    with pytest.raises(BenchError, match="must lie within"):
        read_input(PrepareConfig(input=str(path), splits="train=0-1;val=3"))


def test_ome_zarr_with_labels(prepared, tmp_path):
    raw = make_raw(2, 4)
    root = zarr.open_group(tmp_path / "tomo.ome.zarr", mode="w", zarr_format=2)
    axes = [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]

    def write(group, content):
        group.create_array("0", data=content, chunks=(1, 32, 32))
        scale = [{"type": "scale", "scale": [50.0, 5.0, 5.0]}]
        datasets = [{"path": "0", "coordinateTransformations": scale}]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]

    write(root, raw)
    root.create_group("labels").attrs["labels"] = ["sv"]
    write(root["labels"].create_group("sv"), volume_labels())
    dataset = prepared(tmp_path / "tomo.ome.zarr", splits="train=0-1;val=3", pixel_size_nm=None)
    check_volume(dataset, raw)
    assert (dataset.pixel_size_nm, dataset.manifest["section_nm"]) == (5.0, 50.0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("other.zip", "files of no image: other.zip"),
        ("notes.doc", "files of no image: notes.doc"),
        (None, "images without annotation: s0.tif, s1.tif, s2.tif"),
    ],
)
def test_files_that_do_not_pair_are_named(images, name, message):
    if name:
        (images / name).write_bytes(b"")
    with pytest.raises(BenchError, match=message) as caught:
        read_input(PrepareConfig(input=str(images), splits=SPLITS))
    assert "name the annotation of a.tif a.zip (Fiji)" in str(caught.value)


def test_annotation_beyond_the_stack_is_refused(images):
    for number in range(3):
        roi = roifile.ImagejRoi.frompoints(np.array(OBJECTS["mito-001"], float), name="mito-1")
        roi.position = 4
        (images / f"s{number}.roi").write_bytes(roi.tobytes())
    with pytest.raises(
        BenchError, match=r"in the 1 sections of s0.tif, received some in section 3"
    ):
        read_input(PrepareConfig(input=str(images), splits=SPLITS))


def test_objects_of_a_volume_keep_their_ids_through_z_and_metrics_take_volumes(prepared, tmp_path):
    """Section 1 shows one of two objects: read alone, its mask would be called binary."""
    truth = np.zeros((4, *SHAPE), np.uint16)
    truth[0:4, 2:9, 3:12] = 5
    truth[[0, 2, 3], 20:30, 15:28] = 9
    tifffile.imwrite(tmp_path / "tomo.tif", make_raw(0, 4), photometric="minisblack")
    tifffile.imwrite(tmp_path / "tomo_vesicles.tif", truth, photometric="minisblack")
    dataset = prepared(tmp_path / "tomo.tif", splits="train=0-1;val=2-3")
    (names,) = dataset.volumes("train").values()
    labels = np.stack([dataset.read_labels(name, "vesicles") for name in names])
    np.testing.assert_array_equal(labels, truth[:2])
    np.testing.assert_array_equal(
        np.stack([dataset.read_raw(name) for name in names]), make_raw(0, 4)[:2]
    )
    prediction = np.where(truth[:2] == 5, 1, 0)
    matching = match_instances(truth=labels, prediction=prediction)
    assert (matching.truth_instances, matching.true_positive) == (2, 1)
    counts = count_pixels(truth=labels, prediction=prediction)
    assert dice_score(counts) == pytest.approx(2 * 126 / (2 * 126 + 130))


def test_volumes_are_split_by_file(prepared, tmp_path):
    for number in range(3):
        tifffile.imwrite(tmp_path / f"v{number}.tif", make_raw(number, 4), photometric="minisblack")
        tifffile.imwrite(
            tmp_path / f"v{number}_vesicles.tif", volume_labels(), photometric="minisblack"
        )
    (tmp_path / "in").mkdir()
    for path in tmp_path.glob("*.tif"):
        path.rename(tmp_path / "in" / path.name)
    dataset = prepared(tmp_path / "in", splits="regions:train=0;val=1;test=2")
    assert list(dataset.volumes("test")) == ["v2"]
    assert len(dataset.volumes("train")["v0"]) == 4
    with pytest.raises(BenchError, match="unknown split"):
        dataset.volumes("x")


def test_arrays_of_any_name(prepared, tmp_path):
    path = tmp_path / "tomo.h5"
    raw = make_raw(3, 4)
    with h5py.File(path, "w") as file:
        file["main/first"] = raw
        file["main/second"] = raw
        file["seg/stack_1"] = volume_labels()
    settings = {"splits": "train=0-1;val=3", "structures": "seg/stack_1=vesicles"}
    with pytest.raises(BenchError, match=r"one array of raw sections, .* -P raw_key=main/em"):
        read_input(PrepareConfig(input=str(path), **settings))
    check_volume(prepared(path, raw_key="main/second", **settings), raw)


def write_arrays(path, arrays) -> None:
    """Writes arrays by key, as HDF5 or as Zarr."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for key, content in arrays.items():
                file[key] = content
        return
    root = zarr.open_group(path, mode="w", zarr_format=2)
    for key, content in arrays.items():
        root.create_array(key, data=content, chunks=(1, 32, 32))


@pytest.mark.parametrize("name", ["tomo.h5", "tomo.zarr"])
def test_labels_of_any_name_in_a_volume(name, prepared, tmp_path):
    """What lies in labels is taken; elsewhere what is named like no structure must be named."""
    labels = volume_labels()
    arrays = {"raw": make_raw(4, 4), "labels/Synaptic cleft": labels}
    arrays |= {"ribbon": labels, "prediction": labels, "seg/sv": labels}
    write_arrays(tmp_path / name, arrays)
    split = {"input": str(tmp_path / name), "splits": "train=0-1;val=3"}
    tree = read_input(PrepareConfig(**split))
    assert tree.structures == ("vesicles", "synaptic_cleft")
    (ignored,) = [line for line in tree.warnings if "not taken" in line]
    assert ignored == (
        f"arrays of {name} that are not taken: prediction, ribbon: name what is to be taken, as in "
        "-P 'structures=all,prediction'"
    )
    dataset = prepared(tmp_path / name, structures="ribbon", splits=split["splits"])
    assert dataset.structures == ("ribbon",)
    np.testing.assert_array_equal(dataset.read_raw("val-tomo_z03"), arrays["raw"][3])
    np.testing.assert_array_equal(dataset.read_labels("train-tomo_z01", "ribbon"), labels[1])
    both = read_input(PrepareConfig(**split, structures="all,ribbon,pred*=er"))
    assert both.structures == ("vesicles", "er", "ribbon", "synaptic_cleft")
    assert not any("not taken" in line for line in both.warnings)


@pytest.mark.parametrize("name", ["tomo.h5", "tomo.zarr"])
def test_a_volume_none_of_whose_labels_is_known_says_how_to_take_them(name, tmp_path):
    write_arrays(tmp_path / name, {"raw": make_raw(4, 4), "ribbon": volume_labels()})
    with pytest.raises(BenchError, match=r"name what is to be taken, .*structures=all,ribbon"):
        read_input(PrepareConfig(input=str(tmp_path / name), splits="train=0-1;val=3"))


def test_auto_labels_of_another_size_are_an_error_that_says_how_to_leave_them(tmp_path):
    labels = volume_labels()
    arrays = {"raw": make_raw(4, 4), "labels/vesicles": labels, "labels/er": labels[:2]}
    write_arrays(tmp_path / "tomo.h5", arrays)
    split = {"input": str(tmp_path / "tomo.h5"), "splits": "train=0-1;val=3"}
    with pytest.raises(BenchError, match=r"cover the same voxels.* -P structures=vesicles"):
        read_input(PrepareConfig(**split))
    assert read_input(PrepareConfig(**split, structures="sv")).structures == ("vesicles",)


def test_label_images_and_objects_of_other_names(images, prepared):
    for number in range(3):
        tifffile.imwrite(images / f"s{number}_ribbon.tif", paint("vesicle"))
        write_rois(images / f"s{number}.zip")
    with pytest.raises(BenchError, match=r"annotation: s0_ribbon.tif, .*structures=all,ribbon"):
        read_input(PrepareConfig(input=str(images), splits=SPLITS))
    dataset = prepared(images, structures="mito,ribbon")
    assert dataset.structures == ("mitochondria", "ribbon")
    np.testing.assert_array_equal(dataset.read_labels("test-s2", "ribbon"), paint("vesicle"))


def test_classes_that_are_left_out_are_named(images):
    write_coco(images / "annotations.json", ["s0.tif", "s1.tif", "s2.tif"])
    text = (images / "annotations.json").read_text().replace('"vesicle"', '"Golgi stack"')
    (images / "annotations.json").write_text(text)
    tree = read_input(PrepareConfig(input=str(images), splits=SPLITS))
    assert tree.structures == ("mitochondria",)
    (warning,) = [line for line in tree.warnings if "not taken" in line]
    assert warning.startswith("classes that are not taken: Golgi stack: name what is to be taken")
    named = "all,golgi stack"
    tree = read_input(PrepareConfig(input=str(images), splits=SPLITS, structures=named))
    assert tree.structures == ("mitochondria", "golgi_stack")


def test_a_jpeg_is_no_label_image(images):
    content = imagecodecs.jpeg8_encode(paint("vesicle") * 100)
    for number in range(3):
        (images / f"s{number}_vesicles.jpg").write_bytes(content)
    with pytest.raises(BenchError, match=r"labels must keep their values, received s0"):
        read_input(PrepareConfig(input=str(images), splits=SPLITS))


def write_ome(root, kind: str, axes: str, pixels: np.ndarray, labels: list[str] = ()) -> None:
    group = root.create_group(kind) if kind else root
    group.create_array("0", shape=pixels.shape, dtype="u1")[...] = pixels
    types = [{"name": n, "type": "channel" if n == "c" else "space"} for n in axes]
    group.attrs["multiscales"] = [{"axes": types, "datasets": [{"path": "0"}], "version": "0.4"}]
    if labels:
        group.attrs["omero"] = {"channels": [{"label": label} for label in labels]}


@pytest.fixture
def volume(tmp_path):
    """A folder for a volume."""
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


def test_channel_of_an_ome_zarr_image_is_named(volume, prepared):
    root = zarr.open_group(volume / "v.ome.zarr", mode="w", zarr_format=2)
    raw, labels = make_raw(0, 3), np.stack([paint("mito")] * 3)
    write_ome(root, "", "czyx", np.stack([raw, 255 - raw]), ["SE", "BSE"])
    write_ome(root, "labels/mito", "xyz", labels.T)
    with pytest.raises(BenchError, match=r"array 0 with the channels SE, BSE: .*'raw_key=0:SE'"):
        prepared(volume)
    with pytest.raises(BenchError, match=r"one channel, received array 0 with the channels"):
        prepared(volume, raw_key="0")
    dataset = prepared(volume, raw_key="0:BSE")
    np.testing.assert_array_equal(dataset.read_raw("val-v_z01"), 255 - raw[1])
    np.testing.assert_array_equal(dataset.read_labels("val-v_z01", "mitochondria"), labels[1])


def test_labels_of_two_channels_are_refused(volume, prepared):
    root = zarr.open_group(volume / "v.ome.zarr", mode="w", zarr_format=2)
    write_ome(root, "", "zyx", make_raw(0, 3))
    write_ome(root, "labels/mito", "czyx", np.zeros((2, 3, *SHAPE), "u1"))
    message = r"label array labels/mito/0 of .* must be one channel, received 2 \(0, 1\)"
    with pytest.raises(BenchError, match=message):
        prepared(volume)


def test_labels_are_turned_apart_from_their_image(volume, prepared):
    raw, labels = make_raw(0, 5), np.stack([paint("mito")] * 5)
    with h5py.File(volume / "v.h5", "w") as file:
        file["raw"], file["mito"] = raw, labels.T
        for axis, name in enumerate("xyz"):
            file["mito"].dims[axis].label = name
    dataset = prepared(volume)
    np.testing.assert_array_equal(dataset.read_labels("test-v_z02", "mitochondria"), labels[2])
    with h5py.File(volume / "v.h5", "a") as file:
        for axis, name in enumerate("yxz"):
            file["mito"].dims[axis].label = ""
            file["raw"].dims[axis].label = name
    with pytest.raises(BenchError, match=r"axes of label array mito of .* must have names"):
        prepared(volume)


def test_missing_chunks_of_a_volume_are_said(volume):
    root = zarr.open_group(volume / "v.zarr", mode="w", zarr_format=2)
    for key, pixels in {"raw": make_raw(0, 5), "mito": np.stack([paint("mito")] * 5)}.items():
        array = root.create_array(key, shape=pixels.shape, dtype="u1", chunks=(1, 20, 25))
        array[...] = pixels
    assert not any("chunks" in line for line in read_input(settings_of(volume)).warnings)
    (volume / "v.zarr/raw/1.0.0").unlink()
    first, second = (w for w in read_input(settings_of(volume)).warnings if "chunks" in w)
    assert first.startswith("v.zarr: 1 of 20 chunks of array raw have no file")
    assert second.startswith("v.zarr: 15 of 20 chunks of array mito have no file")
    shutil.rmtree(volume / "v.zarr/mito")
    write_rois(volume / "v.zip")
    (note,) = (w for w in read_input(settings_of(volume)).warnings if "chunks" in w)
    assert note.startswith("v.zarr: 1 of 20 chunks of array raw have no file")


def test_labels_of_unknown_order_beside_a_turned_image(volume, prepared):
    with h5py.File(volume / "v.h5", "w") as file:
        file["data"] = make_raw(0, 5).T
        for axis, name in enumerate("xyz"):
            file["data"].dims[axis].label = name
    with h5py.File(volume / "v_mito.h5", "w") as file:
        file["data"] = np.stack([paint("mito")] * 5).T
    with pytest.raises(BenchError, match=r"axes of v_mito.h5 must have names"):
        prepared(volume)
    (volume / "v_mito.h5").unlink()
    tifffile.imwrite(volume / "v_mito.tif", np.stack([paint("mito")] * 5))
    dataset = prepared(volume)
    np.testing.assert_array_equal(dataset.read_raw("test-v_z02"), make_raw(0, 5)[2])


def settings_of(path) -> PrepareConfig:
    return PrepareConfig(input=str(path), splits=SPLITS)
