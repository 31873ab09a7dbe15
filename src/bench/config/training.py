"""The settings of the steps that make models."""

from dataclasses import dataclass

from bench.config.settings import MINUTES, SCHEDULE, TRUST, StepConfig, setting
from bench.methods import LOSSES, NORMALISATIONS, OPTIMISERS, PROMPTED, SCHEDULES, VALIDATION
from bench.words import AUTO, ENCODER, NONE, TRANSFORMER

_PATCH = (
    "Edge of a patch in px, a multiple of 16 for a U-Net; auto is 256, of volumes 32, or what the "
    "network takes."
)
_RESCALE = "Resample to the source's pixel size where both are known; false feeds as it is."
_LABELLED = "Annotated training sections used, drawn by the seed; auto uses all."
_LR = "Learning rate; auto is the method's, mostly 1e-4."
_EPOCH = "Iterations between validations; auto is a twentieth, 50 to 250."
_CHECKPOINT = "Iterations between checkpoints; auto is every epoch."
_PRECISIONS = (AUTO, "fp32", "bf16", "fp16")


@dataclass(frozen=True)
class TrainingConfig(StepConfig):
    """What finetune and benchmark share; the defaults are the paper's protocol."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    source: str = setting(
        AUTO,
        "Weights to start from: synapsenet:NAME, cryovesnet:FILE, moco:FILE, retina:FILE, "
        "timm:NAME, dino:FILE, runs:/ID, a checkpoint file or folder, or random; "
        "STRUCTURE=SOURCE or METHOD=SOURCE, comma-separated, are several.",
    )
    rescale: bool = setting(True, _RESCALE)
    trust_checkpoint: bool = setting(False, TRUST, identity=False)
    loss: str = setting(AUTO, "auto is the method's.", choices=(AUTO, *LOSSES))
    focal_gamma: float = setting(2.0, "Focusing exponent of the focal term.", minimum=0, maximum=10)
    foreground_weight: float | None = setting(
        None,
        "Weight of foreground in the focal term; auto: the paper's, or by frequency.",
        minimum=0,
    )
    class_weights: str = setting(
        AUTO,
        "Methods of classes: weights of background and structures in the cross-entropy, "
        "comma-separated; auto: by frequency.",
        added=True,
    )
    optimiser: str = setting(AUTO, "auto is the method's.", choices=(AUTO, *OPTIMISERS))
    lr: float | None = setting(None, _LR, minimum=1e-8, maximum=1)
    schedule: str = setting(AUTO, SCHEDULE, choices=(AUTO, *SCHEDULES))
    weight_decay: float | None = setting(
        None,
        "Weight decay of the optimiser; auto is the method's, or torch's.",
        minimum=0,
        maximum=1,
        added=True,
    )
    plateau_factor: float = setting(0.5, "Factor of plateau.", minimum=0.01, maximum=0.99)
    plateau_patience: int = setting(10, "Epochs without gain before plateau.", minimum=0)
    batch_size: int | None = setting(
        None, "Patches in a batch; auto is 8, or what is usual for a network of volumes.", minimum=1
    )
    patch_px: int | None = setting(None, _PATCH, minimum=16)
    normalisation: str = setting(
        AUTO,
        "To mean 0, deviation 1 of every section, or of a whole volume; auto is the method's.",
        choices=(AUTO, *NORMALISATIONS),
    )
    foreground_fraction: float = setting(
        0.5, "Share of patches drawn around an instance of the structure.", minimum=0, maximum=1
    )
    rotate: bool = setting(
        True, "Augment by rotations: of volumes by 90 degrees, and of serial sections only."
    )
    flip: bool = setting(True, "Augment by flips.")
    elastic_px: float = setting(
        4.0, "Strength of elastic deformation, px; volumes are not deformed.", minimum=0, maximum=64
    )
    noise: float = setting(
        0.1, "Largest Gaussian noise, in standard deviations of the image.", minimum=0, maximum=2
    )
    features: int | None = setting(
        None,
        "Features of the U-Net's first level; auto is the method's, 32 or 16.",
        minimum=2,
        maximum=256,
    )
    width: int | None = setting(
        None,
        "transunet: numbers of a token, a multiple of 12; auto is the source's, or 768.",
        minimum=12,
        maximum=3072,
        added=True,
    )
    gpu_gb: float | None = setting(
        None,
        "nnunet: GPU memory in GB that its patch, batch and network are planned for; auto is "
        "nnU-Net's own, 8.",
        minimum=0.05,
        maximum=1000,
        added=True,
    )
    folds: int = setting(
        5,
        "unet3d_folds: networks, each trained without one part of the volumes.",
        minimum=2,
        maximum=20,
        identity=False,
    )
    # Of the identity where it is not none (steps/training/finetune_task.py).
    balance: str = setting(
        AUTO,
        "validation moves the probability that divides foreground from background towards where "
        "validation Dice is highest; auto is the method's, mostly none.",
        choices=(AUTO, NONE, VALIDATION),
        identity=False,
    )
    minutes: float | None = setting(None, MINUTES, minimum=0.05, added=True)
    # Of the identity by its content (steps/training/pseudo.py).
    pseudo: str = setting(
        NONE,
        "Pseudo-masks to learn from besides: the run of step pseudo, or a folder; or none.",
        identity=False,
    )
    pseudo_weight: float = setting(
        0.5,
        "pseudo: as how many annotated pixels one of theirs counts in the loss.",
        minimum=0,
        maximum=1,
        added=True,
    )
    pseudo_fraction: float = setting(
        0.5,
        "pseudo: share of the patches of a batch that is theirs, at least one of either.",
        minimum=0,
        maximum=1,
        added=True,
    )
    epoch_iterations: int | None = setting(None, _EPOCH, minimum=1)
    # Of the identity of a training where there are any (steps/training/snapshots.py).
    snapshots: str = setting(
        NONE,
        "Iterations whose weights are kept and scored on validation besides, comma-separated: "
        "100,200,500; or none.",
        identity=False,
    )
    tile_px: int | None = setting(
        None, "Tile in px, without halo; auto chooses it and the halo on validation.", minimum=16
    )
    halo_px: int | None = setting(
        None, "Halo around a tile in px; auto is 64, or what fits, beside tile_px.", minimum=0
    )
    precision: str = setting(AUTO, "auto is bf16 where the device has it.", choices=_PRECISIONS)
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    checkpoint_iterations: int | None = setting(None, _CHECKPOINT, minimum=1, identity=False)


@dataclass(frozen=True)
class FinetuneConfig(TrainingConfig):
    """Settings of finetune."""

    structure: str = setting("mitochondria", "Structure to learn; aliases such as mito work.")
    # The run's structure says which they are.
    structures: str = setting(
        AUTO,
        "Structures that one model of classes learns, comma-separated, or all: where two overlap, "
        "the first named counts. auto: all, of a method of classes.",
        identity=False,
    )
    method: str = setting(AUTO, "Row of METHODS; auto finds it from source and loss.")
    iterations: int = setting(5000, "Training iterations.", minimum=1)
    seed: int = setting(0, "Random seed.", minimum=0)
    labelled: int | None = setting(None, _LABELLED, minimum=1)
    transfer: str = setting(
        AUTO,
        "What is taken from the source: all that fits, its encoder, or only the transformer's "
        "layers; auto is the method's, mostly all.",
        choices=(AUTO, "all", ENCODER, TRANSFORMER),
        added=True,
    )
    freeze: str = setting(
        AUTO,
        "What of the source is not trained; auto is the method's, mostly none.",
        choices=(AUTO, NONE, ENCODER, TRANSFORMER),
        added=True,
    )
    batch_norm: str = setting(
        AUTO,
        "Statistics of batch norms that are frozen: still, as all that is frozen, or moving, as "
        "published for MoCo; auto is the method's.",
        choices=(AUTO, "still", "moving"),
        added=True,
    )


@dataclass(frozen=True)
class MicrosamConfig(StepConfig):
    """Settings of microsam."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    structure: str = setting("mitochondria", "Structure to segment; aliases such as mito work.")
    mode: str = setting(
        "zero_shot",
        "zero_shot segments with the source as it is; finetune trains it first; detector prompts "
        "it with the boxes of a detector, prompted by annotated objects, which is an oracle.",
        choices=("zero_shot", "finetune", "detector", PROMPTED),
    )
    method: str = setting(AUTO, "Row of METHODS; auto finds it from mode.")
    source: str = setting(
        AUTO, "Name of a micro_sam model (auto: vit_b_em_organelles), runs:/ID, or a SAM file."
    )
    detector: str = setting(
        AUTO,
        "mode=detector: runs:/ID of a detect run, or its checkpoint; auto is the newest of the "
        "dataset, structure and seed.",
        added=True,
    )
    sure_precision: float = setting(
        0.9,
        "mode=detector: share of objects that must be right on validation where the model is sure, "
        "as pseudo-masks are.",
        minimum=0,
        maximum=1,
        added=True,
    )
    trust_checkpoint: bool = setting(False, TRUST, identity=False)
    rescale: bool = setting(True, _RESCALE)
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
    prompts: str = setting(
        "box,point,point_box,points",
        "prompted: kinds of prompts, comma-separated; masks of the first are its segmentation.",
        added=True,
    )
    box_distortions_px: str = setting(
        "0,1,2,4,8",
        "prompted: by how much the edges of boxes are moved at most, comma-separated.",
        added=True,
    )
    prompt_points: int = setting(
        3, "prompted: points of the kind points, all inside.", minimum=1, maximum=100, added=True
    )
    multimask: str = setting(
        AUTO,
        "prompted: whether SAM proposes several masks of a prompt; auto does of a single point.",
        choices=(AUTO, "always", "never"),
        added=True,
    )
    labelled: int | None = setting(None, _LABELLED, minimum=1)
    iterations: int = setting(2500, "finetune: training iterations.", minimum=1)
    minutes: float | None = setting(
        None, f"finetune: {MINUTES[0].lower()}{MINUTES[1:]}", minimum=0.05, added=True
    )
    optimiser: str = setting(AUTO, "finetune: auto is the method's.", choices=(AUTO, *OPTIMISERS))
    lr: float | None = setting(
        None, "finetune: learning rate; auto is the method's, 1e-5.", minimum=1e-8, maximum=1
    )
    schedule: str = setting(AUTO, f"finetune: {SCHEDULE}", choices=(AUTO, *SCHEDULES))
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
    patches: int | None = setting(
        None,
        "finetune: patches drawn at the start and used again and again: with a frozen image "
        "encoder each is embedded once (docs/sam.md); auto draws new ones at every iteration.",
        minimum=1,
        added=True,
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
        choices=_PRECISIONS,
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
    method: str = setting(AUTO, "Row of METHODS; auto finds it from confidence.")
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
    minutes: float | None = setting(None, MINUTES, minimum=0.05, added=True)
    optimiser: str = setting(AUTO, "auto is the method's.", choices=(AUTO, *OPTIMISERS))
    lr: float | None = setting(None, _LR, minimum=1e-8, maximum=1)
    schedule: str = setting(AUTO, SCHEDULE, choices=(AUTO, *SCHEDULES))
    plateau_factor: float = setting(0.5, "Factor of plateau.", minimum=0.01, maximum=0.99)
    plateau_patience: int = setting(10, "Epochs without gain before plateau.", minimum=0)
    batch_size: int = setting(4, "Patches in a batch.", minimum=1)
    patch_px: int | None = setting(None, _PATCH, minimum=32)
    epoch_iterations: int | None = setting(None, _EPOCH, minimum=1)
    select: str = setting(
        "val",
        "Teacher that is kept: val, the best on validation labels (the source included), or last.",
        choices=("val", "last"),
    )
    warn_empty_iterations: int = setting(
        100, "Iterations without pseudo-foreground before a warning.", minimum=1, identity=False
    )
    rescale: bool = setting(True, _RESCALE)
    trust_checkpoint: bool = setting(False, TRUST, identity=False)
    tile_px: int | None = setting(
        None, "Tile the network is applied to, in px; auto is the source's.", minimum=16
    )
    halo_px: int | None = setting(
        None, "Halo around a tile in px; auto is the source's.", minimum=0
    )
    precision: str = setting(AUTO, "auto is bf16 where the device has it.", choices=_PRECISIONS)
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    checkpoint_iterations: int | None = setting(None, _CHECKPOINT, minimum=1, identity=False)
    seed: int = setting(0, "Random seed.", minimum=0)
