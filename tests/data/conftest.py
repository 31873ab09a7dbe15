import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest

from bench.config import PrepareConfig
from bench.data.inputs import read_input
from bench.data.sources import SourceTree

SHAPE = (48, 64)


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))


def make_raw(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, SHAPE, dtype=np.uint8)


def make_mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:14, 4:14] = 255
    mask[20:30, 30:40] = 255
    return mask


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes a folder tree of small sections: `make_tree(train=2, val=1)`; "" is no split."""

    def make(
        name: str = "input",
        structures: tuple[str, ...] = ("mitochondria", "vesicles"),
        splits: dict[str, int] | None = None,
        seed: int = 0,
    ) -> Path:
        root = tmp_path / name
        number = 0
        for split, count in (
            {"train": 3, "val": 1, "test": 1} if splits is None else splits
        ).items():
            for _ in range(count):
                write_png(root / split / "raw" / f"s{number}.png", make_raw(seed + number))
                for structure in structures:
                    write_png(root / split / structure / f"s{number}.png", make_mask())
                number += 1
        return root

    return make


@pytest.fixture
def read_tree() -> Callable[..., SourceTree]:
    def read(root: Path, **settings: object) -> SourceTree:
        return read_input(PrepareConfig(input=str(root), **settings))

    return read


@pytest.fixture
def shared() -> Path:
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is absent")
    return folder


@pytest.fixture
def real_tree(shared: Path, tmp_path: Path) -> Path:
    """Four sections of EPFL6, linked."""
    chosen = {"train": ("0000", "0042"), "val": ("0089",), "test": ("0118",)}
    for split, numbers in chosen.items():
        for kind in ("raw", "vesicles", "mitochondria", "membrane"):
            folder = tmp_path / "epfl6" / split / kind
            folder.mkdir(parents=True)
            for number in numbers:
                name = f"training{number}.png"
                (folder / name).symlink_to(shared / "epfl6" / split / kind / name)
    return tmp_path / "epfl6"


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)
        # A test may have closed it.
        Path(folder).chmod(0o755)


@pytest.fixture
def as_ordinary_user() -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Drops the superuser's rights for a moment: permissions do not bind it."""

    @contextlib.contextmanager
    def drop() -> Iterator[None]:
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(user)

    return drop
