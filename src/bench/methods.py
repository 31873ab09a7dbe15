"""The strategies that are compared, as one literal table."""

from dataclasses import dataclass

from bench.config import AUTO
from bench.errors import BenchError, unknown_name

# Losses of the supervised stage.
LOSSES = ("focal_dice", "dice")


@dataclass(frozen=True)
class Method:
    """A named strategy.

    Attributes:
        name: The name used in parameters and tags.
        label: The name in the benchmark table.
        pretrained: Whether it starts from a model that the user names, or from random weights.
        loss: The loss of its supervised stage.
    """

    name: str
    label: str
    pretrained: bool
    loss: str


# A new method is one row (and one adapter where its network is new).
METHODS: dict[str, Method] = {
    "scratch": Method("scratch", "From scratch (focal-Dice)", False, "focal_dice"),
    "scratch_dice": Method("scratch_dice", "From scratch (Dice)", False, "dice"),
    "finetuned": Method("finetuned", "Fine-tuned (focal-Dice)", True, "focal_dice"),
    "finetuned_dice": Method("finetuned_dice", "Fine-tuned (Dice)", True, "dice"),
}


def find_method(name: str) -> Method:
    """Returns the row of a name.

    Raises:
        BenchError: If the table has no such row.
    """
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def choose_method(name: str, *, source: str, loss: str) -> tuple[Method, str]:
    """Fits the three settings that say what a training is: each may be ``auto``.

    Args:
        name: Row of METHODS; auto finds the row of the source and the loss.
        source: ``random``, or weights that the user names; auto is the method's: random, unless
            the method is pretrained.
        loss: Name of a loss; auto is the method's, focal_dice without a method.

    Returns:
        The method and the source.

    Raises:
        BenchError: If they contradict each other, or a pretrained method has no source.
    """
    if loss not in (AUTO, *LOSSES):
        raise unknown_name("loss", loss, (AUTO, *LOSSES))
    if name == AUTO:
        wanted = ((source not in (AUTO, "random")), "focal_dice" if loss == AUTO else loss)
        method = next(m for m in METHODS.values() if (m.pretrained, m.loss) == wanted)
    else:
        method = find_method(name)
    if source == AUTO:
        source = AUTO if method.pretrained else "random"
    if method.pretrained and source in (AUTO, "random"):
        raise BenchError(
            f"method {method.name} starts from a trained model, received source={source}: "
            "give source=runs:/ID or a checkpoint file"
        )
    if not method.pretrained and source != "random":
        raise BenchError(
            f"method {method.name} starts from random weights, received source={source!r}: "
            "leave source out, or choose a fine-tuned method"
        )
    if loss not in (AUTO, method.loss):
        raise BenchError(
            f"method {method.name} has the loss {method.loss}, received loss={loss}: "
            "leave one of both out"
        )
    return method, source
