from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bench.errors import BenchError
from bench.ingest.annotations.rasterise import DrawnLabels
from bench.ingest.images.headers import ImageHeader
from bench.ingest.images.images import read_section
from bench.ingest.sources import SourceImage, SourceSection, SourceTree

SHAPE = (96, 128)


def make_image(pixels: object, file: str) -> SourceImage:
    """An image that is an array, drawn objects, or a message with which reading fails."""

    def read() -> np.ndarray:
        if isinstance(pixels, str):
            raise BenchError(pixels)
        return pixels.labels if isinstance(pixels, DrawnLabels) else pixels

    drawn = (lambda: pixels) if isinstance(pixels, DrawnLabels) else None
    header = ImageHeader(SHAPE, 1, None)
    return SourceImage({file: Path(file)}, 0, header, read, drawn=drawn)


@pytest.fixture
def make_section() -> Callable[..., SourceSection]:
    def make(split: str, stem: str, raw: object, **masks: object) -> SourceSection:
        labels = {
            name: make_image(mask, f"{split}/{name}/{stem}.tif") for name, mask in masks.items()
        }
        return SourceSection(split, stem, make_image(raw, f"{split}/raw/{stem}.tif"), labels)

    return make


@pytest.fixture
def make_source() -> Callable[..., SourceTree]:
    def make(
        *sections: SourceSection,
        structures: tuple[str, ...] = ("mitochondria",),
        size: float | None = 5.0,
        rule: str = "folders",
        warnings: tuple[str, ...] = (),
        unlabelled: tuple[SourceSection, ...] = (),
        section_nm: float | None = 500.0,
    ) -> SourceTree:
        return SourceTree(
            given=Path(),
            root=Path(),
            sections=sections,
            structures=structures,
            pixel_size_nm=size,
            splits_rule=rule,
            warnings=warnings,
            unlabelled=unlabelled,
            section_nm=section_nm,
        )

    return make


@pytest.fixture
def tissue() -> Callable[..., np.ndarray]:
    """Grey values of a place in a tissue, so that a shift shows the same content elsewhere."""
    block = gaussian_filter(np.random.default_rng(0).normal(0, 1, (400, 400)), 3)
    block *= 30 / block.std()

    def cut(seed: int, mask: np.ndarray | None = None, y: int = 0, x: int = 0) -> np.ndarray:
        """Seed is that of the noise, which every recording has its own of."""
        window = block[100 + y : 100 + y + SHAPE[0], 100 + x : 100 + x + SHAPE[1]]
        raw = 128 + window + np.random.default_rng(seed).normal(0, 12, SHAPE)
        if mask is not None:
            raw = raw - 60 * (mask != 0)
        return raw.clip(1, 254).astype(np.uint8)

    return cut


@pytest.fixture
def discs() -> np.ndarray:
    """A mask of six discs of 13 px radius, 0 and 255."""
    ys, xs = np.ogrid[: SHAPE[0], : SHAPE[1]]
    centres = [(y, x) for y in (24, 70) for x in (24, 64, 104)]
    inside = np.any([(ys - y) ** 2 + (xs - x) ** 2 <= 169 for y, x in centres], axis=0)
    return np.where(inside, 255, 0).astype(np.uint8)


@pytest.fixture
def clean(make_section, tissue, discs) -> Callable[..., list[SourceSection]]:
    """Six sections without a fault; `clean(s2={"raw": ...})` replaces what one of them holds."""

    def make(**changes: dict[str, object]) -> list[SourceSection]:
        sections = []
        for number in range(6):
            stem = f"s{number}"
            split = ("train", "train", "train", "train", "val", "test")[number]
            # A series within train; the others were taken far away.
            place = {"train": 0, "val": -99, "test": 99}[split]
            held = {"raw": tissue(number, discs, y=place, x=place), "mitochondria": discs}
            sections.append(make_section(split, stem, **held | changes.get(stem, {})))
        return sections

    return make


@pytest.fixture
def real_neighbours(shared: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Two sections, one after the other: 5 nm apart, and 50 nm apart."""
    names = [
        ("epfl6/train/raw/training0015.png", "epfl6/train/raw/training0016.png"),
        ("vnc/train/raw/section06.tif", "vnc/train/raw/section07.tif"),
    ]
    return [
        (read_section(shared / first), read_section(shared / second)) for first, second in names
    ]
