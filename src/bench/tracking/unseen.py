"""The newest run of every cell from a server, without reading all the older ones.

A server has no question for the newest run of each cell, joins conditions by AND alone, and returns
runs whole, which is what takes the time. So only the newest runs are read. Then, tag by tag, the
server is asked for a run with a value that none of them has: it returns runs of unknown cells, or
nothing. Once it returns nothing, every cell is a combination of known values, and where the known
cells are all these combinations, there are no others. Where they are not, the runs are divided by
the values of a tag, and each part is asked for in the same way. Nothing is kept from one time to
the next, so nothing can be out of date.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mlflow.entities import Run as MlflowRun
from mlflow.exceptions import MlflowException

from bench.tracking.searching import PAGE, search_page
from bench.tracking.store import Store

# Runs that are read before anything is asked; a later page is twice as large as the one before.
FIRST_PAGE = 200
# Of the runs read, the share that are of different cells above which reading on is cheaper.
_WORTH_ASKING = 0.75
# A question takes as long as reading eight runs or more: no more are asked than were read so long.
_RUNS_PER_QUESTION = 8
# Values excluded in one question: each joins a table, of which SQLite takes 64, MySQL 61.
_EXCLUDED = 40
# Of runs that are found unexpectedly, as many are read at once.
_FOUND = 100
# What stands between quotes in a condition.
_PLAIN = re.compile(r"[^'\"`\\\x00-\x1f]+")

# Values of the tags, in their order; None where a run does not have one.
_Key = tuple[str | None, ...]


class _UnaskableError(Exception):
    """A value that cannot be written into a condition, or more questions than they are worth."""


@dataclass
class _Search:
    """The runs that fulfil a condition, and the newest known ones by their key."""

    store: Store
    experiment_id: str
    condition: str
    tags: Sequence[str]
    known: dict[_Key, MlflowRun] = field(default_factory=dict)
    questions_left: int = 0

    def keep(self, runs: Iterable[MlflowRun]) -> None:
        """Keeps the first run of every key that is not known: runs come newest first."""
        for run in runs:
            key = tuple(run.data.tags.get(tag) for tag in self.tags)
            self.known.setdefault(key, run)

    def keys_with(self, fixed: Mapping[int, str | None]) -> list[_Key]:
        """The known keys that have these values, by the tags' positions."""
        return [key for key in self.known if all(key[tag] == value for tag, value in fixed.items())]

    def ask(self, clauses: Iterable[str]) -> bool:
        """Whether there are runs that fulfil these conditions, too; they are kept."""
        if not self.questions_left:
            raise _UnaskableError
        self.questions_left -= 1
        condition = " AND ".join((self.condition, *clauses))
        found = search_page(self.store, self.experiment_id, condition, size=_FOUND)
        self.keep(found)
        return bool(found)


def newest_of_each(
    store: Store, experiment_id: str, condition: str, tags: Sequence[str]
) -> list[MlflowRun]:
    """The newest run of every combination of tags that the runs of a condition have, newest first.

    Args:
        store: The tracking store.
        experiment_id: The experiment.
        condition: What the runs must fulfil; not empty.
        tags: The tags' names.
    """
    runs = _Search(store, experiment_id, condition, tags)
    token: str | None = None
    read, size, complete = 0, FIRST_PAGE, False
    while not complete:
        page = search_page(store, experiment_id, condition, size=size, token=token)
        runs.keep(page)
        read, size, token = read + len(page), min(2 * size, PAGE), page.token
        complete = not token
        if not complete and len(runs.known) <= _WORTH_ASKING * read:
            runs.questions_left = int(read / _RUNS_PER_QUESTION)
            complete = _find_unseen(runs)
    return sorted(runs.known.values(), key=lambda run: (-run.info.start_time, run.info.run_id))


def _find_unseen(runs: _Search) -> bool:
    """Finds the newest runs of all keys that are not known; whether that could be done."""
    try:
        _complete(runs, {}, [None] * len(runs.tags))
    except _UnaskableError:
        return False
    except MlflowException as error:
        # A server of an earlier version does not know all the comparisons.
        if error.error_code != "INVALID_PARAMETER_VALUE":
            raise
        return False
    return True


def _complete(
    runs: _Search, fixed: Mapping[int, str | None], possible: Sequence[set[str | None] | None]
) -> None:
    """Finds all keys of a part of the runs.

    Args:
        runs: The runs.
        fixed: The values that those of the part have, by the tags' positions.
        possible: Of each tag, the values that runs of the part can have; None for any.
    """
    # What is found by one tag has values of the tags before it that are known: no others are left.
    values = [_find_values(runs, fixed, tag, of) for tag, of in enumerate(possible)]
    if len(runs.keys_with(fixed)) == math.prod(map(len, values)):
        return
    several = [tag for tag, of in enumerate(values) if len(of) > 1]
    divided = min(several, key=lambda tag: len(values[tag]))
    for value in values[divided]:
        part = [{value} if tag == divided else of for tag, of in enumerate(values)]
        _complete(runs, {**fixed, divided: value}, part)


def _find_values(
    runs: _Search, fixed: Mapping[int, str | None], tag: int, possible: set[str | None] | None
) -> set[str | None]:
    """All values that a tag has in a part of the runs; a run of each is known then."""
    within = [_is(runs.tags[position], value) for position, value in fixed.items()]
    while True:
        seen = {key[tag] for key in runs.keys_with(fixed)}
        questions = _ask_for_others(runs.tags[tag], seen, possible)
        if not any(runs.ask([*within, *question]) for question in questions):
            return seen


def _ask_for_others(
    tag: str, seen: set[str | None], possible: set[str | None] | None
) -> Iterator[list[str]]:
    """Yields the questions, of clauses each, for runs with a value of the tag that was not seen."""
    left = None if possible is None else possible - seen
    if left is not None and len(left) <= 1:
        yield from ([_is(tag, value)] for value in left)
        return
    texts = [value for value in seen if value is not None]
    if len(texts) > _EXCLUDED:
        raise _UnaskableError
    yield [f"tags.`{tag}` != {_quote(value)}" for value in texts] or [f"tags.`{tag}` IS NOT NULL"]
    if None not in seen and (left is None or None in left):
        yield [_is(tag, None)]


def _is(tag: str, value: str | None) -> str:
    return f"tags.`{tag}` IS NULL" if value is None else f"tags.`{tag}` = {_quote(value)}"


def _quote(value: str) -> str:
    if not _PLAIN.fullmatch(value):
        raise _UnaskableError
    return f"'{value}'"
