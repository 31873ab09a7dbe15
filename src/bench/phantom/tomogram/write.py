"""Writes tomograms as MRC volumes, with their truth as a table and as IMOD models."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import mrcfile
import numpy as np

from bench.config.data import PhantomConfig
from bench.errors import BenchError
from bench.export.stack import colour_of, make_stack
from bench.phantom.tomogram.scene import TomogramSettings
from bench.phantom.tomogram.tomogram import Tomogram, make_tomogram

if TYPE_CHECKING:
    from imodmodel import ImodModel

# What makes the files; other settings are of sections.
TOMOGRAM_SETTINGS = (
    *("domain", "tomograms", "planes", "size_px", "pixel_size_nm", "seed", "vesicles"),
    *("min_diameter_nm", "max_diameter_nm", "tilt_deg", "noise", "voxel_type"),
)
_SIZE_PX, _VOXEL_NM = 160, 2.2
_SPLITS = ("train", "val", "test")
_ANGSTROM_PER_NM = 10
# Grey values of a deviation, as whole numbers.
_INT16_SCALE = 1000
# A membrane must be told from a lumen.
_SMALLEST_DIAMETER_PX = 6
# Of scattered points, which 3dmod marks as open too; each is a ball, not a disc in its plane.
_BALL_FLAGS = 1 << 9 | 1 << 3
_COLUMNS = (
    *("split", "volume", "id", "z", "y", "x", "radius", "radius_nm"),
    *("docked", "touching", "cut"),
)


def fill_tomograms(
    folder: Path, config: PhantomConfig, progress: Callable[[int, int], None] | None
) -> None:
    """Writes the tomograms of all splits into a new folder.

    It holds ``{train,val,test}/{raw,vesicles,mitochondria,active_zone}/tomoN.mrc``;
    ``truth.csv``, a row per vesicle (z, y, x and radius in voxels, where the centre of the first
    voxel is 0; flags are 0 or 1); and ``models/<split>/tomoN.mod``, vesicles as scattered points
    with their radii and the active zone as closed contours. Rows of all of them are those of the
    MRC as stored, which 3dmod and ``prepare`` count alike.

    Args:
        folder: The folder, which is made.
        config: Settings of the phantom.
        progress: Called after every tomogram with those done and their total.

    Raises:
        BenchError: If sizes do not fit each other.
    """
    settings = read_tomogram_settings(config)
    total = len(_SPLITS) * config.tomograms
    rows: list[dict[str, object]] = []
    for done in range(total):
        split, number = _SPLITS[done // config.tomograms], done % config.tomograms
        seed = int(np.random.SeedSequence([config.seed, done]).generate_state(1)[0])
        name, tomogram = f"tomo{number + 1}", make_tomogram(settings, seed)
        _write_volume(
            folder / split / "raw" / f"{name}.mrc",
            _scale(tomogram.raw, config.voxel_type),
            settings.voxel_nm,
        )
        for structure, ids in tomogram.labels.items():
            _write_volume(folder / split / structure / f"{name}.mrc", ids, settings.voxel_nm)
        model = folder / "models" / split / f"{name}.mod"
        model.parent.mkdir(parents=True, exist_ok=True)
        _make_model(tomogram).to_file(model)
        rows += _list_truth(tomogram, split, name)
        if progress is not None:
            progress(done + 1, total)
    with (folder / "truth.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def read_tomogram_settings(config: PhantomConfig) -> TomogramSettings:
    """What the settings of a phantom say of a tomogram.

    Raises:
        BenchError: If sizes do not fit each other.
    """
    edge, voxel_nm = config.size_px or _SIZE_PX, config.pixel_size_nm or _VOXEL_NM
    smallest, largest = config.min_diameter_nm, config.max_diameter_nm
    if smallest > largest:
        raise BenchError(
            f"min_diameter_nm must be at most max_diameter_nm, received {smallest:g} and "
            f"{largest:g}: exchange them"
        )
    if smallest < _SMALLEST_DIAMETER_PX * voxel_nm:
        raise BenchError(
            f"min_diameter_nm must be {_SMALLEST_DIAMETER_PX} voxels or more, "
            f"{_SMALLEST_DIAMETER_PX * voxel_nm:g} nm, received {smallest:g}: enlarge it, or lower "
            "pixel_size_nm"
        )
    if 4 * largest > edge * voxel_nm or 1.5 * largest > config.planes * voxel_nm:
        raise BenchError(
            f"a tomogram must be four of the largest vesicles wide and one and a half deep, "
            f"received {edge} px and {config.planes} planes of {voxel_nm:g} nm for "
            f"{largest:g} nm: enlarge size_px or planes"
        )
    return TomogramSettings(
        shape=(config.planes, edge, edge),
        voxel_nm=voxel_nm,
        diameters_nm=(smallest, largest),
        vesicles=config.vesicles,
        tilt_deg=config.tilt_deg,
        noise=config.noise,
    )


def _scale(raw: np.ndarray, voxel_type: str) -> np.ndarray:
    if voxel_type != "int16":
        return raw
    limits = np.iinfo(np.int16)
    scaled = np.clip(np.rint(raw * _INT16_SCALE), limits.min, limits.max)
    return np.asarray(scaled, np.int16)


def _write_volume(path: Path, voxels: np.ndarray, voxel_nm: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path) as file:
        file.set_data(voxels)
        file.set_volume()
        file.voxel_size = voxel_nm * _ANGSTROM_PER_NM
        # In place of the time of day, so that the same settings make the same bytes.
        file.header.label[0] = "synapse-bench: synthetic tomogram"


def _make_model(tomogram: Tomogram) -> "ImodModel":
    """Vesicles as balls and the active zone as contours, placed as 3dmod counts.

    x and y count from the corner of a voxel, and z from the centre of the first plane.
    """
    from imodmodel.models import Contour, Object, ObjectHeader

    from bench.export.imod import make_imod_model

    voxel_nm = tomogram.scene.settings.voxel_nm
    zone = {"active_zone": tomogram.labels["active_zone"]}
    model = make_imod_model(make_stack(zone, pixel_size_nm=voxel_nm, section_nm=voxel_nm))
    points = tomogram.centres[:, ::-1] + [0.5, 0.5, 0]
    red, green, blue = (channel / 255 for channel in colour_of("vesicles", ()))
    balls = Contour(points=points.astype(np.float32), point_sizes=tomogram.radii.astype(np.float32))
    header = ObjectHeader(name="vesicles", flags=_BALL_FLAGS, red=red, green=green, blue=blue)
    model.objects.insert(0, Object(header=header, contours=[balls]))
    return model


def _list_truth(tomogram: Tomogram, split: str, name: str) -> list[dict[str, object]]:
    balls = tomogram.scene.balls
    flags = np.column_stack([balls.docked, balls.touching, tomogram.cut]).astype(int).tolist()
    places = np.column_stack([tomogram.centres, tomogram.radii, balls.radii_nm]).tolist()
    return [
        dict(zip(_COLUMNS, (split, name, number, *map(_round, place), *flag), strict=True))
        for number, (place, flag) in enumerate(zip(places, flags, strict=True), start=1)
    ]


def _round(value: float) -> str:
    return f"{value:.4f}"
