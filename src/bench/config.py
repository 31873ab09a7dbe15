"""The settings of every step: one frozen dataclass each, and the only home of defaults.

Command-line options are made from these fields and MLproject repeats their defaults (a test
compares them). A type ``X | None`` is typed as ``auto`` on the command line: the step decides,
says what it chose, and logs it.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from bench.errors import BenchError, unknown_name

AUTO = "auto"


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    identity: bool = True,
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
    """
    metadata = {
        "help": help,
        "choices": choices,
        "minimum": minimum,
        "maximum": maximum,
        "identity": identity,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class StepConfig:
    """What the settings of all steps have in common: their bounds are checked when made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            check_setting(field, getattr(self, field.name))

    def identity(self) -> dict[str, Any]:
        """The settings that change the result, by name."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.metadata["identity"]
        }


def check_setting(field: "dataclasses.Field[Any]", value: Any) -> None:
    """Raises BenchError where a value is outside its field's choices or bounds."""
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


@dataclass(frozen=True)
class PhantomConfig(StepConfig):
    """Settings of the synthetic data set."""

    output: str = setting("data/phantom", "Folder to write.", identity=False)
    domain: str = setting("resin", "Contrast of the images.", choices=("resin", "cryo"))
    regions: int = setting(3, "Annotated regions, each followed through the sections.", minimum=1)
    sections: int = setting(3, "Serial sections of each region.", minimum=3)
    size_px: int = setting(512, "Edge of an annotated region in px.", minimum=128, maximum=8192)
    montage_px: int = setting(1024, "Edge of a montage in px.", minimum=128, maximum=16384)
    pixel_size_nm: float = setting(5.0, "Pixel size in nm.", minimum=0.5, maximum=20)
    seed: int = setting(0, "Random seed.", minimum=0)


@dataclass(frozen=True)
class PrepareConfig(StepConfig):
    """Settings of prepare."""

    input: str = setting(
        "phantom",
        "Folder {train,val,test}/{raw,<structure>...}/ of images; 'phantom' makes synthetic data.",
        identity=False,
    )
    output: str = setting("data/prepared", "Folder of the prepared dataset.", identity=False)
    pixel_size_nm: float | None = setting(
        None, "Pixel size in nm; auto reads it from the files where they say it.", minimum=0.01
    )
    splits: str = setting(
        AUTO, "auto keeps the folders; or train=0-15;val=16,17;test=18-20 by section number."
    )
    structures: str = setting("all", "Structures to take, comma-separated; all takes every one.")
    overwrite: bool = setting(
        False, "Replace a prepared dataset of other content in output.", identity=False
    )


@dataclass(frozen=True)
class TrainingConfig(StepConfig):
    """What finetune and benchmark share; the defaults are the paper's protocol."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    source: str = setting(AUTO, "Weights to start from: random, runs:/ID or a checkpoint file.")
    loss: str = setting(AUTO, "focal_dice, dice, or auto for the method's.")
    focal_gamma: float = setting(2.0, "Focusing exponent of the focal term.", minimum=0, maximum=10)
    foreground_weight: float | None = setting(
        None, "Weight of foreground in the focal term; auto takes the structure's.", minimum=0
    )
    iterations: int = setting(5000, "Training iterations.", minimum=1)
    lr: float = setting(1e-4, "Learning rate of Adam.", minimum=1e-8, maximum=1)
    schedule: str = setting(
        "plateau",
        "plateau halves the rate when validation stalls; cosine falls to zero over the budget.",
        choices=("plateau", "cosine"),
    )
    plateau_factor: float = setting(0.5, "Factor of plateau.", minimum=0.01, maximum=0.99)
    plateau_patience: int = setting(10, "Epochs without gain before plateau.", minimum=0)
    batch_size: int = setting(8, "Patches in a batch.", minimum=1)
    patch_px: int = setting(256, "Edge of a patch in px, a multiple of 16.", minimum=32)
    foreground_fraction: float = setting(
        0.5, "Share of patches drawn around an instance of the structure.", minimum=0, maximum=1
    )
    rotate: bool = setting(True, "Augment by rotations.")
    flip: bool = setting(True, "Augment by flips.")
    elastic_px: float = setting(4.0, "Strength of elastic deformation, px.", minimum=0, maximum=64)
    noise: float = setting(
        0.1, "Largest Gaussian noise, in standard deviations of the image.", minimum=0, maximum=2
    )
    features: int = setting(32, "Features of the U-Net's first level.", minimum=2, maximum=256)
    epoch_iterations: int | None = setting(
        None, "Iterations between validations; auto is a twentieth, 50 to 250.", minimum=1
    )
    tile_px: int = setting(384, "Tile the network is applied to, without halo, in px.", minimum=16)
    halo_px: int = setting(64, "Halo around a tile in px.", minimum=0)
    precision: str = setting(
        AUTO, "auto is bf16 where the device has it.", choices=(AUTO, "fp32", "bf16", "fp16")
    )
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    checkpoint_iterations: int | None = setting(
        None, "Iterations between checkpoints; auto is every epoch.", minimum=1, identity=False
    )


@dataclass(frozen=True)
class FinetuneConfig(TrainingConfig):
    """Settings of finetune."""

    structure: str = setting("mitochondria", "Structure to learn; aliases such as mito work.")
    method: str = setting(AUTO, "Row of METHODS; auto finds it from source and loss.")
    seed: int = setting(0, "Random seed.", minimum=0)


@dataclass(frozen=True)
class EvaluateConfig(StepConfig):
    """Settings of evaluate."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    run_id: str = setting(AUTO, "Run that trained the model; auto takes the newest of method.")
    method: str = setting(AUTO, "Row of METHODS, where run_id is auto; auto takes any.")
    structure: str = setting(AUTO, "Structure; auto takes the run's (needs run_id).")
    split: str = setting("val", "Split to score.", choices=("train", "val", "test"))
    protocol: str = setting(
        "data",
        "data derives opening and area from training annotations; paper uses the paper's pixels.",
        choices=("data", "paper"),
    )
    threshold: float = setting(
        0.5, "Probability from which a pixel is foreground.", minimum=0, maximum=1
    )
    opening_radius_px: int | None = setting(
        None, "Radius of the opening; auto follows protocol.", minimum=0, maximum=64
    )
    min_area_px: int | None = setting(
        None, "Smallest instance kept; auto follows protocol.", minimum=0
    )
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    seed: int | None = setting(None, "Seed of the run, where run_id is auto; auto takes any.")


@dataclass(frozen=True)
class CompareConfig(StepConfig):
    """Settings of compare."""

    output: str = setting("results", "Folder for the tables and the chart.", identity=False)
    experiment: str = setting(AUTO, "Experiment to read; auto is that of this run.")
    split: str = setting("test", "Split to tabulate.", choices=("train", "val", "test"))
    protocol: str = setting(
        "data", "Post-processing of the evaluations to tabulate.", choices=("data", "paper")
    )
    dataset: str = setting(AUTO, "Prepared dataset or its hash; auto tabulates every dataset.")


@dataclass(frozen=True)
class BenchmarkConfig(TrainingConfig):
    """Settings of benchmark: a grid, and the settings of finetune for each of its cells."""

    methods: str = setting("scratch,scratch_dice", "Rows of METHODS, comma-separated.")
    structures: str = setting("all", "Structures, comma-separated; all takes the dataset's.")
    seeds: str = setting("0", "Seeds, comma-separated.")
    split: str = setting("test", "Split to score.", choices=("val", "test"))
    protocol: str = setting("data", "Post-processing, as in evaluate.", choices=("data", "paper"))
    output: str = setting("results", "Folder for the tables and the chart.", identity=False)
