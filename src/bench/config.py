"""The settings of every step: one frozen dataclass each, and the only home of defaults.

Command-line options are made from these fields and MLproject repeats their defaults (a test
compares them). A type ``X | None`` is typed as ``auto`` on the command line: the step decides,
says what it chose, and logs it.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, get_args, get_type_hints

from bench.errors import BenchError, unknown_name

AUTO = "auto"
NONE = "none"
# Minutes without a sign of life after which a run of another machine counts as gone.
STALE_MIN = 10.0
# Choices of symmetries under which sections are predicted.
AUGMENTATION_CHOICES = (NONE, "paper", "all")
BOOLEANS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}


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
        settings[name] = parse_value(name, value, hints[name])
    return settings


def parse_value(name: str, value: str, hint: Any) -> Any:
    """Reads the text of a setting as its type."""
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    if value == AUTO and type(None) in get_args(hint):
        return None
    if kinds == [bool]:
        if value.lower() not in BOOLEANS:
            raise BenchError(f"{name} must be true or false, received {value!r}")
        return BOOLEANS[value.lower()]
    try:
        return kinds[0](value)
    except ValueError as error:
        raise BenchError(f"{name} must be a {kinds[0].__name__}, received {value!r}") from error


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
        "Folder {train,val,test}/{raw,<structure>...}/, images with annotation files beside them, "
        "a TrakEM2 project, an HDF5 or Zarr volume; 'phantom' makes synthetic data.",
        identity=False,
    )
    output: str = setting("data/prepared", "Folder of the prepared dataset.", identity=False)
    pixel_size_nm: float | None = setting(
        None, "Pixel size in nm; auto reads it from the files where they say it.", minimum=0.01
    )
    section_nm: float | None = setting(
        None, "Distance of sections in nm; auto reads it where the files say it.", minimum=0.01
    )
    splits: str = setting(
        AUTO,
        "auto keeps the folders; or train=0-15;val=16;test=18 by section number, "
        "regions:train=0;val=1;test=2, kfold=5/0, or paper.",
    )
    min_gap_nm: float = setting(
        100.0,
        "Neighbours in different splits that are closer are reported.",
        minimum=0,
        identity=False,
    )
    structures: str = setting(
        "all", "Structures to take, or classes that stand for them: vesicle=vesicles,mito*=mito."
    )
    raw_key: str = setting(
        AUTO, "Array of raw sections in an HDF5 or Zarr volume; auto finds one named raw."
    )
    margin_px: int = setting(
        64, "Margin in px around the annotated regions of a TrakEM2 project.", minimum=0
    )
    roots: str = setting(
        "none",
        "Further folders in which a project's images may lie, comma-separated.",
        identity=False,
    )
    check: bool = setting(False, "Report on the data and write no dataset.", identity=False)
    overwrite: bool = setting(
        False, "Replace a prepared dataset of other content in output.", identity=False
    )


@dataclass(frozen=True)
class TrainingConfig(StepConfig):
    """What finetune and benchmark share; the defaults are the paper's protocol."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    source: str = setting(
        AUTO,
        "Weights to start from: synapsenet:NAME, runs:/ID, a checkpoint file or folder, or random.",
    )
    rescale: bool = setting(
        True, "Resample to the source's pixel size where both are known; false feeds as it is."
    )
    trust_checkpoint: bool = setting(
        False, "Let a foreign checkpoint run code of its own while it is read.", identity=False
    )
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
    tile_px: int | None = setting(
        None, "Tile in px, without halo; auto chooses it and the halo on validation.", minimum=16
    )
    halo_px: int | None = setting(
        None, "Halo around a tile in px; auto is 64 where tile_px is given.", minimum=0
    )
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
    labelled: int | None = setting(
        None, "Annotated training sections used, drawn by the seed; auto uses all.", minimum=1
    )


@dataclass(frozen=True)
class PhantomModelsConfig(StepConfig):
    """Settings of the small source models of demo and tests."""

    dataset: str = setting("data/prepared", "Prepared dataset to train on.", identity=False)
    output: str = setting("data/phantom_models", "Folder to write.", identity=False)
    iterations: int = setting(100, "Training iterations of a U-Net.", minimum=1)
    lr: float = setting(2e-3, "Learning rate, falling to zero.", minimum=1e-8, maximum=1)
    features: int = setting(16, "Features of the U-Net's first level.", minimum=2, maximum=256)
    patch_px: int = setting(128, "Edge of a patch in px, a multiple of 16.", minimum=32)
    batch_size: int = setting(8, "Patches in a batch.", minimum=1)
    tile_px: int = setting(384, "Tile the network is applied to, without halo, in px.", minimum=16)
    halo_px: int = setting(64, "Halo around a tile in px.", minimum=0)
    sam_iterations: int = setting(100, "Training iterations of a SAM.", minimum=1)
    sam_lr: float = setting(5e-4, "Learning rate of a SAM.", minimum=1e-8, maximum=1)
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
    augmentations: str = setting(
        "none",
        "Symmetries predicted, whose mean is scored: none, the paper's seven, or all eight.",
        choices=AUGMENTATION_CHOICES,
    )
    threshold: float = setting(
        0.5, "Probability from which a pixel is foreground.", minimum=0, maximum=1
    )
    separation: str = setting(
        AUTO,
        "auto separates touching instances as the model says; components leaves them together.",
        choices=(AUTO, "components"),
    )
    opening_radius_px: int | None = setting(
        None, "Radius of the opening; auto follows protocol.", minimum=0, maximum=64
    )
    min_area_px: int | None = setting(
        None, "Smallest instance kept; auto follows protocol.", minimum=0
    )
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    seed: int | None = setting(None, "Seed of the run, where run_id is auto; auto takes any.")
    source: str = setting(AUTO, "The model of method unadapted: synapsenet:NAME, runs:/ID, a file.")
    segmentation: str = setting(
        "own",
        "How a model is applied and instances found; synapse_net takes that package's way.",
        choices=("own", "synapse_net"),
    )
    rescale: bool = setting(
        True, "Resample to the model's pixel size where both are known; false feeds as it is."
    )
    trust_checkpoint: bool = setting(
        False, "Let a foreign checkpoint run code of its own while it is read.", identity=False
    )


@dataclass(frozen=True)
class CompareConfig(StepConfig):
    """Settings of compare."""

    output: str = setting("results", "Folder for the tables and the chart.", identity=False)
    experiment: str = setting(AUTO, "Experiment to read; auto is that of this run.")
    split: str = setting("test", "Split to tabulate.", choices=("train", "val", "test"))
    protocol: str = setting(
        "data", "Post-processing of the evaluations to tabulate.", choices=("data", "paper")
    )
    augmentations: str = setting(
        "none",
        "Test-time augmentation of the evaluations to tabulate.",
        choices=AUGMENTATION_CHOICES,
    )
    dataset: str = setting(AUTO, "Prepared dataset or its hash; auto tabulates every dataset.")
    reference: str = setting(NONE, "CSV table of published scores to stand beside ours, or none.")
    watch: bool = setting(
        False, "Keep the table up to date until no run of the experiment goes on.", identity=False
    )
    watch_seconds: float = setting(
        10.0, "watch: seconds between two looks.", minimum=0.1, maximum=86400, identity=False
    )


@dataclass(frozen=True)
class OptimizeConfig(StepConfig):
    """Settings of optimize."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    structure: str = setting("mitochondria", "Structure; aliases such as mito work.")
    metric: str = setting("dice", "Validation metric that chooses, one of METRICS.")
    runs: str = setting(
        AUTO,
        "Evaluations or trainings, comma-separated; auto: the newest of every method and seed.",
        identity=False,
    )
    methods: str = setting("all", "Rows of METHODS, comma-separated.", identity=False)
    experiment: str = setting(AUTO, "Experiment to read; auto is that of this run.", identity=False)
    augmentations: str = setting(
        "subsets",
        "Of those stored: every subset of a model's, the best k, none and all, or none.",
        choices=("subsets", "best_k", "all", "none"),
    )
    ensembles: str = setting(
        "mean,weighted,maximum,vote", "Kinds of ensembles, comma-separated, or none."
    )
    largest_ensemble: int = setting(3, "Models in an ensemble at most.", minimum=2, maximum=8)
    pool: int = setting(6, "Models that ensembles are made of, the best alone.", minimum=2)
    shortlist: int = setting(
        4, "Subsets of augmentations that ensembles are tried with, the best alone.", minimum=0
    )
    weighted_means: int = setting(5, "Means whose weights are tried, the best ones.", minimum=1)
    finalists: int = setting(6, "Blends that are post-processed, the best by pixels.", minimum=1)
    opening_radii_px: str = setting("0,1,2,3", "Radii of the opening, comma-separated.")
    min_areas_px: str = setting(
        AUTO,
        "Smallest areas, comma-separated; auto: none, the paper's, and the evaluations' from an "
        "eighth to eight times.",
    )
    output: str = setting(
        "results/optimize", "Folder for the recipe, tables and pictures.", identity=False
    )


@dataclass(frozen=True)
class PromoteConfig(StepConfig):
    """Settings of promote."""

    structure: str = setting("mitochondria", "Structure; aliases such as mito work.")
    run_id: str = setting(AUTO, "Search (optimize) to promote; auto: the newest of the structure.")
    experiment: str = setting(AUTO, "Experiment to read; auto is that of this run.", identity=False)
    replace: bool = setting(
        False,
        "Replace a champion that is better by the same metric on the same dataset.",
        identity=False,
    )


@dataclass(frozen=True)
class ClusterConfig(StepConfig):
    """Where the tasks of a step run."""

    cluster: str = setting(
        AUTO,
        "Where tasks run: none (here, one after the other), local, slurm, kubernetes, or the "
        "address of a dask scheduler (tcp://HOST:8786); auto: local with several GPUs or workers, "
        "else none.",
        identity=False,
    )
    cluster_profile: str = setting(
        NONE, "cluster: YAML file with its settings, or none (docs/cluster.md).", identity=False
    )
    workers: int | None = setting(
        None,
        "cluster: workers, each with a task at a time; auto: one per GPU here, else one.",
        minimum=1,
        maximum=10000,
        identity=False,
    )


@dataclass(frozen=True)
class BenchmarkConfig(ClusterConfig, TrainingConfig):
    """Settings of benchmark: a grid, and the settings of finetune for each of its cells."""

    methods: str = setting(
        "all", "Rows of METHODS, comma-separated; all takes those of the first release."
    )
    labelled: str = setting(
        "all", "Annotated training sections used, comma-separated: 1,3,all is a learning curve."
    )
    domain_adapt: str = setting(
        "none", "Settings of domain_adapt for its stages: iterations=1000,confidence=auto."
    )
    microsam: str = setting(
        "none", "Settings of microsam for its stages: source=FILE,iterations=500."
    )
    structures: str = setting("all", "Structures, comma-separated; all takes the dataset's.")
    seeds: str = setting("0", "Seeds, comma-separated.")
    split: str = setting("test", "Split to score.", choices=("val", "test"))
    protocol: str = setting("data", "Post-processing, as in evaluate.", choices=("data", "paper"))
    augmentations: str = setting(
        "none",
        "Symmetries whose mean is scored, as in evaluate; micro-SAM is scored without.",
        choices=AUGMENTATION_CHOICES,
    )
    optimize: bool = setting(
        True, "Search the best combination of every structure at the end, on validation."
    )
    metric: str = setting("dice", "Validation metric that chooses the best combination.")
    resume: bool = setting(
        True, "Go on with runs that were killed; false begins them anew.", identity=False
    )
    stale_min: float = setting(
        STALE_MIN,
        "Minutes without a sign of life after which a run of another machine counts as gone.",
        minimum=1,
        maximum=10080,
        identity=False,
    )
    output: str = setting("results", "Folder for the tables and the chart.", identity=False)


@dataclass(frozen=True)
class MicrosamConfig(StepConfig):
    """Settings of microsam."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    structure: str = setting("mitochondria", "Structure to segment; aliases such as mito work.")
    mode: str = setting(
        "zero_shot",
        "zero_shot segments with the source as it is; finetune trains it first.",
        choices=("zero_shot", "finetune"),
    )
    source: str = setting(
        AUTO, "Name of a micro_sam model (auto: vit_b_em_organelles), runs:/ID, or a SAM file."
    )
    trust_checkpoint: bool = setting(
        False, "Let a foreign checkpoint run code of its own while it is read.", identity=False
    )
    rescale: bool = setting(
        True, "Resample to the source's pixel size where both are known; false feeds as it is."
    )
    segmentation: str = setting(
        AUTO,
        "amg prompts with a grid of points, ais uses micro_sam's decoder; auto: ais if it can.",
        choices=(AUTO, "amg", "ais"),
    )
    points_per_side: int = setting(
        32, "amg: points along each side of a window.", minimum=1, maximum=256
    )
    pred_iou_thresh: float = setting(
        0.88, "amg: masks of less expected IoU are dropped.", minimum=0, maximum=1
    )
    stability_score_thresh: float = setting(
        0.95, "amg: masks that are less stable are dropped.", minimum=0, maximum=1
    )
    box_nms_thresh: float = setting(
        0.7, "amg: of masks whose boxes overlap more, the best stays.", minimum=0, maximum=1
    )
    center_distance_threshold: float = setting(
        0.5, "ais: distance to the centre below which a seed lies.", minimum=0, maximum=1
    )
    boundary_distance_threshold: float = setting(
        0.5, "ais: the same of the distance that is 1 at the boundary.", minimum=0, maximum=1
    )
    foreground_threshold: float = setting(
        0.5, "ais: probability from which a pixel is foreground.", minimum=0, maximum=1
    )
    size_filter: str = setting(
        "data",
        "data keeps instances of areas like the annotated ones; paper, above the paper's minimum.",
        choices=("data", "paper"),
    )
    min_area_px: int | None = setting(
        None, "Smallest instance kept; auto follows size_filter.", minimum=0
    )
    max_area_px: int | None = setting(
        None, "Largest instance kept; auto follows size_filter.", minimum=1
    )
    tile_px: int = setting(
        384, "Window that SAM sees at once, without halo, in px.", minimum=16, maximum=8192
    )
    halo_px: int = setting(64, "Half of the overlap of two windows in px.", minimum=0)
    labelled: int | None = setting(
        None, "Annotated training sections used, drawn by the seed; auto uses all.", minimum=1
    )
    iterations: int = setting(2500, "finetune: training iterations.", minimum=1)
    lr: float = setting(1e-5, "finetune: learning rate of AdamW.", minimum=1e-8, maximum=1)
    schedule: str = setting(
        "plateau",
        "finetune: plateau lowers the rate when validation stalls; cosine falls to zero.",
        choices=("plateau", "cosine"),
    )
    batch_size: int = setting(1, "finetune: patches in a batch.", minimum=1)
    patch_px: int = setting(
        512, "finetune: edge of a patch in px; SAM resizes it as it does a window.", minimum=32
    )
    sub_iterations: int = setting(
        8, "finetune: prompts of an iteration, each where the last mask is wrong.", minimum=1
    )
    objects_per_batch: int = setting(
        25, "finetune: instances prompted in an iteration; memory grows with it.", minimum=1
    )
    freeze: str = setting(
        "image_encoder",
        "finetune: parts not trained, of image_encoder, prompt_encoder, mask_decoder; or none.",
    )
    lora_rank: int = setting(
        0, "finetune: rank of LoRA updates of the image encoder, 0 is none.", minimum=0, maximum=256
    )
    epoch_iterations: int | None = setting(
        None, "finetune: iterations between validations; auto is a tenth, 50 to 250.", minimum=1
    )
    checkpoint_iterations: int | None = setting(
        None,
        "Iterations between checkpoints; auto is 25, or every epoch.",
        minimum=1,
        identity=False,
    )
    precision: str = setting(
        AUTO,
        "finetune: auto is bf16 where the device has it. Masks are always found in fp32.",
        choices=(AUTO, "fp32", "bf16", "fp16"),
    )
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    seed: int = setting(0, "Random seed.", minimum=0)


@dataclass(frozen=True)
class DomainAdaptConfig(StepConfig):
    """Settings of domain_adapt; the defaults are the paper's protocol."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    structure: str = setting("mitochondria", "Structure to adapt to; aliases such as mito work.")
    source: str = setting(
        AUTO, "Model to adapt: synapsenet:NAME, runs:/ID, a checkpoint file or folder."
    )
    unlabelled: str = setting(
        AUTO,
        "Folders or files of images, comma-separated; auto: the dataset's montages, or else train.",
        identity=False,
    )
    method: str = setting(
        AUTO,
        "Row of METHODS; auto finds it from confidence.",
        choices=(AUTO, "domain_adapted", "domain_adapted_auto"),
    )
    confidence: float | None = setting(
        0.9,
        "Probability from which a pseudo-label counts; auto follows from the teacher's scores.",
        minimum=0.5,
        maximum=1,
    )
    ema: float = setting(
        0.999, "Share of the teacher's weights kept in an iteration.", minimum=0, maximum=1
    )
    noise: float = setting(
        0.1, "Largest noise of the student's view, in deviations.", minimum=0, maximum=2
    )
    blur_px: float = setting(1.0, "Largest blur of the student's view.", minimum=0, maximum=16)
    gamma: float = setting(
        0.3, "Largest change of the student's grey values, log gamma.", minimum=0, maximum=3
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
    batch_size: int = setting(4, "Patches in a batch.", minimum=1)
    patch_px: int = setting(256, "Edge of a patch in px, a multiple of 16.", minimum=32)
    epoch_iterations: int | None = setting(
        None, "Iterations between validations; auto is a twentieth, 50 to 250.", minimum=1
    )
    select: str = setting(
        "val",
        "Teacher that is kept: val, the best on validation labels (the source included), or last.",
        choices=("val", "last"),
    )
    warn_empty_iterations: int = setting(
        100, "Iterations without pseudo-foreground before a warning.", minimum=1, identity=False
    )
    rescale: bool = setting(
        True, "Resample to the source's pixel size where both are known; false feeds as it is."
    )
    trust_checkpoint: bool = setting(
        False, "Let a foreign checkpoint run code of its own while it is read.", identity=False
    )
    tile_px: int | None = setting(
        None, "Tile the network is applied to, in px; auto is the source's.", minimum=16
    )
    halo_px: int | None = setting(
        None, "Halo around a tile in px; auto is the source's.", minimum=0
    )
    precision: str = setting(
        AUTO, "auto is bf16 where the device has it.", choices=(AUTO, "fp32", "bf16", "fp16")
    )
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    checkpoint_iterations: int | None = setting(
        None, "Iterations between checkpoints; auto is every epoch.", minimum=1, identity=False
    )
    seed: int = setting(0, "Random seed.", minimum=0)


@dataclass(frozen=True)
class ExportConfig(StepConfig):
    """Settings of export."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    run_id: str = setting(
        AUTO, "Evaluation whose instances are written; auto or none: the dataset's annotation."
    )
    format: str = setting(
        "trakem2",
        "What to write: a TrakEM2 project, an IMOD model, Fiji ROIs, label images or OME-Zarr.",
        choices=("trakem2", "imod", "imod_spheres", "rois", "tiff", "ome_zarr"),
    )
    output: str = setting("data/export", "New folder to write.", identity=False)
    split: str = setting(
        AUTO, "Split; auto is the run's, of annotation val.", choices=(AUTO, "train", "val", "test")
    )
    structure: str = setting(
        AUTO, "Structures of the annotation, comma-separated; auto takes the run's, or all."
    )


@dataclass(frozen=True)
class SegmentConfig(ClusterConfig):
    """Settings of segment."""

    structure: str = setting(
        AUTO, "Structure whose champion is applied; auto: that of run_id, or the only champion."
    )
    run_id: str = setting(
        AUTO,
        "What is applied: a search (optimize), training or evaluation, or models:/NAME@ALIAS; "
        "auto is the champion of the structure.",
    )
    input: str = setting(
        "data/phantom/montages", "Image, stack or volume, or a folder of them.", identity=False
    )
    output: str = setting("data/segmented", "New folder to write.", identity=False)
    raw_key: str = setting(
        AUTO, "Array of raw sections in an HDF5 or Zarr volume; auto finds one named raw."
    )
    pixel_size_nm: float | None = setting(
        None, "Pixel size in nm; auto reads it from the files where they say it.", minimum=0.01
    )
    augmentations: str = setting(
        AUTO,
        "Symmetries that every model is averaged over; auto follows the search or evaluation.",
        choices=(AUTO, *AUGMENTATION_CHOICES),
    )
    rescale: bool | None = setting(
        None,
        "Resample to the model's pixel size where both are known; auto follows the search or "
        "evaluation, else true.",
    )
    threshold: float | None = setting(
        None,
        "Probability from which a pixel is foreground; auto follows the search or evaluation, "
        "else 0.5.",
        minimum=0,
        maximum=1,
    )
    separation: str = setting(
        AUTO,
        "auto separates touching instances as the evaluation or the model says; components does "
        "not.",
        choices=(AUTO, "components"),
    )
    opening_radius_px: int | None = setting(
        None,
        "Radius of the opening in px of the image; auto follows the search or evaluation.",
        minimum=0,
        maximum=64,
    )
    min_area_px: int | None = setting(
        None,
        "Smallest instance kept, in px of the image; auto follows the search or evaluation.",
        minimum=0,
    )
    format: str = setting("tiff", "Files of labels and probability.", choices=("tiff", "ome_zarr"))
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
