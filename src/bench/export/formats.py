"""The formats that labels are exported in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.export.label_images import write_label_tiff
from bench.export.nnunet_raw import write_nnunet
from bench.export.pyto import write_pyto
from bench.export.rois import write_rois
from bench.export.stack import LabelStack
from bench.export.trakem2 import write_trakem2


@dataclass(frozen=True)
class _Format:
    """A way to write labels."""

    write: Callable[[LabelStack, Path], None]
    opening: str  # how a person opens it, with a place for the ``folder``
    bottom_first: bool = False  # whether its first row is the one at the bottom
    corrected: bool = True  # whether a person corrects labels in it
    together: bool = False  # whether all splits and sizes of a dataset are one of it


def _write_imod(stack: LabelStack, folder: Path) -> None:
    from bench.export.imod import write_imod

    write_imod(stack, folder)


def _write_imod_spheres(stack: LabelStack, folder: Path) -> None:
    from bench.export.imod import write_imod_spheres

    write_imod_spheres(stack, folder)


def _write_ome_zarr(stack: LabelStack, folder: Path) -> None:
    from bench.export.ome_zarr import write_ome_zarr

    write_ome_zarr(stack, folder)


def _write_ome_zarr_05(stack: LabelStack, folder: Path) -> None:
    from bench.export.ome_zarr import write_ome_zarr_05

    write_ome_zarr_05(stack, folder)


def _write_precomputed(stack: LabelStack, folder: Path) -> None:
    from bench.export.precomputed import write_precomputed

    write_precomputed(stack, folder)


_IN_NAPARI = (
    "type napari --plugin napari-ome-zarr {folder}/image.ome.zarr (the plugin is no part of "
    "napari: pip install napari-ome-zarr)"
)


FORMATS: dict[str, _Format] = {
    "trakem2": _Format(
        write_trakem2,
        "in Fiji choose File > Open..., {folder}/project.xml, then double-click the first layer",
    ),
    "imod": _Format(
        _write_imod, "type 3dmod {folder}/raw.mrc {folder}/labels.mod", bottom_first=True
    ),
    "imod_spheres": _Format(
        _write_imod_spheres, "type 3dmod {folder}/raw.mrc {folder}/labels.mod", bottom_first=True
    ),
    "pyto": _Format(
        write_pyto,
        "type 3dmod {folder}/raw.mrc, or read {folder}/labels.mrc in Pyto",
        bottom_first=True,
    ),
    "rois": _Format(
        write_rois, "in Fiji open {folder}/raw.tif, then drop {folder}/RoiSet.zip on it"
    ),
    "tiff": _Format(
        write_label_tiff,
        "in napari or Fiji open {folder}/raw and the folder of a structure as an image sequence",
    ),
    "ome_zarr": _Format(_write_ome_zarr, _IN_NAPARI),
    "ome_zarr_05": _Format(_write_ome_zarr_05, _IN_NAPARI),
    "precomputed": _Format(
        _write_precomputed,
        "serve {folder} by a web server that allows other origins, and open "
        "precomputed://http://HOST/raw and the structures beside it in Neuroglancer",
        corrected=False,
    ),
    "nnunet": _Format(
        write_nnunet,
        "move {folder} to nnUNet_raw/Dataset500_EM, then type nnUNetv2_plan_and_preprocess -d 500; "
        "splits_final.json belongs to nnUNet_preprocessed/Dataset500_EM",
        corrected=False,
        together=True,
    ),
}
