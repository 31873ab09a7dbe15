"""Public data sets, each made small in the layout in which it was published."""

import dataclasses
import hashlib
import io
import zipfile

import h5py
import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile

from bench.dataset.public.fetching import public_folder
from bench.dataset.public.table import DATASETS
from bench.dataset.volumes import find_volumes, read_volume, read_volume_labels
from bench.errors import BenchError
from bench.ingest.adding.adding import add_to_dataset
from bench.ingest.layouts import public
from bench.ingest.writing import write_prepared

NOTHING = 2**64 - 1


def grey(planes, height=32, width=24, seed=0, low=0):
    return np.random.default_rng(seed).integers(low, low + 100, (planes, height, width), np.uint8)


def boxes(planes, height=32, width=24, value=1):
    """A box through all planes, and a smaller one that moves."""
    labels = np.zeros((planes, height, width), np.uint8)
    labels[:, 20:26, 3:9] = value
    for z in range(planes):
        labels[z, 12:16, 12 + z % 3 : 16 + z % 3] = value
    return labels


def png(pixels):
    return imagecodecs.png_encode(np.ascontiguousarray(pixels))


def tiff(pixels):
    content = io.BytesIO()
    tifffile.imwrite(content, pixels, photometric="minisblack")
    return content.getvalue()


def hdf5(**arrays):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for key, (pixels, attributes) in arrays.items():
            file.create_dataset(key.replace("__", "/"), data=pixels).attrs.update(attributes)
    return content.getvalue()


def nifti(zyx, sides=(1.0, 1.0, 1.0), flip=-1):
    """As UroCell's files: (x, y, z), in mm, of sizes that mean nothing."""
    affine = np.diag([-sides[0], flip * sides[1], sides[2], 1])
    image = nibabel.Nifti1Image(zyx.T, affine)
    image.header.set_xyzt_units("mm")
    image.header["sform_code"] = 0
    image.header["qform_code"] = 1
    return image.to_bytes()


def gz(content):
    return imagecodecs.gzip_encode(content)


def packed(files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, pixels in files.items():
            archive.writestr(name, pixels)
    return content.getvalue()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def place(cache, monkeypatch):
    """Puts files of a data set in place by hand; their hashes become those of the row."""

    def put(name, files, edition=0):
        row = DATASETS[name]
        folder = public_folder(row)
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        listed = row.editions[edition].files
        assert {file.name for file in listed} == set(files)
        hashed = tuple(
            dataclasses.replace(f, sha256=hashlib.sha256(files[f.name]).hexdigest()) for f in listed
        )
        editions = list(row.editions)
        editions[edition] = dataclasses.replace(editions[edition], files=hashed)
        row = dataclasses.replace(row, editions=tuple(editions))
        monkeypatch.setitem(public.DATASETS, name, row)

    return put


@pytest.fixture
def prepare(read_tree, tmp_path):
    def run(name, **settings):
        tree = read_tree(f"dataset:{name}", **settings)
        dataset = write_prepared(tree, tmp_path / "out", overwrite=True)
        dataset.verify()
        return dataset

    return run


def counts(dataset):
    return {
        split: len([e for e in dataset.manifest["sections"] if e["split"] == split])
        for split in ("train", "val", "test")
    }


def section_labels(dataset, structure):
    """Masks of all sections by name."""
    names = [e["name"] for e in dataset.manifest["sections"]]
    return {name: dataset.read_labels(name, structure) != 0 for name in names}


def cremi(sample):
    raw, mask = grey(20, seed=ord(sample)), boxes(20)
    clefts = np.where(mask, np.uint64(7), np.uint64(NOTHING))
    clefts[:, :2] = NOTHING - 1
    sides = {"resolution": (40.0, 4.0, 4.0)}
    content = hdf5(
        volumes__raw=(raw, sides),
        volumes__labels__clefts=(clefts, sides),
        volumes__labels__neuron_ids=(np.full(raw.shape, 9, np.uint64), sides),
    )
    return raw, mask, content


def test_cremi_has_clefts_of_a_and_b_to_train_on_and_c_to_test(place, prepare):
    made = {sample: cremi(sample) for sample in "ABC"}
    place("cremi", {f"sample_{s}_20160501.hdf": made[s][2] for s in "ABC"})
    dataset = prepare("cremi")
    assert dataset.structures == ("synaptic_cleft",)
    # Two sections of 40 nm between training and validation: 120 nm.
    assert counts(dataset) == {"train": 28, "val": 8, "test": 20}
    (volume,) = find_volumes(dataset, "test")
    assert volume.voxel_size_nm == (40, 4, 4)
    np.testing.assert_array_equal(read_volume(dataset, volume), made["C"][0])
    labels = read_volume_labels(dataset, volume, "synaptic_cleft")
    assert set(np.unique(labels)) == {0, 7}
    np.testing.assert_array_equal(labels != 0, made["C"][1] != 0)
    assert [v.name for v in find_volumes(dataset, "val")] == ["val-A", "val-B"]
    first = dataset.find("val-A_z016")
    np.testing.assert_array_equal(dataset.read_raw(first["name"]), made["A"][0][16])
    assert "labels of synaptic_cleft have 0xff..fe for invalid voxels, which counts" in str(
        dataset.manifest["warnings"]
    )
    assert not [w for w in dataset.manifest["warnings"] if "look alike" in w]
    published = dataset.manifest["published"]
    assert published["name"] == "cremi"
    assert "CREMI challenge" in published["citation"]
    assert dataset.manifest["splits_rule"] == "published"


def test_a_rule_splits_all_but_the_published_test_part(place, prepare):
    place("cremi", {f"sample_{s}_20160501.hdf": cremi(s)[2] for s in "ABC"})
    dataset = prepare("cremi", splits="regions:train=0;val=1")
    assert counts(dataset) == {"train": 20, "val": 20, "test": 20}
    assert [v.name for v in find_volumes(dataset, "val")] == ["val-B"]
    assert [v.name for v in find_volumes(dataset, "test")] == ["test-C"]
    dataset = prepare("cremi", pixel_size_nm=8.0, volumes="false", structures="all,*cleft=psd")
    assert (dataset.pixel_size_nm, dataset.structures) == (8, ("psd",))
    assert find_volumes(dataset, "test") == ()


def test_guay_has_classes_by_value_and_three_published_splits(place, prepare):
    files, truth = {}, {}
    for part, seed in (("train", 0), ("eval", 1), ("test", 2)):
        labels = np.zeros((9, 32, 24), np.uint16)
        labels[:, 2:30, 2:22] = 1
        for value in range(2, 7):
            labels[:, 4 * value : 4 * value + 3, 4:20] = value
        truth[part] = labels
        raw = grey(9, seed=seed).astype(np.int16) - 500
        files[f"platelet_data/{part}-images.tif"] = tiff(raw)
        files[f"platelet_data/{part}-labels.tif"] = tiff(labels)
    files["platelet_data/train-error-weights.tif"] = tiff(grey(9))
    place("guay", {"platelet_data_1219.zip": packed(files)})
    dataset = prepare("guay")
    assert counts(dataset) == {"train": 9, "val": 9, "test": 9}
    assert (dataset.pixel_size_nm, dataset.manifest["section_nm"]) == (10, 40)
    # As published, not with the names of 3 and 4 swapped.
    values = {
        "cell": 1,
        "mitochondria": 2,
        "alpha_granules": 3,
        "canalicular_channels": 4,
        "dense_granules": 5,
        "dense_granule_cores": 6,
    }
    assert set(dataset.structures) == set(values)
    (volume,) = find_volumes(dataset, "val")
    for structure, value in values.items():
        labels = read_volume_labels(dataset, volume, structure)
        np.testing.assert_array_equal(labels != 0, truth["eval"] == value)
    unpacked = public_folder(DATASETS["guay"]) / "platelet_data_1219/platelet_data"
    assert len(list(unpacked.iterdir())) == 6


def casser(folder, raw_name, label_name, label, padding=0):
    """Training images are dark and test images bright, so that swapped ones are seen."""
    files, truth = {}, {}
    for part, low, planes in (("Train", 0, 21), ("Test", 150, 9)):
        raw, mask = grey(planes, low=low), boxes(planes)
        truth[part] = mask != 0
        for z in range(planes):
            values = mask[z] * 255
            values[:padding] = 2
            files[f"{folder}/{part}_In/{raw_name.format(z)}"] = png(raw[z])
            files[f"{folder}/{part}_Out/{label_name.format(z)}"] = png(label(values))
    return files, truth


def check_casser(dataset, truth):
    for name, mask in section_labels(dataset, "mitochondria").items():
        part = "Test" if name.startswith("test") else "Train"
        np.testing.assert_array_equal(mask, truth[part][int(name[-3:])], name)
        assert (dataset.read_raw(name).min() >= 150) == (part == "Test")


def test_kasthuri_trains_on_its_training_folders_and_has_padding(place, prepare):
    label = lambda values: np.stack([values] * 3, -1)  # noqa: E731
    files, truth = casser("Kasthuri++", "in{:03}.png", "in{:03}.png", label, padding=3)
    place("kasthuri", {"kasthuri_pp.zip": packed(files)})
    dataset = prepare("kasthuri")
    # Three sections of 30 nm between training and validation: 120 nm.
    assert counts(dataset) == {"train": 14, "val": 4, "test": 9}
    assert (dataset.pixel_size_nm, dataset.manifest["section_nm"]) == (3, 30)
    assert find_volumes(dataset, "test") == ()
    check_casser(dataset, truth)
    assert "labels of mitochondria have 2 for padding" in str(dataset.manifest["warnings"])


def test_lucchi_pp_pairs_by_number_and_is_volumes(place, prepare):
    def label(values):
        return np.stack([values, values, values, np.full_like(values, 255)], -1)

    files, truth = casser("Lucchi++", "mask{:04}.png", "{}.png", label)
    place("lucchi_pp", {"lucchi_pp.zip": packed(files)})
    with pytest.raises(BenchError, match=r"must have sections for train, val with 19 left out"):
        prepare("lucchi_pp")
    dataset = prepare("lucchi_pp", splits="train=0-11;val=12-20")
    assert counts(dataset) == {"train": 12, "val": 9, "test": 9}
    (volume,) = find_volumes(dataset, "test")
    assert volume.voxel_size_nm == (5, 5, 5)
    check_casser(dataset, truth)


def test_a_label_without_its_image_is_no_published_layout(place, prepare):
    files, _ = casser("Lucchi++", "mask{:04}.png", "{}.png", lambda values: values)
    del files["Lucchi++/Train_In/mask0004.png"]
    place("lucchi_pp", {"lucchi_pp.zip": packed(files)})
    with pytest.raises(BenchError, match=r"of its number, received no raw image for .*/4.png"):
        prepare("lucchi_pp")


def perez(pattern, masks):
    sets = {"mitochondria": "mito", "lysosomes": "lyso", "nuclei": "nuclei", "nucleoli": "nucleoli"}
    files = {}
    for name, short in sets.items():
        for part, mask_part, planes in ((*pattern[0], 10), (*pattern[1], 3)):
            for z in range(planes):
                raw, mask = grey(1, seed=len(files))[0], boxes(planes)[z]
                place_of = {"name": name, "short": short, "z": z}
                files[part.format(**place_of)] = png(raw)
                files[mask_part.format(**place_of)] = png(mask * masks)
    return files


CHM = "supplemental_data/{}/{{name}}/{}.{{z:03}}.png"
PEREZ = {
    0: (
        "chm-supplemental_data.zip",
        (
            (CHM.format("training_images", "mito_orig"), CHM.format("training_labels", "mask")),
            (CHM.format("test_images", "test_orig"), CHM.format("ground_truth", "gt")),
        ),
    ),
    1: (
        "benchmark_dataset.zip",
        tuple(
            tuple(f"benchdata/perez/{{short}}/{part}/{kind}/{{z:03}}.png" for kind in kinds)
            for part, kinds in (("train", ("images", "masks")), ("test", ("images", "masks")))
        ),
    ),
}


@pytest.mark.parametrize("edition", PEREZ)
def test_perez_is_prepared_one_structure_at_a_time(place, prepare, edition):
    archive, pattern = PEREZ[edition]
    place("perez", {archive: packed(perez(pattern, 255 if edition else 1))}, edition)
    for structure in ("mito", "nucleoli"):
        dataset = prepare("perez", structures=structure)
        assert counts(dataset) == {"train": 8, "val": 2, "test": 3}
        assert len(dataset.structures) == 1
        assert dataset.pixel_size_nm is None
        (name,) = dataset.structures
        for section, mask in section_labels(dataset, name).items():
            np.testing.assert_array_equal(mask, boxes(10)[int(section[-3:])] != 0)
            assert set(dataset.find(section)["datasets"]) == {"raw", f"labels/{name}"}
    assert prepare("perez", structures="mito", pixel_size_nm=7.0).pixel_size_nm == 7


def test_perez_of_all_structures_is_told_before_anything_is_fetched(prepare, cache):
    with pytest.raises(BenchError, match=r"annotated for one structure, received mitochondria, ly"):
        prepare("perez")
    assert not public_folder(DATASETS["perez"]).exists()


def urocell():
    files, truth = {}, {}
    empty = {"1-1-0-3": 54, "0-0-0": 12}
    for seed, name in enumerate(("1-1-0-3", "3-2-1", "3-3-0", "4-3-0", "0-0-0")):
        raw, mito = grey(30, 80, 24, seed), np.zeros((30, 80, 24), np.int16)
        mito[:, 60:66, 4:10], mito[:, 70:75, 12:20] = 3, 5
        lyso = np.zeros(mito.shape, np.float32)
        lyso[:, 56:59, 15:22] = 1
        raw[:, : empty.get(name, 0)] = 0
        truth[name] = (raw, mito, lyso)
        path = f"fib1-{name}.nii.gz"
        files[f"UroCell-master/data/{path}"] = gz(nifti(raw.astype(np.float32)))
        files[f"UroCell-master/mito/instance/{path}"] = gz(nifti(mito))
        files[f"UroCell-master/lyso/binary/{path}"] = gz(nifti(lyso, (5.76e7, 5.76e7, 5.76e7)))
    files["UroCell-master/fv/binary/fib1-0-0-0.nii.gz"] = gz(nifti(mito, flip=1))
    return files, truth


def test_urocell_turns_x_y_z_and_leaves_rows_without_data_out(place, prepare):
    files, truth = urocell()
    place("urocell", {"UroCell-master.zip": packed(files)})
    dataset = prepare("urocell")
    assert set(dataset.structures) == {"mitochondria", "lysosomes"}
    # Six sections of 15 nm between training and validation: 105 nm.
    assert counts(dataset) == {"train": 76, "val": 20, "test": 30}
    trained = {v.name: v for v in find_volumes(dataset, "train")}
    assert trained["train-fib1-1-1-0-3"].shape == (19, 80 - 54, 24)
    (volume,) = find_volumes(dataset, "test")
    assert (volume.shape, volume.voxel_size_nm) == ((30, 80 - 12, 24), (15, 16, 16))
    raw, mito, lyso = (pixels[:, 12:] for pixels in truth["0-0-0"])
    np.testing.assert_array_equal(read_volume(dataset, volume), raw)
    np.testing.assert_array_equal(read_volume_labels(dataset, volume, "mitochondria"), mito)
    np.testing.assert_array_equal(read_volume_labels(dataset, volume, "lysosomes") != 0, lyso != 0)
    assert "run to L, P, S of a body" in str(dataset.manifest["warnings"])


def test_lucchi_is_four_tiff_stacks(place, prepare):
    files = {}
    for part, seed in (("training", 0), ("testing", 1)):
        files[f"{part}.tif"] = tiff(grey(45, seed=seed))
        files[f"{part}_groundtruth.tif"] = tiff(boxes(45, value=255))
    place("lucchi", files)
    dataset = prepare("lucchi")
    assert counts(dataset) == {"train": 21, "val": 5, "test": 45}
    assert dataset.instances("test", "mitochondria") == 2
    (volume,) = find_volumes(dataset, "test")
    assert volume.voxel_size_nm == (5, 5, 5)
    np.testing.assert_array_equal(read_volume(dataset, volume), grey(45, seed=1))


@pytest.mark.parametrize("edition", [0, 1])
def test_isbi2012_has_membrane_where_its_labels_are_0(place, prepare, edition):
    raw, labels = grey(30), 255 - boxes(30, value=255)
    if edition:
        place("isbi2012", {"train-volume.tif": tiff(raw), "train-labels.tif": tiff(labels)}, 1)
    else:
        content = hdf5(raw=(raw, {}), labels__membranes=(labels, {}), labels__x=(labels, {}))
        place("isbi2012", {"isbi.h5": content})
    dataset = prepare("isbi2012")
    assert counts(dataset) == {"train": 17, "val": 5, "test": 6}
    assert dataset.structures == ("membrane",)
    assert (dataset.pixel_size_nm, dataset.manifest["section_nm"]) == (4, 50)
    for name, mask in section_labels(dataset, "membrane").items():
        np.testing.assert_array_equal(mask, boxes(30)[int(name[-3:])] != 0)


def test_terms_stay_when_something_is_added(place, prepare, read_tree, tmp_path):
    raw, labels = tiff(grey(30)), tiff(255 - boxes(30, value=255))
    place("isbi2012", {"train-volume.tif": raw, "train-labels.tif": labels}, 1)
    dataset = prepare("isbi2012")
    for kind, pixels in (("raw", grey(1, seed=9)[0]), ("membrane", boxes(1)[0])):
        (tmp_path / "mine" / kind).mkdir(parents=True)
        (tmp_path / "mine" / kind / "s01.png").write_bytes(png(pixels))
    tree = read_tree(tmp_path / "mine", add_to=str(dataset.root), pixel_size_nm=4.0)
    tree = add_to_dataset(tree, dataset)
    added = write_prepared(tree, tmp_path / "more")
    assert added.manifest["published"] == dataset.manifest["published"]
    assert counts(added)["train"] == counts(dataset)["train"] + 1


def test_vnc_has_smoothed_masks_and_a_stack_without_labels(place, prepare):
    root, files = "groundtruth-drosophila-vnc-master", {}
    masks = boxes(20, value=255)
    smooth = masks.copy()
    smooth[:, 19, 3:9], smooth[:, 26, 3:9] = 120, 130
    for z in range(20):
        files[f"{root}/stack1/raw/{z:02}.tif"] = tiff(grey(20)[z])
        files[f"{root}/stack2/raw/{z:02}.tif"] = tiff(grey(20, seed=5)[z])
        files[f"{root}/stack1/membranes/{z:02}.png"] = png(masks[z])
        files[f"{root}/stack1/labels/labels{z:08}.png"] = png(masks[z])
        for kind in ("mitochondria", "synapses"):
            files[f"{root}/stack1/{kind}/{z:02}.png"] = png(smooth[z])
    place("vnc", {f"{root}.zip": packed(files)})
    dataset = prepare("vnc")
    assert set(dataset.structures) == {"mitochondria", "membrane", "synapses"}
    assert counts(dataset) == {"train": 11, "val": 3, "test": 4}
    assert (dataset.pixel_size_nm, dataset.manifest["section_nm"]) == (4.6, 50)
    for name, mask in section_labels(dataset, "mitochondria").items():
        np.testing.assert_array_equal(mask, smooth[int(name[-3:])] > 127)
    assert len(dataset.unlabelled()) == 20
    np.testing.assert_array_equal(dataset.read_raw(dataset.unlabelled()[3]), grey(20, seed=5)[3])


def test_mitoem_takes_the_images_that_have_labels(place, prepare):
    raw = grey(14)
    ids = boxes(14).astype(np.uint16) * 300
    ids[:, 12:16] //= 2
    place(
        "mitoem_rat",
        {
            "EM30-R-im.zip": packed({f"im/im{z:04}.png": png(raw[z]) for z in range(14)}),
            "EM30-R-mito-train-val-v2.zip": packed(
                {
                    f"mito-{'train' if z < 8 else 'val'}-v2/seg{z:04}.tif": tiff(ids[z])
                    for z in range(10)
                }
            ),
        },
    )
    dataset = prepare("mitoem_rat")
    assert counts(dataset) == {"train": 8, "val": 2, "test": 0}
    (volume,) = find_volumes(dataset, "val")
    assert volume.voxel_size_nm == (30, 8, 8)
    np.testing.assert_array_equal(read_volume(dataset, volume), raw[8:10])
    np.testing.assert_array_equal(read_volume_labels(dataset, volume, "mitochondria"), ids[8:10])
    dataset = prepare("mitoem_rat", splits="train=0-4;val=6-7;test=8-9")
    assert counts(dataset) == {"train": 5, "val": 2, "test": 2}


BAD = {
    "unknown": ({"input": "dataset:cremy"}, r"unknown public data set 'cremy': .*mean cremi"),
    "rows": ({"input": "dataset:cremi", "rows": "stored"}, "own layout, received rows: leave"),
    "key": ({"input": "dataset:cremi", "raw_key": "raw"}, "own layout, received raw_key: leave"),
    "no such structure": (
        {"input": "dataset:guay", "structures": "ribbon"},
        "dataset:guay must have a class for ribbon, received the classes 'alpha_granules'",
    ),
    "two as one": (
        {"input": "dataset:guay", "structures": "dense_granules=a,dense_granule_cores=a"},
        "calls two the same",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_told_before_anything_is_fetched(read_tree, cache, case):
    settings, message = BAD[case]
    with pytest.raises(BenchError, match=message) as caught:
        read_tree(settings.pop("input"), **settings)
    assert "\n" not in str(caught.value)
    assert not public_folder(DATASETS["cremi"]).parent.exists()
