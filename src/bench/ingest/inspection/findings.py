"""What is wrong with data: every kind of finding, and one line for the same in many sections."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from bench.core.names import first_names, natural_key

ERROR, _WARNING = "error", "warning"

# Of each kind its level and its title. An error is what prepare refuses, or what makes a model
# learn something false for sure; the most severe come first.
KINDS: dict[str, tuple[str, str]] = {
    "unusable": (ERROR, "cannot be used"),
    "splits": (ERROR, "splits do not work"),
    "no-foreground": (ERROR, "nothing is annotated in a split"),
    "size-differs": (ERROR, "mask and image differ in size"),
    "leak": (ERROR, "the same image in two splits"),
    "mask-inverted": (ERROR, "mask is inverted"),
    "raw-inverted": (ERROR, "grey values are inverted"),
    "orientation": (ERROR, "masks lie mirrored or turned on their images"),
    "grey-mask": (ERROR, "mask was smoothed"),
    "no-background": (ERROR, "mask has no background"),
    "ignored": (ERROR, "what is not annotated does not fit"),
    "ignore-label": (ERROR, "perhaps a label of what is not annotated"),
    "ids-merged": (_WARNING, "ids were merged before they were read"),
    "one-id": (_WARNING, "an id is in separate pieces"),
    "mask-elsewhere": (_WARNING, "mask does not fit its image"),
    "mostly-foreground": (_WARNING, "mask covers most of the image"),
    "no-test": (_WARNING, "nothing is annotated in the test split"),
    "size": (_WARNING, "size is far from that in tissue"),
    "neighbours": (_WARNING, "neighbouring sections in two splits"),
    "copy": (_WARNING, "the same image twice"),
    "misaligned": (_WARNING, "section is shifted"),
    "empty": (_WARNING, "nothing is annotated"),
    "outside": (_WARNING, "objects lie outside of the image"),
    "hidden": (_WARNING, "objects are wholly covered by others"),
    "overlap": (_WARNING, "objects overlap"),
    "cut": (_WARNING, "objects reach beyond the image"),
    "large": (_WARNING, "suspiciously large instances"),
    "tiny": (_WARNING, "tiny fragments"),
    "depth": (_WARNING, "images differ in bit depth"),
    "saturated": (_WARNING, "grey values are cut off"),
    "few-levels": (_WARNING, "few grey levels"),
    "contrast": (_WARNING, "contrast differs from the rest of the split"),
    "drift": (_WARNING, "contrast differs between splits"),
    "weight": (_WARNING, "foreground weight does not suit the data"),
    "noticed": (_WARNING, "noticed"),
}
_ORDER = {kind: place for place, kind in enumerate(KINDS)}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or may be.

    Attributes:
        kind: A key of KINDS.
        fact: What was found, with its number; a whole message where it has a remedy of its own.
        remedy: What to do about it; may be empty.
        split: The split concerned; None is all of them.
        section: Name of the section concerned.
        structure: The structure concerned.
        file: The file concerned.
        count: How many objects or pixels it concerns, where several findings add up.
        marks: Where it is in the section, y, x and radius in px of each place.
    """

    kind: str
    fact: str
    remedy: str = ""
    split: str | None = None
    section: str | None = None
    structure: str | None = None
    file: str | None = None
    count: int | None = None
    marks: tuple[tuple[float, float, float], ...] = ()

    @property
    def level(self) -> str:
        """``error`` or ``warning``."""
        return KINDS[self.kind][0]

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return KINDS[self.kind][1]

    def as_record(self) -> dict[str, Any]:
        """Its entry of findings.json."""
        names = ("kind", "level", "title", "fact", "remedy", "split", "section", "structure")
        record = {name: getattr(self, name) for name in (*names, "file", "count")}
        return record | {"marks_yxr_px": [[round(n, 1) for n in mark] for mark in self.marks]}


@dataclass(frozen=True)
class _FindingGroup:
    """Findings of one kind and structure, one at least, in natural order of their sections."""

    findings: tuple[Finding, ...]

    @property
    def level(self) -> str:
        return self.findings[0].level

    @property
    def sentence(self) -> str:
        """All of them in one line, with the numbers of the first."""
        first = self.findings[0]
        # A message with a remedy of its own also names its place.
        place = "" if len(self.findings) == 1 and not first.remedy else self.place
        fact = f"{first.fact}: {first.remedy}" if first.remedy else first.fact
        counts = [finding.count for finding in self.findings if finding.count is not None]
        if len(self.findings) > 1:
            total = f"{sum(counts)} in all; " if counts else ""
            fact = f"{total}in the first, {fact}"
        return ": ".join(filter(None, (first.title, place, fact)))

    @property
    def place(self) -> str:
        """The structure and the sections or splits concerned."""
        names = {finding.section or finding.split for finding in self.findings}
        places = first_names([name for name in names if name])
        return " of ".join(filter(None, (self.findings[0].structure, places)))


def sort_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Returns findings with the most severe kind first, each kind by structure and section."""

    def place(finding: Finding) -> tuple[Any, ...]:
        name = finding.section or finding.split or ""
        return _ORDER[finding.kind], finding.structure or "", natural_key(name), finding.fact

    return tuple(sorted(findings, key=place))


def group_findings(findings: Iterable[Finding]) -> list[_FindingGroup]:
    """Returns findings grouped by kind and structure, the most severe first."""
    groups = groupby(sort_findings(findings), key=_group_key)
    return [_FindingGroup(tuple(members)) for _, members in groups]


def _group_key(finding: Finding) -> tuple[str, ...]:
    """Tells which findings go on one line: those that concern no section stay alone."""
    alone = "" if finding.section else finding.fact
    return finding.kind, finding.structure or "", alone
