"""The sections that both measurements of training run on, and as the files of a loader."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.measure import label

from bench.dataset.prepared import PreparedDataset

SHAPE = (1410, 1825)
Section = tuple[np.ndarray, np.ndarray]


def parse_options(description: str, *, repeats: int) -> argparse.Namespace:
    """The arguments of a measurement of training."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--dataset", help="a prepared dataset instead of synthetic sections")
    parser.add_argument("--structure", help="of the dataset; its first if left out")
    parser.add_argument("--repeats", type=int, default=repeats)
    return parser.parse_args()


def read_sections(options: argparse.Namespace) -> list[Section]:
    """The training sections of the dataset that is named, or synthetic ones."""
    if options.dataset is None:
        return [make_section(seed) for seed in range(4)]
    dataset = PreparedDataset.open(options.dataset)
    structure = options.structure or dataset.structures[0]
    names = dataset.sections("train")
    return [(dataset.read_raw(name), dataset.read_labels(name, structure)) for name in names]


def make_section(seed: int, shape: tuple[int, int] = SHAPE) -> Section:
    """Filtered noise with darker blobs of some 40 px, a tenth of it: raw uint8 and ids uint16."""
    random = np.random.default_rng(seed)
    field = gaussian_filter(random.standard_normal(shape, dtype=np.float32), 12)
    labels = label(field > np.quantile(field, 0.9), connectivity=1).astype(np.uint16)
    grain = gaussian_filter(random.standard_normal(shape, dtype=np.float32), 1.5)
    raw = 140 + 25 * grain / grain.std() - 50 * (labels > 0)
    return raw.clip(0, 255).astype(np.uint8), labels


def write_sections(folder: Path, sections: Sequence[Section]) -> list[str]:
    """Writes sections as HDF5, uncompressed: the quickest that torch_em reads crops from."""
    paths = []
    for index, (raw, labels) in enumerate(sections):
        paths.append(str(folder / f"{index}.h5"))
        with h5py.File(paths[-1], "w") as file:
            file["raw"], file["labels"] = raw, labels
    return paths


def describe_sections(sections: Sequence[Section]) -> str:
    """Number and shape, as the size of a line names them."""
    height, width = sections[0][0].shape
    return f"{len(sections)} sections of {width} x {height} px"
