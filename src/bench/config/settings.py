"""What settings are made of: typed fields with a default, a help text and bounds.

A step's settings are one frozen dataclass, the only home of its defaults: the command-line options
are made from its fields, and MLproject as well (``make mlproject``). A type ``X | None`` is typed
as ``auto`` on the command line: the step decides, says what it chose, and logs it.
"""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from bench.errors import BenchError, unknown_name
from bench.words import AUTO, INT8, NONE, OPENVINO, TORCH

# Minutes without a sign of life after which a run of another machine counts as gone.
STALE_MIN = 10.0
# Choices of symmetries under which sections are predicted.
AUGMENTATION_CHOICES = (NONE, "paper", "all")
ENGINES = (AUTO, TORCH, OPENVINO)
# Eight bits are measured and checked where sections are annotated; who segments follows.
SCORING_ENGINES = (*ENGINES, INT8)
# Help on settings that steps of several files have.
MINUTES = (
    "Minutes for the training, in place of iterations: their number and the learning rate follow "
    "from the speed here; validations and the choice of the tile are within."
)
SCHEDULE = (
    "plateau lowers the rate when validation stalls; cosine and polynomial let it fall to zero, "
    "onecycle rise first; auto is the method's."
)
TRUST = "Let a foreign checkpoint run code of its own while it is read."
RAW_KEY = "Raw array of an HDF5 or Zarr volume, with channel as KEY:CHANNEL; auto finds raw."
PIXEL_SIZE = "Pixel size in nm; auto reads it from the files where they say it."
REQUESTED = (
    "Metrics scored besides the usual ones, comma-separated: false_distance_*, cremi_*, "
    "matched_iou, object_*; or none."
)
# Along which axes models of sections are applied to volumes.
XY, ORTHOGONAL = "xy", "orthogonal"
SECTION = "Distance of sections in nm; auto reads it where the files say it."
# Where a step computes: typed as auto, a result may come from any machine.
_AS_TYPED = ("device", "precision", "engine")
_BOOLEANS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    identity: bool = True,
    added: bool = False,
) -> Any:
    """Declares a field of a config.

    Args:
        default: Its default.
        help: One sentence for ``--help``.
        choices: The names allowed.
        minimum: The smallest number allowed.
        maximum: The largest number allowed.
        identity: Whether the value changes the result. Only those settings are part of the
            fingerprint by which a finished run is found again.
        added: Whether there were runs before there was this setting: its default, which is what
            they did, is then no part of the fingerprint.
    """
    metadata = {
        "help": help,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
        "identity": identity,
        "added": added,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class StepConfig:
    """What the settings of all steps have in common: their bounds are checked when made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_setting(field, getattr(self, field.name))

    def identity(self, resolved: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings that change the result, by name.

        Args:
            resolved: What they are where they are ``auto``, under the same names; others may be
                among them. Device and precision count as they were typed.
        """
        given = {name: v for name, v in (resolved or {}).items() if name not in _AS_TYPED}
        values = {
            field: given.get(field.name, getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.metadata["identity"]
        }
        return {
            field.name: value
            for field, value in values.items()
            if not (field.metadata["added"] and value == field.default)
        }


def _check_setting(field: "dataclasses.Field[Any]", value: Any) -> None:
    limits = field.metadata
    if value is None:
        return
    if limits["choices"] is not None and value not in limits["choices"]:
        raise unknown_name(field.name, str(value), limits["choices"])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise BenchError(f"{field.name} must be a finite number, received {value}")
    if limits["minimum"] is not None and value < limits["minimum"]:
        raise BenchError(f"{field.name} must be at least {limits['minimum']}, received {value}")
    if limits["maximum"] is not None and value > limits["maximum"]:
        raise BenchError(f"{field.name} must be at most {limits['maximum']}, received {value}")


def typed_settings(config: StepConfig) -> dict[str, Any]:
    """The settings of a config that differ from their defaults, by name."""
    return {
        field.name: value
        for field in dataclasses.fields(config)
        if (value := getattr(config, field.name)) != field.default
    }


def parse_settings(config_type: type[StepConfig], text: str) -> dict[str, Any]:
    """Reads ``iterations=1000,confidence=auto`` as settings of a step.

    Args:
        config_type: The step's config.
        text: Settings, separated by commas, or by semicolons where a value has commas; ``none``
            for none.

    Raises:
        BenchError: If a setting has no value, is unknown, or is not of its type.
    """
    if text.strip().lower() in ("none", ""):
        return {}
    hints = get_type_hints(config_type)
    settings = {}
    for part in text.split(";" if ";" in text else ","):
        name, sign, value = (piece.strip() for piece in part.partition("="))
        if not sign:
            raise BenchError(
                f"settings are name=value, separated by commas (or semicolons), received {part!r}"
            )
        if name not in hints:
            raise unknown_name(f"setting of {config_type.__name__}", name, hints)
        settings[name] = _parse_value(name, value, hints[name])
    return settings


def _parse_value(name: str, value: str, hint: Any) -> Any:
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    if value == AUTO and type(None) in get_args(hint):
        return None
    if kinds == [bool]:
        if value.lower() not in _BOOLEANS:
            raise BenchError(f"{name} must be true or false, received {value!r}")
        return _BOOLEANS[value.lower()]
    try:
        return kinds[0](value)
    except ValueError as error:
        raise BenchError(f"{name} must be a {kinds[0].__name__}, received {value!r}") from error
