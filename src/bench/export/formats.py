"""The formats that labels are exported in."""

import pkgutil
from dataclasses import dataclass
from pathlib import Path

from bench.export.stack import LabelStack


@dataclass(frozen=True)
class _Format:
    """A way to write labels."""

    writer: str  # its function, FILE:NAME of this room: what that needs is imported when it writes
    opening: str  # how a person opens it, with a place for the ``folder``
    bottom_first: bool = False  # whether its first row is the one at the bottom
    corrected: bool = True  # whether a person corrects labels in it
    together: bool = False  # whether all splits and sizes of a dataset are one of it

    def write(self, stack: LabelStack, folder: Path) -> None:
        """Writes sections and their labels into a folder."""
        pkgutil.resolve_name(f"bench.export.{self.writer}")(stack, folder)


_IN_NAPARI = (
    "type napari --plugin napari-ome-zarr {folder}/image.ome.zarr (the plugin is no part of "
    "napari: pip install napari-ome-zarr)"
)


FORMATS: dict[str, _Format] = {
    "trakem2": _Format(
        "trakem2:write_trakem2",
        "in Fiji choose File > Open..., {folder}/project.xml, then double-click the first layer",
    ),
    "imod": _Format(
        "imod:write_imod", "type 3dmod {folder}/raw.mrc {folder}/labels.mod", bottom_first=True
    ),
    "imod_spheres": _Format(
        "imod:write_imod_spheres",
        "type 3dmod {folder}/raw.mrc {folder}/labels.mod",
        bottom_first=True,
    ),
    "pyto": _Format(
        "pyto:write_pyto",
        "type 3dmod {folder}/raw.mrc, or read {folder}/labels.mrc in Pyto",
        bottom_first=True,
    ),
    "rois": _Format(
        "rois:write_rois", "in Fiji open {folder}/raw.tif, then drop {folder}/RoiSet.zip on it"
    ),
    "tiff": _Format(
        "label_images:write_label_tiff",
        "in napari or Fiji open {folder}/raw and the folder of a structure as an image sequence",
    ),
    "ome_zarr": _Format("ome_zarr:write_ome_zarr", _IN_NAPARI),
    "ome_zarr_05": _Format("ome_zarr:write_ome_zarr_05", _IN_NAPARI),
    "precomputed": _Format(
        "precomputed:write_precomputed",
        "serve {folder} by a web server that allows other origins, and open "
        "precomputed://http://HOST/raw and the structures beside it in Neuroglancer",
        corrected=False,
    ),
    "nnunet": _Format(
        "nnunet_raw:write_nnunet",
        "move {folder} to nnUNet_raw/Dataset500_EM, then type nnUNetv2_plan_and_preprocess -d 500; "
        "splits_final.json belongs to nnUNet_preprocessed/Dataset500_EM",
        corrected=False,
        together=True,
    ),
}
