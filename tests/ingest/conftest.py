import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


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
