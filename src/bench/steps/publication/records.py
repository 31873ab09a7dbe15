"""What a run did, for people without the store: settings, scores, versions and times."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from bench.errors import BenchError
from bench.tracking.queries import get_run, read_run, read_settings
from bench.tracking.store import Store

_OURS = "bench."


@dataclass(frozen=True)
class RunRecord:
    """A run in plain values.

    Attributes:
        id: Its id.
        step: The entry point.
        started: When, ISO 8601 in UTC.
        ended: The same of its end; of one that goes on, its start.
        tags: What it says of itself: method, dataset, versions, warnings.
        settings: Its resolved settings.
        scores: Its last metrics, those of the machine left out.
    """

    id: str
    step: str
    started: str
    ended: str
    tags: dict[str, str]
    settings: dict[str, str]
    scores: dict[str, float]


def read_record(store: Store, run_id: str) -> RunRecord:
    """Reads a run.

    Raises:
        BenchError: If it does not exist.
    """
    run = get_run(store, run_id)
    return RunRecord(
        id=run.info.run_id,
        step=run.data.tags.get("bench.step", ""),
        started=_write_time(run.info.start_time),
        ended=_write_time(run.info.end_time or run.info.start_time),
        tags={name: value for name, value in run.data.tags.items() if name.startswith(_OURS)},
        settings=read_settings(store, run.info.run_id),
        scores={n: v for n, v in run.data.metrics.items() if not n.startswith("system/")},
    )


def follow_sources(store: Store, run_id: str) -> Iterator[str]:
    """Yields a training and the runs whose models it started from, as far as they are there."""
    seen: set[str] = set()
    while run_id and run_id not in seen:
        seen.add(run_id)
        yield run_id
        try:
            run_id = read_run(get_run(store, run_id)).source_run
        except (BenchError, KeyError):
            return


def _write_time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
