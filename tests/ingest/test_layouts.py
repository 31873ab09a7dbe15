"""Layouts of other programs: nnU-Net, empanada, and splits below images and masks."""

import json
import shutil

import imagecodecs
import nibabel
import numpy as np
import pytest
import tifffile

from bench.errors import BenchError

RAW = [np.random.default_rng(n).integers(0, 255, (48, 64), dtype=np.uint8) for n in range(6)]
RULE = "train=0,1;val=2;test=3"


def write_png(path, pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(pixels))


def paint(*values: int) -> np.ndarray:
    labels = np.zeros((48, 64), np.uint8)
    for place, value in enumerate(values):
        labels[8:20, 5 + 12 * place : 13 + 12 * place] = value
    return labels


@pytest.fixture
def nnunet(tmp_path):
    """A data set of four cases, with vesicles as 1 and 3, and mitochondria as 2."""
    root = tmp_path / "Dataset001_EM"
    for case in range(4):
        write_png(root / f"imagesTr/em_{case:03}_0000.png", RAW[case])
        write_png(root / f"labelsTr/em_{case:03}.png", paint(1, 2, 3))
    return root


def describe(root, **fields) -> None:
    content = {"channel_names": {"0": "EM"}, "numTraining": 4, "file_ending": ".png"} | fields
    (root / "dataset.json").write_text(json.dumps(content))


NAMES = {"background": 0, "vesicle": [1, 3], "mito": 2}


def test_nnunet_is_read_by_its_description(nnunet, read_tree):
    describe(nnunet, labels=NAMES)
    tree = read_tree(nnunet, splits=RULE)
    assert tree.structures == ("vesicles", "mitochondria")
    assert [s.name for s in tree.sections] == [
        "train-em_000",
        "train-em_001",
        "val-em_002",
        "test-em_003",
    ]
    section = tree.sections[2]
    np.testing.assert_array_equal(section.raw.read(), RAW[2])
    np.testing.assert_array_equal(section.labels["vesicles"].read(), paint(1, 0, 1))
    np.testing.assert_array_equal(section.labels["mitochondria"].read(), paint(0, 1))
    with pytest.raises(BenchError, match="splits=auto for 4 sections"):
        read_tree(nnunet)
    assert read_tree(nnunet, splits=RULE, structures="mito").structures == ("mitochondria",)


def test_the_folder_of_all_data_sets_says_which_to_give(nnunet, read_tree):
    with pytest.raises(BenchError, match=r"one that holds Dataset001_EM: give -P 'input=.*_EM'"):
        read_tree(nnunet.parent)


def test_version_1_names_values_the_other_way_round(nnunet, read_tree):
    labels = {"0": "background", "1": "vesicle", "2": "Golgi body", "3": "vesicle"}
    describe(nnunet, labels=labels, modality={"0": "EM"})
    tree = read_tree(nnunet, splits=RULE)
    assert set(tree.structures) == {"vesicles", "golgi_body"}
    np.testing.assert_array_equal(tree.sections[0].labels["golgi_body"].read(), paint(0, 1))


def test_values_without_a_description_are_mapped_by_the_user(nnunet, read_tree):
    with pytest.raises(BenchError, match="must say which structure it labels"):
        read_tree(nnunet, splits=RULE)
    tree = read_tree(nnunet, splits=RULE, structures="2=mitochondria")
    np.testing.assert_array_equal(tree.sections[0].labels["mitochondria"].read(), paint(0, 1))


def test_labelled_test_cases_are_test_whatever_the_rule(nnunet, read_tree):
    describe(nnunet, labels=NAMES)
    write_png(nnunet / "imagesTs/em_900_0000.png", RAW[4])
    (tree := read_tree(nnunet, splits=RULE))
    assert "images of imagesTs are left out: they have no labels" in tree.warnings
    write_png(nnunet / "labelsTs/em_900.png", paint(1, 2, 3))
    tree = read_tree(nnunet, splits="train=0-2;val=3")
    assert [s.name for s in tree.sections][-2:] == ["val-em_003", "test-em_900"]


def test_stacks_with_notes_of_their_spacing(nnunet, read_tree):
    describe(nnunet, labels=NAMES, file_ending=".tif")
    for folder in ("imagesTr", "labelsTr"):
        shutil.rmtree(nnunet / folder)
        (nnunet / folder).mkdir()
    for case in ("a", "b"):
        tifffile.imwrite(nnunet / f"imagesTr/{case}_0000.tif", np.stack(RAW[:5]))
        tifffile.imwrite(nnunet / f"labelsTr/{case}.tif", np.stack([paint(1, 2)] * 5))
        (nnunet / f"imagesTr/{case}.json").write_text('{"spacing": [40, 4, 4]}')
    tree = read_tree(nnunet, splits="regions:train=0;val=1")
    assert len(tree.sections) == 10
    np.testing.assert_array_equal(tree.sections[3].raw.read(), RAW[3])


def test_nifti_volumes_have_z_last_and_their_voxel_size(nnunet, read_tree):
    describe(nnunet, labels=NAMES, file_ending=".nii.gz")
    for folder in ("imagesTr", "labelsTr"):
        shutil.rmtree(nnunet / folder)
        (nnunet / folder).mkdir()
    sides = np.diag([5e-6, 5e-6, 40e-6, 1])
    for case, suffix in (("a", "_0000"), ("b", "_0000")):
        for folder, planes, end in (("imagesTr", RAW, suffix), ("labelsTr", [paint(2)] * 6, "")):
            image = nibabel.Nifti1Image(np.stack(planes).T, sides)
            image.header.set_xyzt_units("mm")
            nibabel.save(image, nnunet / f"{folder}/{case}{end}.nii.gz")
    tree = read_tree(nnunet, splits="regions:train=0;val=1", volumes="true")
    assert (tree.pixel_size_nm, tree.section_nm, tree.volumes) == (5, 40, True)
    assert [s.name for s in tree.sections][::6] == ["train-a_z00", "val-b_z00"]
    np.testing.assert_array_equal(tree.sections[3].raw.read(), RAW[3])
    np.testing.assert_array_equal(tree.sections[9].labels["mitochondria"].read() != 0, paint(2) > 0)


def test_one_of_several_channels_is_named(nnunet, read_tree):
    describe(nnunet, labels=NAMES, channel_names={"0": "SE", "1": "BSE"})
    for case in range(4):
        write_png(nnunet / f"imagesTr/em_{case:03}_0001.png", 255 - RAW[case])
    with pytest.raises(BenchError, match=r"channels 0 \(SE\), 1 \(BSE\): .* -P raw_key=0"):
        read_tree(nnunet, splits=RULE)
    for key in ("1", "BSE", "0001"):
        section = read_tree(nnunet, splits=RULE, raw_key=key).sections[0]
        np.testing.assert_array_equal(section.raw.read(), 255 - RAW[0])


BAD_NNUNET = {
    "label missing": (
        lambda root: (root / "labelsTr/em_001.png").unlink(),
        r"must have a mask of its name in .*labelsTr, received no mask for em_001",
    ),
    "NRRD": (
        lambda root: (root / "imagesTr/em_000_0000.png").rename(root / "imagesTr/a_0000.nrrd"),
        r"received a_0000.nrrd \(NRRD or MetaImage\): open it in Fiji",
    ),
    "no channel": (
        lambda root: (root / "imagesTr/em_000_0000.png").rename(root / "imagesTr/em.png"),
        r"must be named CASE_0000 for the label CASE, received em.png",
    ),
    "name of no structure": (
        lambda root: describe(root, labels={"background": 0, "foreground": 1}),
        r"labels of .*dataset.json must be named after structures: .*structures=1=mito",
    ),
    "no labels": (lambda root: describe(root), "must list labels as nnU-Net does"),
    "value of no number": (
        lambda root: describe(root, labels={"mito": "x"}),
        "must be whole numbers, received 'x' for mito",
    ),
    "background only": (
        lambda root: describe(root, labels={"background": 0}),
        "must have one for the structures wanted, received background",
    ),
}


@pytest.mark.parametrize("case", BAD_NNUNET)
def test_nnunet_that_does_not_fit_is_an_error_of_one_line(nnunet, read_tree, case):
    describe(nnunet, labels=NAMES)
    damage, message = BAD_NNUNET[case]
    damage(nnunet)
    with pytest.raises(BenchError, match=message) as caught:
        read_tree(nnunet, splits=RULE)
    assert "\n" not in str(caught.value)


def test_an_ignore_label_that_no_pixel_has_does_not_disturb(nnunet, read_tree):
    describe(nnunet, labels=NAMES | {"ignore": 4})
    assert len(read_tree(nnunet, splits=RULE).sections) == 4


def test_the_ignore_label_of_nnunet_is_left_open(nnunet, read_tree):
    describe(nnunet, labels=NAMES | {"ignore": 3, "vesicle": 1})
    tree = read_tree(nnunet, splits=RULE)
    levels = [section.ignored["vesicles"].read() for section in tree.sections]
    assert np.count_nonzero(levels[0]) == 96
    assert tree.structures == ("vesicles", "mitochondria")[: len(tree.structures)]


def test_images_and_masks_of_empanada(tmp_path, read_tree):
    for number in range(4):
        write_png(tmp_path / f"mitolab/ds1/images/ds1-LOC-0_{number}.png", RAW[number])
        write_png(tmp_path / f"mitolab/ds1/masks/ds1-LOC-0_{number}.png", paint(1, 7))
    with pytest.raises(BenchError, match=r"one data set, .* holds ds1: give -P 'input=.*/ds1'"):
        read_tree(tmp_path / "mitolab", splits=RULE)
    with pytest.raises(BenchError, match=r"must say which .* give -P structures=mitochondria"):
        read_tree(tmp_path / "mitolab/ds1", splits=RULE)
    tree = read_tree(tmp_path / "mitolab/ds1", splits=RULE, structures="mitochondria")
    np.testing.assert_array_equal(tree.sections[1].labels["mitochondria"].read(), paint(1, 7))
    np.testing.assert_array_equal(tree.sections[1].raw.read(), RAW[1])


def test_splits_below_images_and_masks(make_tree, read_tree, tmp_path):
    root = make_tree(structures=("vesicles",))
    turned = tmp_path / "turned"
    for split in ("train", "val", "test"):
        shutil.copytree(root / split / "raw", turned / "images" / split)
        shutil.copytree(root / split / "vesicles", turned / "vesicles" / split)
    assert [s.name for s in read_tree(turned).sections] == [
        s.name for s in read_tree(root).sections
    ]


def test_images_beside_folders_of_such_names_are_read_as_before(make_tree, read_tree, tmp_path):
    for number in range(3):
        write_png(tmp_path / f"in/s{number}.png", RAW[number])
        write_png(tmp_path / f"in/s{number}_mito.png", paint(1))
    (tmp_path / "in/images").mkdir()
    (tmp_path / "in/masks").mkdir()
    assert len(read_tree(tmp_path / "in", splits="train=0;val=1;test=2").sections) == 3
