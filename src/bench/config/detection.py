"""The settings of what finds boxes."""

from dataclasses import dataclass

from bench.config.settings import MINUTES, PIXEL_SIZE, RAW_KEY, StepConfig, setting
from bench.methods import OPTIMISERS, SCHEDULES
from bench.words import AUTO, NONE, OurNetworks

_DETECTORS = (
    OurNetworks.FCOS_SMALL,
    OurNetworks.FCOS_RESNET50,
    OurNetworks.YOLOV8N,
    OurNetworks.YOLOV8S,
    OurNetworks.YOLO11N,
    OurNetworks.YOLO11S,
)


@dataclass(frozen=True)
class DetectConfig(StepConfig):
    """Settings of detect."""

    dataset: str = setting("data/prepared", "Prepared dataset.", identity=False)
    structure: str = setting("mitochondria", "Structure to find; aliases such as mito work.")
    network: str = setting(
        OurNetworks.FCOS_SMALL.value,
        "fcos_small learns on a CPU in minutes; fcos_resnet50 is torchvision's. Those of YOLO are "
        "the package ultralytics (AGPL-3.0), which is not installed with the suite.",
        choices=tuple(network.value for network in _DETECTORS),
    )
    source: str = setting(
        "random",
        "Weights to start from: random, runs:/ID of a detect run, a checkpoint of ours, or a file "
        "that torchvision (fcos_resnet50, .pth) or ultralytics (.pt) publishes. None are fetched.",
    )
    features: int = setting(
        16,
        "fcos_small: features of the first level, a multiple of 8; the last has 4 times as many.",
        minimum=8,
        maximum=256,
    )
    labelled: int | None = setting(
        None, "Annotated training sections used, drawn by the seed; auto uses all.", minimum=1
    )
    iterations: int = setting(1500, "Training iterations.", minimum=1)
    minutes: float | None = setting(None, MINUTES, minimum=0.05, added=True)
    batch_size: int = setting(4, "Patches in a batch.", minimum=1)
    patch_px: int = setting(256, "Edge of a patch in px, a multiple of 32.", minimum=32)
    foreground_fraction: float = setting(
        0.75, "Share of patches drawn around an instance.", minimum=0, maximum=1
    )
    rotate: bool = setting(True, "Augment by quarter turns.")
    flip: bool = setting(True, "Augment by flips.")
    zoom: float = setting(
        1.4, "Augment by zooms of up to this factor; 1 is none.", minimum=1, maximum=4
    )
    noise: float = setting(
        0.1, "Largest Gaussian noise, in standard deviations of the image.", minimum=0, maximum=2
    )
    optimiser: str = setting("adamw", "Optimiser.", choices=OPTIMISERS)
    lr: float = setting(3e-3, "Learning rate.", minimum=1e-8, maximum=1)
    schedule: str = setting("cosine", "How the rate changes.", choices=SCHEDULES)
    weight_decay: float = setting(1e-2, "Weight decay.", minimum=0, maximum=1)
    plateau_factor: float = setting(0.5, "Factor of plateau.", minimum=0.01, maximum=0.99)
    plateau_patience: int = setting(10, "Epochs without gain before plateau.", minimum=0)
    epoch_iterations: int | None = setting(
        None, "Iterations between validations; auto is a twentieth, 50 to 250.", minimum=1
    )
    checkpoint_iterations: int | None = setting(
        None, "Iterations between checkpoints; auto is every epoch.", minimum=1, identity=False
    )
    tile_px: int = setting(384, "Window that is looked at, without halo, in px.", minimum=32)
    halo_px: int = setting(64, "Half of the overlap of two windows in px.", minimum=0)
    precision: str = setting(
        "fp32",
        "bf16 and fp16 place boxes to a few tenths of a percent.",
        choices=(AUTO, "fp32", "bf16", "fp16"),
    )
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    seed: int = setting(0, "Random seed.", minimum=0)


@dataclass(frozen=True)
class PseudoConfig(StepConfig):
    """Settings of pseudo."""

    run_id: str = setting(
        AUTO,
        "Run of microsam with mode=detector, whose model makes the masks.",
        identity=False,
    )
    input: str = setting(
        NONE,
        "Folder or file of images without labels; none takes those of the dataset, its montages.",
        identity=False,
    )
    raw_key: str = setting(AUTO, RAW_KEY)
    pixel_size_nm: float | None = setting(None, f"input: {PIXEL_SIZE}", minimum=0.01, maximum=1000)
    dataset: str = setting(
        "data/prepared", "Prepared dataset whose montages are segmented.", identity=False
    )
    output: str = setting("data/pseudo", "Folder to write.", identity=False)
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
