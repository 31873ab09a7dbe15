"""What a correction changed, counted and as a table."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

_Object = TypeVar("_Object")


@dataclass(frozen=True)
class Change(Generic[_Object]):
    """An object that is otherwise than before.

    Attributes:
        id: Its id.
        before: What it was; None where it was not there.
        after: What it is; None where it is no longer there.
    """

    id: int
    before: _Object | None
    after: _Object | None

    @property
    def kind(self) -> str:
        """``added``, ``removed`` or ``changed``."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"


@dataclass(frozen=True)
class EditCounts:
    """How many objects a correction added, removed and changed."""

    added: int = 0
    removed: int = 0
    changed: int = 0

    def __add__(self, other: "EditCounts") -> "EditCounts":
        """Counts of two together."""
        return EditCounts(
            self.added + other.added, self.removed + other.removed, self.changed + other.changed
        )

    def __str__(self) -> str:
        """As people say it."""
        return f"{self.added} added, {self.removed} removed, {self.changed} changed"


def count_changes(changes: Iterable[Change[_Object]]) -> EditCounts:
    """Counts changes by what they are."""
    kinds = [change.kind for change in changes]
    return EditCounts(*(kinds.count(kind) for kind in ("added", "removed", "changed")))
