"""Layers of napari, whose planes are read when they are looked at."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import dask.array
import h5py
import numpy as np
from dask.delayed import delayed

from bench.config.data import PrepareConfig
from bench.dataset.checks import read_instances
from bench.dataset.prepared import SPLITS, PreparedDataset
from bench.inference.prediction_file import list_stored, read_mean
from bench.ingest.classes import parse_classes
from bench.ingest.layouts.segmented import find_segmented
from bench.ingest.sources import SourceImage

_IMAGE, _LABELS = "image", "labels"
_RAW = "raw"
# Percentiles of a plane between which an image is shown.
_CONTRAST = (0.5, 99.5)


@dataclass(frozen=True)
class ViewLayer:
    """A layer.

    Attributes:
        data: Planes (z, y, x).
        kind: image or labels.
        name: Its name.
        scale_nm: Edges of a voxel along z, y, x; None where the pixel size is not known.
        settings: Other settings of napari.
    """

    data: Any
    kind: str
    name: str
    scale_nm: tuple[float, float, float] | None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def as_tuple(self) -> tuple[Any, dict[str, Any], str]:
        """As napari takes it from a reader."""
        scaled: dict[str, Any] = {}
        if self.scale_nm:
            scaled = {"scale": self.scale_nm, "units": ("nm",) * 3}
        return self.data, {"name": self.name, **scaled, **self.settings}, self.kind


@dataclass(frozen=True)
class _Plane:
    """A section: its shape, its pixel size, and what reads its maps by their names."""

    name: str
    shape: tuple[int, int]
    pixel_size_nm: float | None
    reads: Mapping[str, Callable[[], np.ndarray]]


def dataset_layers(folder: Path) -> list[ViewLayer]:
    """The images of a prepared dataset with their annotation, each split by itself.

    Sections of one size are the planes of a layer; the first split is visible. What has no
    annotation of a structure that others have shows none.
    """
    dataset = PreparedDataset.open(folder)
    present = {entry["split"] for entry in dataset.manifest["sections"]}
    layers: list[ViewLayer] = []
    for split in SPLITS:
        if split in present:
            planes = [_plane_of(dataset, name) for name in dataset.sections(split)]
            step_nm = dataset.manifest.get("section_nm")
            shown = {"visible": not layers}
            layers += [
                replace(layer, settings={**layer.settings, **shown})
                for layer in _stack_planes(planes, dataset.structures, step_nm, f"{split} ")
            ]
    return layers


def _plane_of(dataset: PreparedDataset, name: str) -> _Plane:
    height, width = dataset.shape(name)
    keys = dataset.find(name)["datasets"]
    reads = {_RAW: partial(dataset.read_raw, name)} | {
        structure: partial(dataset.read_labels, name, structure)
        for structure in dataset.structures
        if f"labels/{structure}" in keys
    }
    return _Plane(name, (height, width), dataset.pixel_size_nm, reads)


def segmentation_layers(folder: Path) -> list[ViewLayer]:
    """The images of an output of segment, and the objects that were found in them."""
    config = PrepareConfig(input=str(folder))
    found, structures = find_segmented(config, parse_classes(config.structures))
    planes = []
    for section in found.sections:
        header = section.raw.header
        reads: dict[str, Callable[[], np.ndarray]] = {_RAW: partial(_read_image, section.raw)}
        reads |= {name: partial(_read_ids, label) for name, label in section.labels.items()}
        size_nm = header.pixel_sides_nm[0] if header.pixel_sides_nm else None
        planes.append(_Plane(section.stem, header.shape, size_nm, reads))
    return _stack_planes(planes, structures, found.section_nm)


def _read_image(image: SourceImage) -> np.ndarray:
    return image.read()


def _read_ids(label: SourceImage) -> np.ndarray:
    return read_instances(label.read(), label.place, ids=True)[0]


def prediction_layers(path: Path) -> list[ViewLayer]:
    """The probabilities of a prediction file, averaged over the symmetries that it has."""
    shapes, symmetries = list_stored(path)
    with h5py.File(path, "r") as file:
        structure = str(file.attrs.get("structure", "foreground"))
        # Not a number where it is not known.
        size_nm = float(file.attrs.get("pixel_size_nm", math.nan))
    planes = [
        _Plane(
            name,
            (shape[-2], shape[-1]),
            size_nm if math.isfinite(size_nm) else None,
            {structure: partial(_read_probability, path, name, symmetries)},
        )
        for name, shape in shapes.items()
    ]
    shown = {"contrast_limits": (0, 255), "colormap": "magma", "blending": "additive"}
    return [
        ViewLayer(layer.data, _IMAGE, f"probability {layer.name}", layer.scale_nm, shown)
        for layer in _stack_planes(planes, (structure,), None)
    ]


def _read_probability(path: Path, name: str, symmetries: Sequence[str]) -> np.ndarray:
    return read_mean(path, name, symmetries).foreground


def _stack_planes(
    planes: Iterable[_Plane], structures: Sequence[str], step_nm: float | None, prefix: str = ""
) -> list[ViewLayer]:
    """Layers of planes: those of one size and pixel size together, each map a layer."""
    groups: dict[tuple[tuple[int, int], float | None], list[_Plane]] = {}
    for plane in planes:
        groups.setdefault((plane.shape, plane.pixel_size_nm), []).append(plane)
    layers = []
    for (shape, size_nm), group in groups.items():
        apart = f" {shape[1]}x{shape[0]}" if len(groups) > 1 else ""
        scale = (step_nm or size_nm, size_nm, size_nm) if size_nm else None
        names = {"metadata": {"sections": [plane.name for plane in group]}}
        for map_name in (_RAW, *structures):
            if not any(map_name in plane.reads for plane in group):
                continue
            data, kind = _stack_map(group, map_name), _IMAGE if map_name == _RAW else _LABELS
            shown = {"contrast_limits": _find_limits(group)} if map_name == _RAW else {}
            layers.append(ViewLayer(data, kind, f"{prefix}{map_name}{apart}", scale, names | shown))
    return layers


def _stack_map(planes: Sequence[_Plane], name: str) -> Any:
    """A map of planes of one shape (z, y, x); a plane without it is 0."""
    first = next(plane.reads[name] for plane in planes if name in plane.reads)
    dtype = first().dtype if name == _RAW else np.dtype(np.uint32)
    return dask.array.stack(
        [
            dask.array.from_delayed(
                delayed(_read_as)(plane.reads.get(name), plane.shape, dtype),
                plane.shape,
                dtype,
            )
            for plane in planes
        ]
    )


def _read_as(
    read: Callable[[], np.ndarray] | None, shape: tuple[int, int], dtype: np.dtype
) -> np.ndarray:
    return np.zeros(shape, dtype) if read is None else read().astype(dtype, copy=False)


def _find_limits(planes: Sequence[_Plane]) -> tuple[float, float]:
    """Grey values between which an image is shown, of the plane in the middle."""
    low, high = np.percentile(planes[len(planes) // 2].reads[_RAW](), _CONTRAST)
    return float(low), float(max(high, np.nextafter(low, np.inf)))
