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
