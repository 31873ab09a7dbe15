"""Writes a phantom as the folders that ``prepare`` reads, with montages and a TrakEM2 project."""

import json
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile

from bench.config.data import PhantomConfig
from bench.core.version import VERSIONS
from bench.errors import BenchError
from bench.export.trakem2 import ExportRegion, Patch, format_project
from bench.phantom.region import PhantomRegion, make_region

log = logging.getLogger(__name__)
_MARK = "phantom.json"
_SECTION_NM = 50.0
# Sections left out between two regions of the series, so that regions share no neighbours.
_GAP_SECTIONS = 10
_NM_PER_CM = 1e7


def write_phantom(
    config: PhantomConfig, *, progress: Callable[[int, int], None] | None = None
) -> Path:
    """Makes a phantom, or finds the identical one that is already there.

    The folder holds ``{train,val,test}/{raw,vesicles,mitochondria,membrane}/<name>.tif``,
    ``montages/<name>.tif``, ``project.xml`` (its area lists fill exactly the labels) and
    ``phantom.json`` (the settings). Every region is the middle of its montages. With three
    regions or more whole regions are split: the last is test, the one before it val. With fewer,
    sections are: the last is test, the one before it val.

    Args:
        config: The settings.
        progress: Called after every section with the sections done and their total.

    Returns:
        The folder.

    Raises:
        BenchError: If the montage is smaller than the region, or the output exists and is not
            the phantom of these settings.
    """
    if config.montage_px < config.size_px:
        raise BenchError(
            f"montage_px must be at least size_px, received {config.montage_px} and "
            f"{config.size_px}: enlarge montage_px"
        )
    output = Path(config.output)
    if _find_phantom(output, config):
        log.info("reusing the phantom in %s", output)
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".phantom-") as staging:
        folder = Path(staging) / "phantom"
        _fill_folder(folder, config, progress)
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
    mark = {"version": VERSIONS["phantom"], "settings": config.identity()}
    return json.dumps(mark, indent=2, sort_keys=True) + "\n"


def _fill_folder(
    folder: Path, config: PhantomConfig, progress: Callable[[int, int], None] | None
) -> None:
    (folder / "montages").mkdir(parents=True)
    total = config.regions * config.sections
    low = (config.montage_px - config.size_px) // 2
    middle = slice(low, low + config.size_px)
    annotations = []
    for index in range(config.regions):
        montage = _make_montage(config, index)
        region = montage.crop(middle, middle)
        numbers = [index * (config.sections + _GAP_SECTIONS) + z for z in range(config.sections)]
        names = [f"region{index}_section{number:03d}.tif" for number in numbers]
        for z, name in enumerate(names):
            _write_image(folder / "montages" / name, montage.raw[z], config.pixel_size_nm)
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
        annotations, kind="phantom", pixel_size_nm=config.pixel_size_nm, section_nm=_SECTION_NM
    )
    (folder / "project.xml").write_text(text, encoding="latin-1")
    (folder / _MARK).write_text(_describe(config))


def _make_montage(config: PhantomConfig, index: int) -> PhantomRegion:
    seed = int(np.random.SeedSequence([config.seed, index]).generate_state(1)[0])
    return make_region(
        shape=(config.sections, config.montage_px, config.montage_px),
        pixel_size_nm=config.pixel_size_nm,
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
