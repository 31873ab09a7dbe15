"""The strategies that are compared, as one literal table."""

from dataclasses import dataclass

from bench.errors import BenchError, unknown_name
from bench.words import AUTO

# Losses of the supervised stage.
LOSSES = ("focal_dice", "dice")
RANDOM = "random"
# What a method starts from where the user does not say: the paper's choice for every structure.
DEFAULT_SOURCE = "synapsenet:vesicles_2d"
DEFAULT_SAM = "vit_b_em_organelles"

_FOREGROUND = ("foreground",)
_WITH_BOUNDARY = ("foreground", "boundary")


@dataclass(frozen=True)
class Method:
    """A named strategy.

    Attributes:
        name: The name used in parameters and tags.
        label: The name in the benchmark table.
        step: The entry point that makes its model; empty where the source is the model.
        start: What it starts from: ``random``, ``source`` (a U-Net that the user names, else
            DEFAULT_SOURCE), ``sam`` (likewise, DEFAULT_SAM), or the row whose model it takes.
        loss: The loss of its supervised stage; empty without one.
        outputs: The channels that it learns.
        confidence: Confidence of its pseudo-labels; None is set from the teacher's scores.
        seeded: Whether its result depends on a seed.
    """

    name: str
    label: str
    step: str
    start: str
    loss: str = ""
    outputs: tuple[str, ...] = _FOREGROUND
    confidence: float | None = None
    seeded: bool = True

    @property
    def learns(self) -> bool:
        """Whether it is trained on annotated sections."""
        return self.seeded and self.step in ("finetune", "microsam")

    @property
    def augmentable(self) -> bool:
        """Whether its predictions have a mean over symmetries: probabilities do, ids do not."""
        return self.start != "sam"


# A new method is one row (and one adapter where its network is new).
METHODS: dict[str, Method] = {
    row.name: row
    for row in (
        Method("unadapted", "Unadapted", "", "source", seeded=False),
        Method("domain_adapted", "Domain adapted", "domain_adapt", "source", confidence=0.9),
        Method("domain_adapted_auto", "Domain adapted (auto)", "domain_adapt", "source"),
        Method("finetuned", "Fine-tuned (focal-Dice)", "finetune", "source", "focal_dice"),
        Method("finetuned_dice", "Fine-tuned (Dice)", "finetune", "source", "dice"),
        Method("da_finetuned", "DA + fine-tuned", "finetune", "domain_adapted", "focal_dice"),
        Method(
            "finetuned_boundary",
            "Fine-tuned (boundary)",
            "finetune",
            "source",
            "focal_dice",
            _WITH_BOUNDARY,
        ),
        Method("microsam_zero_shot", "micro-SAM zero-shot", "microsam", "sam", seeded=False),
        Method("microsam_finetuned", "micro-SAM fine-tuned", "microsam", "sam"),
        Method("scratch", "From scratch (focal-Dice)", "finetune", RANDOM, "focal_dice"),
        Method("scratch_dice", "From scratch (Dice)", "finetune", RANDOM, "dice"),
    )
}

# The rows of the paper's table, and ours that separates touching instances.
FIRST_RELEASE = tuple(
    name for name in METHODS if name not in ("domain_adapted_auto", "scratch", "scratch_dice")
)


def find_method(name: str) -> Method:
    """Returns the row of a name.

    Raises:
        BenchError: If the table has no such row.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def choose_method(name: str, *, source: str, loss: str) -> tuple[Method, str]:
    """Fits the three settings that say what a fine-tuning is: each may be ``auto``.

    Args:
        name: Row of METHODS; auto finds the row of the source and the loss.
        source: ``random``, or weights that the user names; auto is the method's. A row that
            starts from another row's model keeps auto: the step finds that model.
        loss: Name of a loss; auto is the method's, focal_dice without a method.

    Returns:
        The method and the source.

    Raises:
        BenchError: If they contradict each other, or the method is not one of fine-tuning.
    """
    if loss not in (AUTO, *LOSSES):
        raise unknown_name("loss", loss, (AUTO, *LOSSES))
    if name == AUTO:
        start = RANDOM if source == RANDOM else "source"
        wanted = (start, "focal_dice" if loss == AUTO else loss, _FOREGROUND)
        method = next(m for m in METHODS.values() if (m.start, m.loss, m.outputs) == wanted)
    else:
        method = find_method(name)
    if method.step != "finetune":
        raise BenchError(
            f"finetune runs methods of its own ({', '.join(names_of('finetune'))}), received "
            f"method={name}: run {method.step or 'evaluate'} with it"
        )
    _check_source(method, source)
    if loss not in (AUTO, method.loss):
        raise BenchError(
            f"method {method.name} has the loss {method.loss}, received loss={loss}: "
            "leave one of both out"
        )
    defaults = {RANDOM: RANDOM, "source": DEFAULT_SOURCE}
    return method, defaults.get(method.start, AUTO) if source == AUTO else source


def _check_source(method: Method, source: str) -> None:
    """Raises BenchError where a method cannot start from a source."""
    if method.start == RANDOM and source not in (AUTO, RANDOM):
        raise BenchError(
            f"method {method.name} starts from random weights, received source={source!r}: "
            "leave source out, or choose a fine-tuned method"
        )
    # Two outputs from random weights are how a source of SynapseNet's kind comes about.
    if method.start != RANDOM and source == RANDOM and method.outputs == _FOREGROUND:
        raise BenchError(
            f"method {method.name} starts from a trained model, received source={source}: "
            "give source=synapsenet:NAME, source=runs:/ID or a checkpoint file"
        )


def names_of(step: str) -> list[str]:
    """Names of the methods whose model a step makes."""
    return [method.name for method in METHODS.values() if method.step == step]
