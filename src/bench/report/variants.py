"""What the rows of the benchmark table are called, and their order."""

from bench.methods import METHODS, ORACLE, is_oracle
from bench.metrics.table import METRICS
from bench.models.networks import find_network
from bench.words import SECTION_UNIT, VOLUME_UNIT

# Before the metric that chose a combination of methods.
_COMBINATION = "best_by_"
# Between a method and which pseudo-masks it learned from.
_PSEUDO = " pseudo "


# A method trained on fewer annotated sections than there are is a row of its own in the table.


def variant_name(method: str, labelled: int | None, pseudo: str = "") -> str:
    """Name of a method as it was trained.

    Args:
        method: Row of METHODS.
        labelled: Annotated sections used; None for all.
        pseudo: The pseudo-masks that it learned from besides; empty for none.
    """
    name = f"{method}{_PSEUDO}{pseudo}" if pseudo else method
    return name if labelled is None else f"{name}:{labelled}"


def combination_name(metric: str) -> str:
    """Name of the best combination of methods by a metric, which is a row of the table too."""
    return f"{_COMBINATION}{metric}"


def variant_label(name: str) -> str:
    """How the benchmark table calls a method or variant; other names stay as they are.

    One that reads the truth is marked, whatever its row says.
    """
    metric = METRICS.get(name.removeprefix(_COMBINATION))
    if name.startswith(_COMBINATION) and metric is not None:
        return f"Best combination by {metric.label}"
    variant, _, labelled = name.partition(":")
    method, _, pseudo = variant.partition(_PSEUDO)
    if method not in METHODS:
        return name
    label = METHODS[method].label
    label += f", with {pseudo.partition('-')[0]} pseudo-masks" if pseudo else ""
    if METHODS[method].oracle:
        label = f"{label} {ORACLE}"
    unit = VOLUME_UNIT if find_network(METHODS[method].network).dims == 3 else SECTION_UNIT
    return f"{label}, {labelled} labelled {unit}{'s' * (labelled != '1')}" if labelled else label


def is_oracle_variant(name: str) -> bool:
    """Whether a method or variant reads the truth: it is shown, and compared with none."""
    return is_oracle(name.partition(":")[0])


def variant_order(name: str) -> tuple[int, str, int]:
    """Sort key of the rows of the table: as in METHODS, other names after them."""
    variant, _, labelled = name.partition(":")
    method = variant.partition(_PSEUDO)[0]
    place = list(METHODS).index(method) if method in METHODS else len(METHODS)
    # All sections come after a few of them.
    return place, variant, int(labelled) if labelled.isdecimal() else 10**9
