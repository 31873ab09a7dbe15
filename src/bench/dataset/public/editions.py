"""The files of the public data sets, and which of them are what.

Hashes are those that torch_em's loaders state (0.10.9, data/datasets/electron_microscopy), whose
authors fetched the files; a file without one is hashed when it first comes. Layouts are those that
these loaders and the benchmark scripts of cem-dataset (3f308d2, evaluation/setup_benchmarks) go by;
those of UroCell (4bab22a) and of the ventral nerve cord were looked at in their repositories.
"""

from collections.abc import Mapping

from bench.dataset.public.rows import (
    TEST,
    TRAIN,
    TRAIN_AND_VAL,
    VAL,
    Edition,
    PublicFile,
    PublicLabels,
    PublicSeries,
)

_LARGEST_ID = 2**64 - 1

_RETINA_ARCHIVE = PublicFile(
    "benchmark_dataset.zip",
    "e65555a039af5cacd64d72209f34a31c2af7afcdb887b5420e3ef38401ba3f45",
    page="https://drive.google.com/uc?id=1T0fShblGYgKxTRwPlbMSvMbHQqmEk8YJ",
)


def _cremi(sample: str, sha256: str, shares: Mapping[str, float]) -> Edition:
    name = f"sample_{sample}_20160501.hdf"
    clefts = PublicLabels(
        name,
        key="volumes/labels/clefts",
        ids=True,
        nothing=(_LARGEST_ID, _LARGEST_ID - 1),
        doubtful={"0xff..fe": "invalid voxels"},
    )
    return Edition(
        (PublicFile(name, sha256, (f"https://cremi.org/static/data/{name}",)),),
        (PublicSeries(sample, name, {"synaptic_cleft": clefts}, shares, key="volumes/raw"),),
    )


def _join(*parts: Edition) -> Edition:
    """One edition of the files and series of several."""
    return Edition(
        tuple(file for part in parts for file in part.files),
        tuple(series for part in parts for series in part.series),
    )


CREMI = (
    _join(
        _cremi(
            "A",
            "4c563d1b78acb2bcfb3ea958b6fe1533422f7f4a19f3e05b600bfa11430b510d",
            TRAIN_AND_VAL,
        ),
        _cremi(
            "B",
            "887e85521e00deead18c94a21ad71f278d88a5214c7edeed943130a1f4bb48b8",
            TRAIN_AND_VAL,
        ),
        _cremi(
            "C",
            "2874496f224d222ebc29d0e4753e8c458093e1d37bc53acd1b69b19ed1ae7052",
            TEST,
        ),
    ),
)


_GUAY_CLASSES = {
    "cell": 1,
    "mitochondria": 2,
    "alpha_granules": 3,
    "canalicular_channels": 4,
    "dense_granules": 5,
    "dense_granule_cores": 6,
}


def _guay(part: str, shares: Mapping[str, float]) -> PublicSeries:
    folder = "platelet_data_1219/platelet_data"
    labels = {
        name: PublicLabels(f"{folder}/{part}-labels.tif", values=(value,))
        for name, value in _GUAY_CLASSES.items()
    }
    return PublicSeries(part, f"{folder}/{part}-images.tif", labels, shares)


GUAY = (
    Edition(
        (
            PublicFile(
                "platelet_data_1219.zip",
                None,
                ("https://www.dropbox.com/s/68yclbraqq1diza/platelet_data_1219.zip?dl=1",),
            ),
        ),
        (_guay("train", TRAIN), _guay("eval", VAL), _guay("test", TEST)),
    ),
)


def _casser(archive: str, folder: str, sha256: str, *, padding: bool) -> Edition:
    """The two sets of Casser et al., whose folders say what they are."""

    def series(part: str, name: str, shares: Mapping[str, float]) -> PublicSeries:
        labels = PublicLabels(
            f"{archive}/{folder}/{part}_Out/*.png",
            values=(255,),
            doubtful={"2": "padding"} if padding else {},
        )
        raw = f"{archive}/{folder}/{part}_In/*.png"
        return PublicSeries(name, raw, {"mitochondria": labels}, shares)

    file = PublicFile(f"{archive}.zip", sha256, (f"http://www.casser.io/files/{archive}.zip",))
    parts = (series("Train", "training", TRAIN_AND_VAL), series("Test", "testing", TEST))
    return Edition((file,), parts)


KASTHURI = (
    _casser(
        "kasthuri_pp",
        "Kasthuri++",
        "bbb78fd205ec9b57feb8f93ebbdf1666261cbc3e0305e7f11583ab5157a3d792",
        padding=True,
    ),
)


LUCCHI_PP = (
    _casser(
        "lucchi_pp",
        "Lucchi++",
        "770ce9e98fc6f29c1b1a250c637e6c5125f2b5f1260e5a7687b55a79e2e8844d",
        padding=False,
    ),
)


_PEREZ_SETS = ("mitochondria", "lysosomes", "nuclei", "nucleoli")
_PEREZ_SHORT = {"mitochondria": "mito", "lysosomes": "lyso"}


def _perez(raw: str, masks: str, test_raw: str, test_masks: str) -> tuple[PublicSeries, ...]:
    """Training and test images of each set, by the folders of a set that is called ``{}``."""
    return tuple(
        PublicSeries(
            f"{name}_{part}",
            images.format(name, _PEREZ_SHORT.get(name, name)),
            {name: PublicLabels(labels.format(name, _PEREZ_SHORT.get(name, name)))},
            shares,
            ordered=False,
        )
        for name in _PEREZ_SETS
        for part, images, labels, shares in (
            ("training", raw, masks, TRAIN_AND_VAL),
            ("testing", test_raw, test_masks, TEST),
        )
    )


PEREZ = (
    Edition(
        (
            PublicFile(
                "chm-supplemental_data.zip",
                None,
                ("https://www.sci.utah.edu/releases/chm_v2.1.367/chm-supplemental_data.zip",),
            ),
        ),
        _perez(
            "chm-supplemental_data/supplemental_data/training_images/{0}/*.png",
            "chm-supplemental_data/supplemental_data/training_labels/{0}/*.png",
            "chm-supplemental_data/supplemental_data/test_images/{0}/*.png",
            "chm-supplemental_data/supplemental_data/ground_truth/{0}/*.png",
        ),
    ),
    Edition(
        (_RETINA_ARCHIVE,),
        _perez(
            "benchmark_dataset/benchdata/perez/{1}/train/images/*.png",
            "benchmark_dataset/benchdata/perez/{1}/train/masks/*.png",
            "benchmark_dataset/benchdata/perez/{1}/test/images/*.png",
            "benchmark_dataset/benchdata/perez/{1}/test/masks/*.png",
        ),
    ),
)


def _urocell(name: str, shares: Mapping[str, float], first_row: int = 0) -> PublicSeries:
    folder, file = "UroCell-master/UroCell-master", f"fib1-{name}.nii.gz"
    labels = {
        "mitochondria": PublicLabels(f"{folder}/mito/instance/{file}", ids=True),
        "lysosomes": PublicLabels(f"{folder}/lyso/binary/{file}"),
    }
    return PublicSeries(
        f"fib1-{name}", f"{folder}/data/{file}", labels, shares, first_row=first_row
    )


UROCELL = (
    Edition(
        (
            PublicFile(
                "UroCell-master.zip",
                "a48cf31b06114d7def642742b4fcbe76103483c069122abe10f377d71a1acabc",
                ("https://github.com/MancaZerovnikMekuc/UroCell/archive/refs/heads/master.zip",),
                firm=False,
            ),
        ),
        (
            _urocell("1-1-0-3", TRAIN_AND_VAL, first_row=54),
            _urocell("3-2-1", TRAIN_AND_VAL),
            _urocell("3-3-0", TRAIN_AND_VAL),
            _urocell("4-3-0", TRAIN_AND_VAL),
            _urocell("0-0-0", TEST, first_row=12),
        ),
    ),
)


def _lucchi(part: str, shares: Mapping[str, float]) -> Edition:
    address = "https://documents.epfl.ch/groups/c/cv/cvlab-unit/www/data/%20ElectronMicroscopy_Hippocampus"
    names = (f"{part}.tif", f"{part}_groundtruth.tif")
    files = tuple(PublicFile(name, None, (f"{address}/{name}",)) for name in names)
    labels = {"mitochondria": PublicLabels(names[1])}
    return Edition(files, (PublicSeries(part, names[0], labels, shares),))


LUCCHI = (_join(_lucchi("training", TRAIN_AND_VAL), _lucchi("testing", TEST)),)


# Where the labels of the test sections were never published, others must do for all splits.
_THREE_BLOCKS = {"train": 0.6, "val": 0.2, "test": 0.2}


def _isbi(raw: str, labels: str, raw_key: str = "", labels_key: str = "") -> PublicSeries:
    membrane = PublicLabels(labels, key=labels_key, values=(0,))
    return PublicSeries("train-volume", raw, {"membrane": membrane}, _THREE_BLOCKS, key=raw_key)


ISBI2012 = (
    Edition(
        (
            PublicFile(
                "isbi.h5",
                "0e10fe909a1243084d91773470856993b7d40126a12e85f0f1345a7a9e512f29",
                ("https://oc.embl.de/index.php/s/h0TkwqxU0PJDdMd/download",),
            ),
        ),
        (_isbi("isbi.h5", "isbi.h5", "raw", "labels/membranes"),),
    ),
    Edition(
        (PublicFile("train-volume.tif"), PublicFile("train-labels.tif")),
        (_isbi("train-volume.tif", "train-labels.tif"),),
    ),
)


_VNC = "groundtruth-drosophila-vnc-master/groundtruth-drosophila-vnc-master"


VNC = (
    Edition(
        (
            PublicFile(
                "groundtruth-drosophila-vnc-master.zip",
                "f7bd0db03c86b64440a16b60360ad60c0a4411f89e2c021c7ee2c8d6af3d7e86",
                (
                    "https://github.com/unidesigner/groundtruth-drosophila-vnc/archive/"
                    "refs/heads/master.zip",
                ),
                firm=False,
            ),
        ),
        (
            PublicSeries(
                "stack1",
                f"{_VNC}/stack1/raw/*.tif",
                {
                    "mitochondria": PublicLabels(f"{_VNC}/stack1/mitochondria/*.png", above=127),
                    "membrane": PublicLabels(f"{_VNC}/stack1/membranes/*.png"),
                    "synapses": PublicLabels(f"{_VNC}/stack1/synapses/*.png", above=127),
                },
                _THREE_BLOCKS,
            ),
        ),
        unlabelled=f"{_VNC}/stack2/raw/*.tif",
    ),
)


def _mitoem(tissue: str, images: PublicFile, labels: PublicFile) -> Edition:
    def series(part: str, shares: Mapping[str, float]) -> PublicSeries:
        ids = PublicLabels(f"{labels.folder}/mito-{part}-v2/seg*.tif", ids=True)
        raw = f"{images.folder}/im/im*.png"
        return PublicSeries(tissue, raw, {"mitochondria": ids}, shares, partly=True)

    return Edition((images, labels), (series("train", TRAIN), series("val", VAL)))


MITOEM_HUMAN = _mitoem(
    "human",
    PublicFile(
        "EM30-H-im.zip",
        "98fe259f36a7d8d43f99981b7a0ef8cdeba2ce2615ff91595f428ae57207a041",
        ("https://www.dropbox.com/s/z41qtu4y735j95e/EM30-H-im.zip?dl=1",),
    ),
    PublicFile(
        "EM30-H-mito-train-val-v2.zip",
        "0e8ed292cfcd0c58701d9f4299244a1b66d6aeb506c85754c34f98a4eda0ef1b",
        ("https://www.dropbox.com/s/dhf89bc14kemw4e/EM30-H-mito-train-val-v2.zip?dl=1",),
    ),
)
MITOEM_RAT = _mitoem(
    "rat",
    PublicFile(
        "EM30-R-im.zip",
        "6a2cac68adde5d01984542d3ee1d7753d1fa3e6eb2a042ce15ce297c95885bbe",
        ("https://huggingface.co/datasets/pytc/EM30/resolve/main/EM30-R-im.zip",),
    ),
    PublicFile(
        "EM30-R-mito-train-val-v2.zip",
        "c56380ac575428a818bd293ca3509d1249999846c3702ccbf11d308acdd2ae86",
        ("https://huggingface.co/datasets/pytc/MitoEM/resolve/main/EM30-R-mito-train-val-v2.zip",),
    ),
)
MITOEM = _join(MITOEM_HUMAN, MITOEM_RAT)
