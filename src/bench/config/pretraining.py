"""The settings of pretraining on images without labels."""

from dataclasses import dataclass

from bench.config.settings import MINUTES, RAW_KEY, StepConfig, setting
from bench.methods import OPTIMISERS, SCHEDULES
from bench.words import AUTO, NONE, OurNetworks


@dataclass(frozen=True)
class PretrainConfig(StepConfig):
    """Settings of pretrain; the defaults are RETINA's protocol at a laboratory's size."""

    input: str = setting(
        NONE,
        "Folders or files of images, comma-separated: all that prepare reads; labels are not read.",
        identity=False,
    )
    raw_key: str = setting(AUTO, RAW_KEY)
    dataset: str = setting(
        AUTO,
        "Prepared dataset whose images are taken, or none; auto: data/prepared without input.",
        identity=False,
    )
    splits: str = setting(
        AUTO,
        "Images of the dataset, of train, val, test, unlabelled; auto: train and unlabelled, its "
        "montages. A score on test sections that were seen here flatters.",
    )
    network: str = setting(
        OurNetworks.UNET2D.value, "Row of NETWORKS to train, from random weights."
    )
    features: int = setting(32, "Features of the U-Net's first level.", minimum=2, maximum=256)
    width: int | None = setting(
        None,
        "transunet: numbers of a token, a multiple of 12; auto is 768.",
        minimum=12,
        maximum=3072,
    )
    normalisation: str = setting(
        AUTO,
        "section: each image by its own mean and deviation, as fine-tuning does; data: all by "
        "those of all; cem500k: by those of CEM500K; auto is data for images of a patch's size.",
        choices=(AUTO, "section", "data", "cem500k"),
    )
    iterations: int = setting(5000, "Training iterations.", minimum=1)
    minutes: float | None = setting(None, MINUTES, minimum=0.05, added=True)
    batch_size: int = setting(16, "Patches in a batch.", minimum=1)
    patch_px: int | None = setting(
        None, "Edge of a patch in px; auto is 224, or what the network takes.", minimum=16
    )
    optimiser: str = setting("sgd", "Optimiser.", choices=OPTIMISERS)
    lr: float = setting(3e-3, "Learning rate.", minimum=1e-8, maximum=1)
    schedule: str = setting("polynomial", "How the rate changes.", choices=SCHEDULES)
    weight_decay: float = setting(1e-4, "Weight decay.", minimum=0, maximum=1)
    plateau_factor: float = setting(0.5, "Factor of plateau.", minimum=0.01, maximum=0.99)
    plateau_patience: int = setting(10, "Epochs without gain before plateau.", minimum=0)
    epoch_iterations: int | None = setting(
        None, "Iterations between validations; auto is a twentieth, 50 to 250.", minimum=1
    )
    checkpoint_iterations: int | None = setting(
        None, "Iterations between checkpoints; auto is every epoch.", minimum=1, identity=False
    )
    precision: str = setting(
        AUTO,
        "auto is bf16 where the device has it.",
        choices=(AUTO, "fp32", "bf16", "fp16"),
    )
    device: str = setting(AUTO, "auto, cpu, cuda or cuda:N.")
    seed: int = setting(0, "Random seed.", minimum=0)
