"""The strategies that are compared, as one literal table."""

from dataclasses import dataclass, replace

from bench.errors import OUTSIDE, BenchError, unknown_name
from bench.words import (
    AUTO,
    BACKGROUND,
    ENCODER,
    FIXED,
    NONE,
    RECONSTRUCTION,
    TRANSFORMER,
    OurNetworks,
)

# Losses of the supervised stage.
# Of a method whose outputs are classes, and of no other.
CLASS_LOSS = "ce_dice"
LOSSES = ("focal_dice", "dice", "weighted_bce", "bce_dice", CLASS_LOSS)
OPTIMISERS = ("adam", "adamw", "sgd")
SCHEDULES = ("plateau", "cosine", "polynomial", "onecycle")
# ``section``: every section is shifted and scaled to mean 0, deviation 1; ``volume``: every volume;
# ``fixed``: 8-bit sections by the mean and deviation that published weights were trained with.
NORMALISATIONS = ("section", "volume", FIXED)
RANDOM = "random"
_SOURCE = "source"
# How tables, charts and pages mark a row that reads the truth.
ORACLE = "(oracle)"
# The mode of microsam whose prompts are made from the annotation.
PROMPTED = "prompted"
# Where a model draws the line between foreground and background: where validation puts it.
VALIDATION = "validation"
# A model of the step pretrain, of the method's network and the dataset's own images.
PRETRAIN = "pretrain"
# A model of the step detect, of the method's structure.
DETECT = "detect"
# What a method starts from where the user does not say: the paper's choice for every structure,
# and the only published model of sections. All others are 3D, of which a user names one.
DEFAULT_SOURCE = "synapsenet:vesicles_2d"
# What knows a structure, where a source is applied as it is.
_SOURCES_AS_THEY_ARE = {
    "mitochondria": "synapsenet:mitochondria",
    "membrane": "synapsenet:compartments",
    "ribbon": "synapsenet:ribbon",
    "active_zone": "synapsenet:active_zone",
}
DEFAULT_SAM = "vit_b_em_organelles"
_DEFAULTS: dict[str, str] = {OurNetworks.UNET2D: DEFAULT_SOURCE, OurNetworks.SAM: DEFAULT_SAM}

# How the names of pretrainings and of detectors begin.
_PRETRAINED, _DETECTED = "pretrained_", "boxes_"

_FOREGROUND = ("foreground",)
_WITH_BOUNDARY = ("foreground", "boundary")
# One of them for every pixel: the background, or one of the structures that the user names.
CLASSES = (BACKGROUND, "structures")
_UNET, _SAM = OurNetworks.UNET2D, OurNetworks.SAM
_RESNET50, _TRANSUNET = OurNetworks.UNET_RESNET50, OurNetworks.TRANSUNET
_UNET3D, _ANISOTROPIC = OurNetworks.UNET3D, OurNetworks.UNET3D_ANISOTROPIC
# Where a source must be named, which file it is.
_PUBLISHED: dict[str, str] = {
    _UNET3D: "source=cryovesnet:FILE, cryovesnet/weights/weights.h5 of Zuber-group/CryoVesNet, ",
    _ANISOTROPIC: "source=synapsenet:NAME of a 3D model, ",
    _RESNET50: "source=moco:FILE, the ResNet-50 of CEM500K (doi 10.5281/zenodo.6453140), ",
    _TRANSUNET: "source=retina:FILE, pretrain_200.pt of BaderLab/RETINA, ",
    OurNetworks.FOUNDATION_FEATURES: "source=timm:NAME (timm:vit_small_patch14_dinov2.lvd142m), "
    "source=dino:FILE of a DINOv2, DINOv3 or EM-DINO transformer, ",
}


@dataclass(frozen=True)
class Method:
    """A named strategy. What the user types comes before the defaults of its training.

    Attributes:
        name: The name used in parameters and tags.
        label: The name in the benchmark table.
        network: Row of NETWORKS, of this suite or a laboratory's own.
        step: The entry point that makes its model; empty where the source is the model.
        start: What it starts from: ``random``, ``source`` (weights of its network that the user
            names, else those of _DEFAULTS), ``pretrain`` (its network as the step pretrain makes
            it of the dataset's images), ``detect`` (its detector), or the row whose model it takes.
        loss: The loss of its supervised stage; empty without one, or where whoever trains its
            network has its own.
        outputs: The channels that it learns; CLASSES stands for one of each structure.
        optimiser: Of OPTIMISERS.
        lr: Learning rate, the highest where the schedule changes it.
        schedule: Of SCHEDULES.
        weight_decay: Of its optimiser; None is torch's.
        transfer: What it takes from its source: ``all`` that fits, or a part of its network.
        freeze: The part of that which is not trained, or ``none``.
        batch_norm: Whether statistics of frozen batch norms are ``still`` or ``moving``.
        normalisation: Of NORMALISATIONS: what is done to a section or volume before its network
            sees it. A SAM's is its own; where a source has no fixed one, ``fixed`` is ``section``.
        features: Of the first level of a U-Net that starts from random weights.
        foreground_weight: Of its loss; None is the structure's, or follows from its frequency.
        confidence: Confidence of its pseudo-labels; None is set from the teacher's scores.
        balance: ``validation`` where the model's limit between foreground and background, a
            probability of one half, moves towards where validation Dice is highest; else ``none``.
        mode: The mode of microsam that makes it; empty for other steps.
        seeded: Whether its result depends on a seed.
        first_release: Whether ``methods=all`` has it: the rows of the paper's table, and ours that
            separates touching instances.
        oracle: Whether it reads the truth, as prompts made from annotated masks do. Such a row is
            shown and marked, and takes part in no ranking, test, search or choice of a champion.
    """

    name: str
    label: str
    network: str
    step: str
    start: str
    loss: str = ""
    outputs: tuple[str, ...] = _FOREGROUND
    optimiser: str = "adam"
    lr: float = 1e-4
    schedule: str = "plateau"
    weight_decay: float | None = None
    transfer: str = "all"
    freeze: str = NONE
    batch_norm: str = "still"
    normalisation: str = "section"
    features: int = 32
    foreground_weight: float | None = None
    confidence: float | None = None
    balance: str = NONE
    mode: str = ""
    seeded: bool = True
    first_release: bool = False
    oracle: bool = False

    @property
    def of_classes(self) -> bool:
        """Whether one model learns several structures, of which a pixel is one or none."""
        return self.outputs == CLASSES

    @property
    def learns(self) -> bool:
        """Whether it is trained on annotated sections."""
        return self.seeded and self.step in ("finetune", "microsam")


# A new method is one row (and one of NETWORKS where its network is new).
# fmt: off
METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method("unadapted", "Unadapted", _UNET, "", _SOURCE, seeded=False, first_release=True),
        Method("domain_adapted", "Domain adapted", _UNET, "domain_adapt", _SOURCE,
               confidence=0.9, first_release=True),
        Method("domain_adapted_auto", "Domain adapted (auto)", _UNET, "domain_adapt", _SOURCE),
        Method("finetuned", "Fine-tuned (focal-Dice)", _UNET, "finetune", _SOURCE, "focal_dice",
               first_release=True),
        Method("finetuned_dice", "Fine-tuned (Dice)", _UNET, "finetune", _SOURCE, "dice",
               first_release=True),
        Method("da_finetuned", "DA + fine-tuned", _UNET, "finetune", "domain_adapted",
               "focal_dice", first_release=True),
        Method("finetuned_boundary", "Fine-tuned (boundary)", _UNET, "finetune", _SOURCE,
               "focal_dice", _WITH_BOUNDARY, first_release=True),
        Method("microsam_zero_shot", "micro-SAM zero-shot", _SAM, "microsam", _SOURCE,
               mode="zero_shot", seeded=False, first_release=True),
        Method("microsam_finetuned", "micro-SAM fine-tuned", _SAM, "microsam", _SOURCE,
               mode="finetune", optimiser="adamw", lr=1e-5, first_release=True),
        Method("detector_sam", "Detector + micro-SAM", OurNetworks.DETECTOR_SAM, "microsam",
               DETECT, mode="detector"),
        Method("scratch", "From scratch (focal-Dice)", _UNET, "finetune", RANDOM, "focal_dice"),
        Method("scratch_dice", "From scratch (Dice)", _UNET, "finetune", RANDOM, "dice"),
        Method("best_practice", "Best practice", OurNetworks.UNET_RESIDUAL, "finetune", RANDOM,
               "bce_dice", optimiser="adamw", lr=2e-3, schedule="cosine", features=64,
               balance=VALIDATION),
        Method("montage_pretrained", "Pretrained on own images", _UNET, "finetune", PRETRAIN,
               "focal_dice"),
        Method("montage_pretrained_transunet", "TransUNet, pretrained on own images", _TRANSUNET,
               "finetune", PRETRAIN, "bce_dice", optimiser="sgd", lr=3e-3, schedule="polynomial",
               weight_decay=1e-4),
        Method("finetuned_classes", "Fine-tuned, classes", _UNET, "finetune", _SOURCE, CLASS_LOSS,
               CLASSES),
        Method("scratch_classes", "From scratch, classes", _UNET, "finetune", RANDOM, CLASS_LOSS,
               CLASSES),
        Method("unet_resnet50", "U-Net, ResNet-50", _RESNET50, "finetune", RANDOM,
               "weighted_bce", optimiser="adamw", lr=3e-3, schedule="onecycle", weight_decay=0.1,
               foreground_weight=1.0),
        Method("unet_resnet50_moco", "U-Net, ResNet-50 of MoCo", _RESNET50, "finetune", _SOURCE,
               "weighted_bce", optimiser="adamw", lr=3e-3, schedule="onecycle", weight_decay=0.1,
               foreground_weight=1.0, transfer=ENCODER, freeze=ENCODER, batch_norm="moving",
               normalisation=FIXED),
        Method("transunet", "TransUNet", _TRANSUNET, "finetune", RANDOM, "bce_dice",
               optimiser="sgd", lr=3e-3, schedule="polynomial", weight_decay=1e-4),
        Method("retina", "RETINA", _TRANSUNET, "finetune", _SOURCE, "bce_dice",
               optimiser="sgd", lr=3e-3, schedule="polynomial", weight_decay=1e-4,
               transfer=ENCODER, freeze=TRANSFORMER, normalisation=FIXED),
        Method("nnunet", "nnU-Net", OurNetworks.NNUNET, "finetune", RANDOM),
        Method("pixel_classifier", "Pixel classifier", OurNetworks.PIXEL_CLASSIFIER, "finetune",
               RANDOM),
        Method("foundation_features", "Foundation features", OurNetworks.FOUNDATION_FEATURES,
               "finetune", _SOURCE),
        Method("cryovesnet", "CryoVesNet", _UNET3D, "", _SOURCE, normalisation="volume",
               seeded=False),
        Method("cryovesnet_finetuned", "CryoVesNet, fine-tuned", _UNET3D, "finetune", _SOURCE,
               "weighted_bce", lr=1e-3, schedule="cosine", normalisation="volume", features=16,
               foreground_weight=10.0),
        Method("unet3d", "3D U-Net", _UNET3D, "finetune", RANDOM, "weighted_bce", lr=1e-3,
               schedule="cosine", normalisation="volume", features=16, foreground_weight=10.0),
        Method("unet3d_folds", "3D U-Net, folds", OurNetworks.UNET3D_FOLDS, "finetune", RANDOM,
               "weighted_bce", lr=1e-3, schedule="cosine", normalisation="volume", features=16,
               foreground_weight=10.0),
        Method("unet3d_anisotropic", "3D U-Net, anisotropic", _ANISOTROPIC, "finetune", RANDOM,
               "focal_dice", normalisation="volume"),
        Method("anisotropic_unadapted", "Unadapted, 3D", _ANISOTROPIC, "", _SOURCE,
               normalisation="volume", seeded=False),
        Method("anisotropic_finetuned", "Fine-tuned, 3D", _ANISOTROPIC, "finetune", _SOURCE,
               "focal_dice", normalisation="volume"),
        Method("microsam_prompted", "micro-SAM, prompted", _SAM, "microsam", _SOURCE,
               mode=PROMPTED, seeded=False, oracle=True),
        Method("microsam_prompted_finetuned", "micro-SAM fine-tuned, prompted", _SAM,
               "microsam", "microsam_finetuned", mode=PROMPTED, oracle=True),
    )
}
# fmt: on


def _with_classes(row: Method) -> Method:
    """The same strategy with classes in place of a foreground, and their loss."""
    return replace(
        row,
        name=f"{row.name}_classes",
        label=f"{row.label}, classes",
        loss=CLASS_LOSS,
        outputs=CLASSES,
        foreground_weight=None,
    )


# RETINA is compared on data sets with classes, too.
METHODS |= {
    row.name: row
    for row in (
        _with_classes(METHODS[name])
        for name in ("unet_resnet50", "unet_resnet50_moco", "transunet", "retina")
    )
}

FIRST_RELEASE = tuple(row.name for row in METHODS.values() if row.first_release)


def find_method(name: str) -> Method:
    """Returns the row of a name.

    Raises:
        BenchError: If the table has no such row.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS, OUTSIDE)
    return METHODS[name]


def pretraining_of(network: str) -> Method:
    """What the step pretrain makes of a network: no row of a table, but what rows start from."""
    return Method(
        f"{_PRETRAINED}{network}",
        f"{network}, pretrained",
        network,
        PRETRAIN,
        RANDOM,
        outputs=RECONSTRUCTION,
    )


def detection_of(network: str) -> Method:
    """What the step detect makes of a network: no row of a table, but what prompts a SAM."""
    return Method(f"{_DETECTED}{network}", f"{network}, boxes", network, DETECT, RANDOM)


def find_start(method: Method) -> Method | None:
    """What makes the model that a method starts from, or is prompted by; None without one."""
    if method.start == PRETRAIN:
        return pretraining_of(method.network)
    if method.start == DETECT:
        return detection_of(OurNetworks.FCOS_SMALL)
    return METHODS.get(method.start)


def random_row_of(method: Method) -> Method:
    """The row of a method's network that starts from random weights.

    Raises:
        BenchError: If there is none.
    """
    rows = [row for row in METHODS.values() if (row.step, row.start) == ("finetune", RANDOM)]
    alike = [row for row in rows if (row.network, row.outputs) == (method.network, method.outputs)]
    if not alike:
        raise BenchError(
            f"method {method.name} needs a row of the network {method.network} that starts from "
            "random weights beside it, there is none: add one"
        )
    return next((row for row in alike if row.loss == method.loss), alike[0])


def find_stage(name: str) -> Method:
    """The row of a name, or the pretraining or detector of that name.

    Raises:
        BenchError: If there is no such row.
    """
    for prefix, stage in ((_PRETRAINED, pretraining_of), (_DETECTED, detection_of)):
        if name not in METHODS and name.startswith(prefix):
            return stage(name.removeprefix(prefix))
    return find_method(name)


def is_oracle(name: str) -> bool:
    """Whether a name is of a row that reads the truth; other names are not."""
    return name in METHODS and METHODS[name].oracle


def find_method_of(step: str, name: str) -> Method:
    """Returns the row of a name, whose model a step makes.

    Raises:
        BenchError: If the table has no such row, or another step makes it.
    """
    method = find_method(name)
    if method.step != step:
        raise BenchError(
            f"{step} runs methods of its own ({', '.join(names_of(step))}), received "
            f"method={name}: run {method.step or 'evaluate'} with it"
        )
    return method


def source_as_it_is(method: Method, structure: str, protocol: str) -> str:
    """The source that is applied without training where the user names none.

    Args:
        method: The method that applies it.
        structure: Name of the structure.
        protocol: ``paper`` applies the paper's choice to every structure.

    Raises:
        BenchError: If the method's network has no published weights that can be fetched.
    """
    if method.network not in _DEFAULTS:
        raise _source_missing(method)
    paper = protocol == "paper"
    return DEFAULT_SOURCE if paper else _SOURCES_AS_THEY_ARE.get(structure, DEFAULT_SOURCE)


def choose_method(
    name: str, *, source: str, loss: str, classes: bool = False
) -> tuple[Method, str]:
    """Fits the settings that say what a fine-tuning is: each may be ``auto``.

    Args:
        name: Row of METHODS; auto finds the row of the source and the loss.
        source: ``random``, or weights that the user names; auto is the method's. A row that
            starts from another row's model keeps auto: the step finds that model.
        loss: One of LOSSES, by which a row is found where none is named; auto is focal_dice.
        classes: Whether several structures are named, which a model of classes learns.

    Returns:
        The method and the source.

    Raises:
        BenchError: If method and source contradict each other, the method is not one of
            fine-tuning, or has no source by default.
    """
    classes = classes or loss == CLASS_LOSS
    method = _find_row(source, loss, classes) if name == AUTO else find_method_of("finetune", name)
    _check_source(method, source)
    if source != AUTO or find_start(method):
        return method, source
    if method.start == RANDOM:
        return method, RANDOM
    if method.network not in _DEFAULTS:
        raise _source_missing(method)
    return method, _DEFAULTS[method.network]


def _source_missing(method: Method) -> BenchError:
    """The error of a method that needs weights, of which none are fetched."""
    return BenchError(
        f"method {method.name} starts from trained weights of the network {method.network}, of "
        f"which there are none by default: give {_PUBLISHED.get(method.network, '')}"
        "source=runs:/ID or a checkpoint file"
    )


def _find_row(source: str, loss: str, classes: bool) -> Method:
    """The row of our U-Net with a foreground that has a source and a loss; else its first loss."""
    outputs = CLASSES if classes else _FOREGROUND
    start = RANDOM if source == RANDOM else _SOURCE
    rows = [m for m in METHODS.values() if m.network == _UNET and m.step == "finetune"]
    rows = [m for m in rows if (m.start, m.outputs) == (start, outputs)]
    return next((m for m in rows if m.loss == loss), rows[0])


def _check_source(method: Method, source: str) -> None:
    """Raises BenchError where a method cannot start from a source."""
    if method.start == RANDOM and source not in (AUTO, RANDOM):
        raise BenchError(
            f"method {method.name} starts from random weights, received source={source!r}: "
            "leave source out, or choose a fine-tuned method"
        )
    # Two outputs from random weights are how a source of SynapseNet's kind comes about.
    if method.start != RANDOM and source == RANDOM and method.outputs != _WITH_BOUNDARY:
        raise BenchError(
            f"method {method.name} starts from a trained model, received source={source}: "
            "give source=synapsenet:NAME, source=runs:/ID or a checkpoint file"
        )


def names_of(step: str) -> list[str]:
    """Names of the methods whose model a step makes."""
    return [method.name for method in METHODS.values() if method.step == step]


def register_method(row: Method) -> None:
    """Adds a method from outside of this suite; the same row again changes nothing.

    Raises:
        BenchError: If another method has its name or its label, by which tables tell them apart.
    """
    for other in METHODS.values():
        if other != row and (row.name == other.name or row.label == other.label):
            raise BenchError(
                f"every method must have a name and a label of its own, received {row.name} "
                f"({row.label}) beside {other.name} ({other.label}): rename it"
            )
    METHODS[row.name] = row
