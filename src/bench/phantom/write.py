"""Writes a phantom as the folders that ``prepare`` reads, with montages and a TrakEM2 project."""

import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from bench.config.data import PhantomConfig
from bench.config.settings import typed_settings
from bench.core.version import VERSIONS
from bench.errors import BenchError
from bench.export.trakem2 import ExportRegion, Patch, format_project
from bench.phantom.region import PhantomRegion, make_region
from bench.phantom.tomogram.write import (
    TOMOGRAM_SETTINGS,
    fill_tomograms,
    read_tomogram_settings,
)

log = logging.getLogger(__name__)
_MARK = "phantom.json"
_TOMOGRAM = "tomogram"
_SECTION_SETTINGS = (
    *("domain", "regions", "sections", "size_px", "montage_px", "pixel_size_nm", "seed"),
)
_SIZE_PX, _PIXEL_NM = 512, 5.0
_SECTION_NM = 50.0
# Sections left out between two regions of the series, so that regions share no neighbours.
_GAP_SECTIONS = 10
_NM_PER_CM = 1e7


def write_phantom(
    config: PhantomConfig, *, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Makes a phantom, or finds the identical one that is already there.

    That of tomograms is described at `fill_tomograms`. Of sections the folder holds
    ``{train,val,test}/{raw,vesicles,mitochondria,membrane}/<name>.tif``,
    ``montages/<name>.tif``, ``project.xml`` (its area lists fill exactly the labels) and
    ``phantom.json`` (the settings). Every region is the middle of its montages. With three
    regions or more whole regions are split: the last is test, the one before it val. With fewer,
    sections are: the last is test, the one before it val.

    Args:
        config: The settings.
        progress: Called after every section or tomogram with those done and their total.

    Returns:
        The folder.

    Raises:
        BenchError: If the montage is smaller than the region, settings of tomograms do not fit,
            or the output exists and is not the phantom of these settings.
    """
    _check_settings(config)
    output = Path(config.output)
    if _find_phantom(output, config):
        log.info("reusing the phantom in %s", output)
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".phantom-") as staging:
        folder = Path(staging) / "phantom"
        fill = fill_tomograms if config.domain == _TOMOGRAM else _fill_sections
        fill(folder, config, progress)
        (folder / _MARK).write_text(_describe(config))
        try:
            folder.rename(output)
        except OSError:
            if not _find_phantom(output, config):
                raise
    return output


def _find_phantom(output: Path, config: PhantomConfig) -> bool:
    """Whether a folder is the phantom of these settings, False if free; BenchError if it is not."""
    mark = output / _MARK
    if mark.is_file():
        if mark.read_text() == _describe(config):
            return True
    elif not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    raise BenchError(
        f"output must be absent or the phantom of these settings, received {output} with other "
        "content: choose another output or delete it"
    )


def _describe(config: PhantomConfig) -> str:
    """The settings that make these files, and no others: a folder outlives new ones."""
    names, version = set(_SECTION_SETTINGS), VERSIONS["phantom"]
    sizes = {"size_px": _edge_px(config), "pixel_size_nm": _pixel_nm(config)}
    if config.domain == _TOMOGRAM:
        names, version = set(TOMOGRAM_SETTINGS), VERSIONS["phantom tomogram"]
        made = read_tomogram_settings(config)
        sizes = {"size_px": made.shape[-1], "pixel_size_nm": made.voxel_nm}
    settings = {name: v for name, v in config.identity(sizes).items() if name in names}
    return json.dumps({"version": version, "settings": settings}, indent=2, sort_keys=True) + "\n"


def _check_settings(config: PhantomConfig) -> None:
    """Warns of settings that say nothing here; BenchError if montages are too small."""
    tomograms = config.domain == _TOMOGRAM
    own = TOMOGRAM_SETTINGS if tomograms else _SECTION_SETTINGS
    idle = sorted(typed_settings(config).keys() - {"output", *own})
    if idle:
        log.warning(
            "%s %s nothing where domain is %s, and is left out", ", ".join(idle),
            "change" if len(idle) > 1 else "changes", config.domain,
        )  # fmt: skip
    if not tomograms and config.montage_px < _edge_px(config):
        raise BenchError(
            f"montage_px must be at least size_px, received {config.montage_px} and "
            f"{_edge_px(config)}: enlarge montage_px"
        )


def _edge_px(config: PhantomConfig) -> int:
    return config.size_px or _SIZE_PX


def _pixel_nm(config: PhantomConfig) -> float:
    return config.pixel_size_nm or _PIXEL_NM


def _fill_sections(
    folder: Path, config: PhantomConfig, progress: Callable[[int, int], None] | None
) -> None:
    (folder / "montages").mkdir(parents=True)
    total = config.regions * config.sections
    pixel_nm, size_px = _pixel_nm(config), _edge_px(config)
    low = (config.montage_px - size_px) // 2
    middle = slice(low, low + size_px)
    annotations = []
    for index in range(config.regions):
        montage = _make_montage(config, index)
        region = montage.crop(middle, middle)
        numbers = [index * (config.sections + _GAP_SECTIONS) + z for z in range(config.sections)]
        names = [f"region{index}_section{number:03d}.tif" for number in numbers]
        for z, name in enumerate(names):
            _write_image(folder / "montages" / name, montage.raw[z], pixel_nm)
            _write_section(folder / _choose_split(config, index, z), name, region, z)
            if progress is not None:
                progress(index * config.sections + z + 1, total)
        annotations.append(
            ExportRegion(
                title=f"region{index}",
                labels=region.labels,
                corner_px=(low, low),
                size_px=(config.montage_px, config.montage_px),
                patches=[Patch(f"montages/{name}") for name in names],
                numbers=numbers,
            )
        )
    text = format_project(
        annotations, kind="phantom", pixel_size_nm=pixel_nm, section_nm=_SECTION_NM
    )
    (folder / "project.xml").write_text(text, encoding="latin-1")


def _make_montage(config: PhantomConfig, index: int) -> PhantomRegion:
    seed = int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])
    return make_region(
        shape=(config.sections, config.montage_px, config.montage_px),
        pixel_size_nm=_pixel_nm(config),
        section_nm=_SECTION_NM,
        domain=config.domain,
        seed=seed,
    )


def _choose_split(config: PhantomConfig, region: int, section: int) -> str:
    """The split of a section: by region where there are three or more, else by section."""
    by_region = config.regions >= 3
    left = config.regions - region if by_region else config.sections - section
    return {1: "test", 2: "val"}.get(left, "train")


def _write_section(folder: Path, name: str, region: PhantomRegion, z: int) -> None:
    images = {"raw": region.raw[z]}
    for structure, ids in region.labels.items():
        dtype = np.uint16 if ids.max() <= np.iinfo(np.uint16).max else np.uint32
        images[structure] = ids[z].astype(dtype)
    for kind, image in images.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        _write_image(folder / kind / name, image, region.pixel_size_nm)


def _write_image(path: Path, image: np.ndarray, pixel_size_nm: float) -> None:
    resolution = _NM_PER_CM / pixel_size_nm
    tifffile.imwrite(
        path,
        image,
        photometric="minisblack",
        compression=None if image.dtype == np.uint8 else "zlib",
        resolution=(resolution, resolution),
        resolutionunit="CENTIMETER",
        metadata=None,
    )
