"""The settings of the steps that score, compare and choose."""

from dataclasses import dataclass

from bench.config.settings import (
    AUGMENTATION_CHOICES,
    ORTHOGONAL,
    REQUESTED,
    SCORING_ENGINES,
    TRUST,
    XY,
    StepConfig,
    setting,
)
from bench.words import AUTO, NONE


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
        "Symmetries predicted, whose mean is scored: none, the paper's seven, or all eight; of "
        "volumes those that keep a missing wedge.",
        choices=AUGMENTATION_CHOICES,
    )
    threshold: float = setting(
        0.5, "Probability from which a pixel is foreground.", minimum=0, maximum=1
    )
    scored: str = setting(
        AUTO,
        "auto scores volumes as a whole and all else by section; sections scores their planes.",
        choices=(AUTO, "sections"),
    )
    spheres: str = setting(
        AUTO,
        "Whether vesicles of volumes become spheres, of sections circles, and by which protocol: "
        "auto spheres where a 3D network found them; paper is as published for CryoVesNet.",
        choices=(AUTO, "none", "data", "paper"),
    )
    planes: str = setting(
        XY,
        "How a network of sections sees an isotropic volume: xy along z; orthogonal along z, y "
        "and x, whose mean counts (protocol=paper floors it as published).",
        choices=(XY, ORTHOGONAL),
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
    engine: str = setting(
        AUTO,
        "What computes networks of sections on a CPU: torch, openvino (where installed), or auto, "
        "the faster on one tile; openvino_int8 takes eight bits if validation Dice stays the same.",
        choices=SCORING_ENGINES,
        added=True,
    )
    seed: int | None = setting(None, "Seed of the run, where run_id is auto; auto takes any.")
    source: str = setting(
        AUTO,
        "The model of method unadapted or cryovesnet: synapsenet:NAME, cryovesnet:FILE, runs:/ID, "
        "a file.",
    )
    metrics: str = setting(NONE, REQUESTED)
    segmentation: str = setting(
        "own",
        "How a model is applied and instances found; synapse_net takes that package's way.",
        choices=("own", "synapse_net"),
    )
    rescale: bool = setting(
        True, "Resample to the model's pixel size where both are known; false feeds as it is."
    )
    trust_checkpoint: bool = setting(False, TRUST, identity=False)


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
    metric: str = setting("dice", "What intervals, tests, ranks and charts are of, one of METRICS.")
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
    metrics: str = setting(NONE, REQUESTED)
    planes: str = setting(
        AUTO,
        "Of volumes, the evaluations searched: of planes xy or orthogonal; auto: the newest.",
        choices=(AUTO, XY, ORTHOGONAL),
        identity=False,
    )
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
    circles: bool = setting(
        False, "Try vesicles of sections as circles, too; of volumes the evaluations say it."
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
        "Replace a champion that is better on the same data, or is of other data of that name.",
        identity=False,
    )


@dataclass(frozen=True)
class PublishConfig(StepConfig):
    """Settings of publish."""

    structure: str = setting(
        AUTO, "Structure whose champion is published; auto: that of run_id, or the only champion."
    )
    run_id: str = setting(
        AUTO,
        "What is published: a search (optimize), training or evaluation, or models:/NAME@ALIAS; "
        "auto is the champion of the structure.",
    )
    dataset: str = setting(
        AUTO, "Prepared dataset, where it lies now; auto: where the runs read it.", identity=False
    )
    output: str = setting("results/published", "New folder to write.", identity=False)
    weights: bool = setting(True, "Put the weights in, without which scores cannot be checked.")
    images: bool = setting(False, "Put the prepared dataset in: its images and annotation.")
    check: str = setting(
        NONE,
        "A published folder to check in place of writing one: its checksums, the content of "
        "dataset, and the scores, computed anew on it; or none.",
    )
    device: str = setting(AUTO, "check: auto, cpu, cuda or cuda:N.")
