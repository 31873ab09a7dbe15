"""Which image of a COCO file is meant, whatever its program wrote before the name."""

import re
from functools import lru_cache
from pathlib import Path

from bench.core.names import first_names, same_form
from bench.errors import BenchError
from bench.ingest.annotations.coco import CocoFile, CocoImage, read_coco
from bench.ingest.classes import tidy_name


def find_coco_image(path: Path, image: Path) -> tuple[CocoImage, tuple[str, ...]]:
    """Returns what a COCO file holds of an image, and the file's warnings.

    Its ``file_name`` may have folders before it, of any system.

    Raises:
        BenchError: If the file cannot be read, or does not describe the image once.
    """
    coco = _read_once(path, path.stat().st_mtime_ns)
    wanted = same_form(image.name)
    names = {file: same_form(re.split(r"[/\\]", file)[-1]) for file in coco.images}
    found = [coco.images[file] for file, name in names.items() if name == wanted]
    if len(found) == 1:
        return found[0], coco.warnings
    prefixed = [
        name for name in names.values() if re.fullmatch(rf".+[-_]{re.escape(wanted)}", name)
    ]
    remedy = "correct file_name, or rename the image"
    if prefixed and not found:
        prefix = tidy_name(prefixed[0].removesuffix(wanted))
        remedy = f"remove what was put before it on upload ({prefix}) from file_name"
    elif not found and any(Path(name).stem == Path(wanted).stem for name in names.values()):
        remedy = "give file_name the image's ending"
    shown = first_names([tidy_name(name) for name in names.values()]) or "none"
    raise BenchError(
        f"{path} must describe {image.name} once, received {len(found)} of that name among its "
        f"{len(names)} images ({shown}): {remedy}"
    )


@lru_cache(maxsize=2)
def _read_once(path: Path, changed: int) -> CocoFile:
    """Reads a COCO file, which every image that it describes asks for; ``changed`` is its time."""
    return read_coco(path)
