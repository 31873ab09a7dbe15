"""What made a result, and what determines it: docs/identity.md says which change does what."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bench.errors import BenchError

# Of the whole, as pyproject.toml has it (a test compares).
SUITE_VERSION = "0.1.0"
# Raised by one, by hand, in the change that alters what a step or a part computes, and by no other
# change. tests/stored_results.json holds results of each, so that forgetting it fails a test.
VERSIONS: dict[str, int] = {
    # Steps: what each does by itself.
    "prepare": 1,
    "pretrain": 1,
    "finetune": 2,
    "domain_adapt": 1,
    "microsam": 2,
    "detect": 1,
    "pseudo": 1,
    "evaluate": 1,
    "optimize": 1,
    "promote": 2,
    "segment": 3,
    "export": 2,
    # Parts that several of them use.
    "network unet2d": 1,
    "network unet3d": 1,
    "network unet3d_anisotropic": 1,
    "network unet_residual": 1,
    "network unet_resnet50": 1,
    "network transunet": 1,
    "network sam": 1,
    "network pixel_classifier": 2,
    "network foundation_features": 1,
    "boxes": 1,
    "feeding": 1,
    "patches": 1,
    "volume patches": 1,
    "augmentation": 1,
    "views": 1,
    "losses": 1,
    "classes": 1,
    "limit": 1,
    "training loop": 1,
    "mean teacher": 1,
    "sam training": 2,
    "sam masks": 1,
    "prompts": 1,
    "box prompts": 1,
    "tiles": 1,
    "volumes": 1,
    "blends": 1,
    "post-processing": 1,
    "spheres": 1,
    "dice": 1,
    "metrics": 1,
    "search": 1,
    "phantom": 1,
    "phantom tomogram": 1,
}
# What a step or part is made of. A run adds what only it uses: its network, say (Identity.parts).
_PARTS: dict[str, tuple[str, ...]] = {
    "pretrain": ("views", "training loop"),
    "finetune": ("feeding", "patches", "augmentation", "losses", "training loop", "tiles", "dice"),
    "domain_adapt": ("feeding", "mean teacher", "training loop", "tiles", "dice"),
    "microsam": ("feeding", "dice"),
    "detect": ("feeding", "boxes", "training loop"),
    "evaluate": ("feeding", "tiles", "blends", "post-processing", "dice", "metrics"),
    "optimize": ("blends", "post-processing", "dice", "metrics", "search"),
    "segment": ("feeding", "tiles", "blends", "post-processing"),
    "network unet3d": ("volumes",),
    "network unet3d_folds": ("network unet3d",),
    "network unet3d_anisotropic": ("volumes",),
    "network sam": ("sam masks",),
    "network pixel_classifier": ("limit",),
    "network foundation_features": ("network pixel_classifier",),
    "network detector_sam": ("network sam", "boxes", "box prompts"),
    "sam training": ("training loop",),
}
# Of rows that were added from outside, by the names that runs use for them.
_registered: dict[str, str] = {}
# Metadata of a field that changes no result: a sentence that says where the others come from.
PROSE = {"identity": False}
# Metadata of a field that did not exist once: where it is None the identity says nothing of it, so
# that runs of before are still the same.
SINCE = {"identity": "where given"}


def register_version(part: str, version: str) -> None:
    """Says which version of what a row from outside is; it becomes part of its runs' identity.

    Args:
        part: The kind and name of the row, such as ``network mynet``, ``method mymethod`` or
            ``metric mymetric``.
        version: Where it is from, and which version: ``lab_nets 1.2``.

    Raises:
        BenchError: If the part is ours, or is of another version already.
    """
    known = f"our own, version {VERSIONS[part]}" if part in VERSIONS else _registered.get(part)
    if known not in (None, version):
        raise BenchError(
            f"what is added must have a name of its own, received {part!r} of {version}, which is "
            f"{known}: rename one of both"
        )
    _registered[part] = version


def collect_versions(step: str, parts: Iterable[str] = ()) -> dict[str, str]:
    """The versions of a step, and of all that it is made of, by name.

    Args:
        step: The entry point.
        parts: What this run uses besides. A name without a version adds nothing: a row of
            METHODS of ours is data, which the settings of its runs say.
    """
    found: dict[str, str] = {}
    left = [step, *parts]
    while left:
        name = left.pop()
        left += _PARTS.get(name, ())
        if name in VERSIONS:
            found[name] = str(VERSIONS[name])
        elif name in _registered:
            found[name] = _registered[name]
    return dict(sorted(found.items()))


def without_prose(value: Any) -> Any:
    """A value whose dataclasses are dicts of their fields, but for PROSE, and SINCE that is None.

    Examples:
        >>> @dataclasses.dataclass
        ... class Settings:
        ...     radius_px: int
        ...     origin: str = dataclasses.field(metadata=PROSE)
        >>> without_prose([Settings(2, "The largest that keeps all.")])
        [{'radius_px': 2}]
    """
    if dataclasses.is_dataclass(value):
        return {
            field.name: without_prose(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if (said := field.metadata.get("identity", True))
            and (said is True or getattr(value, field.name) is not None)
        }
    if isinstance(value, Mapping):
        return {name: without_prose(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_prose(each) for each in value]
    return value


@functools.cache
def code_version() -> str:
    """Hash of all source files, comments as well: which code made a result, no part of it."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
