"""The settings of the steps that run on many machines."""

from dataclasses import dataclass

from bench.config.settings import (
    AUGMENTATION_CHOICES,
    ENGINES,
    ORTHOGONAL,
    PIXEL_SIZE,
    RAW_KEY,
    REQUESTED,
    SCORING_ENGINES,
    SECTION,
    STALE_MIN,
    XY,
    StepConfig,
    setting,
)
from bench.config.training import TrainingConfig
from bench.words import AUTO, HDF5, MRC, NONE, OME_ZARR, TIFF

# Sizes of a benchmark, the smallest first.
PRESETS = ("quick", "evening", "paper")


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

    preset: str = setting(
        AUTO,
        "Size of the benchmark, for what is left auto: quick is minutes, evening hours, paper as "
        "published; auto is paper (docs/presets.md).",
        choices=(AUTO, *PRESETS),
        identity=False,
    )
    plan: bool = setting(
        False,
        "Check everything, say what would be done and how long it takes, and stop.",
        identity=False,
    )
    methods: str = setting(
        AUTO,
        "Rows of METHODS, comma-separated; all takes those of the first release; auto: those of "
        "the preset whose weights are there, else its methods from random weights.",
    )
    iterations: int | None = setting(
        None, "Training iterations; auto is the preset's, 5000 in paper.", minimum=1
    )
    labelled: str = setting(
        "all", "Annotated training sections used, comma-separated: 1,3,all is a learning curve."
    )
    domain_adapt: str = setting(
        "none", "Settings of domain_adapt for its stages: iterations=1000,confidence=auto."
    )
    # The trainings that start from what it makes say which it was, by the hash of its weights.
    pretrain: str = setting(
        NONE,
        "Settings of pretrain for its stages: iterations=1000,batch_size=8; or input=A,B;lr=...",
        identity=False,
    )
    detect: str = setting(
        NONE,
        "Settings of detect for the detectors of its stages: iterations=3000,lr=1e-3.",
        identity=False,
    )
    microsam: str = setting(
        "none", "Settings of microsam for its stages: source=FILE,iterations=500."
    )
    structures: str = setting("all", "Structures, comma-separated; all takes the dataset's.")
    seeds: str = setting(AUTO, "Seeds, comma-separated; auto is the preset's, 0 in paper.")
    split: str = setting("test", "Split to score.", choices=("val", "test"))
    protocol: str = setting("data", "Post-processing, as in evaluate.", choices=("data", "paper"))
    augmentations: str = setting(
        "none",
        "Symmetries whose mean is scored, as in evaluate; micro-SAM is scored without.",
        choices=AUGMENTATION_CHOICES,
    )
    # The evaluations' identity has these.
    engine: str = setting(
        AUTO,
        "What computes networks of sections on a CPU in evaluations, as in evaluate.",
        choices=SCORING_ENGINES,
        identity=False,
    )
    metrics: str = setting(NONE, REQUESTED, identity=False)
    planes: str = setting(
        XY,
        "How networks of sections see isotropic volumes, as in evaluate.",
        choices=(XY, ORTHOGONAL),
        identity=False,
    )
    # An evaluation's identity has what it is of.
    external: str = setting(
        NONE,
        "Other prepared datasets, comma-separated, that every trained model is scored on besides, "
        "as it is; or none.",
        identity=False,
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
    raw_key: str = setting(AUTO, RAW_KEY)
    pixel_size_nm: float | None = setting(None, PIXEL_SIZE, minimum=0.01)
    section_nm: float | None = setting(None, SECTION, minimum=0.01)
    augmentations: str = setting(
        AUTO,
        "Symmetries that every model is averaged over; auto follows the search or evaluation.",
        choices=(AUTO, *AUGMENTATION_CHOICES),
    )
    planes: str = setting(
        AUTO,
        "How networks of sections see volumes: xy, or orthogonal along z, y and x; auto follows "
        "the search or evaluation.",
        choices=(AUTO, XY, ORTHOGONAL),
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
    engine: str = setting(
        AUTO,
        "What computes networks of sections on a CPU: torch, or openvino; auto follows the "
        "evaluation.",
        choices=ENGINES,
        added=True,
    )
    format: str = setting(
        TIFF, "Files of labels and probability.", choices=(TIFF, OME_ZARR, MRC, HDF5)
    )
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
