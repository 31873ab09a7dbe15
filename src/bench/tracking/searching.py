"""Searching runs by their tags, newest first, a page at a time."""

from collections.abc import Iterator, Mapping

from mlflow.entities import Run as MlflowRun
from mlflow.store.entities.paged_list import PagedList

from bench.tracking.store import Store

PAGE = 1000


def search(
    store: Store, experiment_id: str, tags: Mapping[str, str], *, finished: bool
) -> Iterator[MlflowRun]:
    """Yields the runs that have all these tags, newest first, a page at a time."""
    return search_pages(store, experiment_id, condition_of(tags, finished=finished))


def condition_of(tags: Mapping[str, str], *, finished: bool) -> str:
    """What runs fulfil that have all these tags."""
    clauses = [f"tags.`{tag}` = '{value}'" for tag, value in tags.items()]
    if finished:
        clauses.append("attributes.status = 'FINISHED'")
    return " AND ".join(clauses)


def search_pages(store: Store, experiment_id: str, condition: str) -> Iterator[MlflowRun]:
    """Yields the runs of a condition, newest first, a page at a time."""
    token = None
    while True:
        page = search_page(store, experiment_id, condition, size=PAGE, token=token)
        yield from page
        token = page.token
        if not token:
            return


def search_page(
    store: Store, experiment_id: str, condition: str, *, size: int, token: str | None = None
) -> PagedList[MlflowRun]:
    """A page of the runs of a condition, newest first; the token is that of the page before."""
    return store.client.search_runs(
        [experiment_id],
        condition,
        max_results=size,
        order_by=["attributes.start_time DESC"],
        page_token=token,
    )
