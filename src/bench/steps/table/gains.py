"""Datasets of an experiment that came from others by sections added, and what these brought."""

from collections.abc import Sequence
from pathlib import Path

from bench.config.scoring import CompareConfig
from bench.dataset.prepared import PreparedDataset
from bench.report.gains import Gain, measure_gains
from bench.steps.table.records import collect_records
from bench.tracking.datasets import find_ancestors, list_ancestors, pack_additions
from bench.tracking.queries import FoundRun
from bench.tracking.store import Store


def find_gains(
    store: Store,
    experiment: str,
    config: CompareConfig,
    digest: str,
    evaluations: Sequence[FoundRun],
) -> list[Gain]:
    """Compares the newest evaluations of datasets with those of what they came from.

    Of several versions before, it is the last that has evaluations of the same methods.

    Args:
        store: The tracking store.
        experiment: Id of the experiment that is compared.
        config: The settings of compare.
        digest: Content hash of the dataset, or its start; empty for any.
        evaluations: The newest of the experiment.
    """
    found = find_ancestors(store, experiment, digest)
    if digest and Path(config.dataset).is_dir():
        # It may have been prepared elsewhere.
        steps = PreparedDataset.open(config.dataset).manifest.get("additions", [])
        found.setdefault(digest, list_ancestors(pack_additions(steps)))
    gains: list[Gain] = []
    for dataset, ancestors in found.items():
        since = collect_records(store, experiment, config, dataset, evaluations)
        for ancestor in ancestors if since else ():
            gained = measure_gains(
                collect_records(store, experiment, config, ancestor.dataset, evaluations),
                since,
                split=config.split,
                metric=config.metric,
                added=ancestor.added,
                annotated_anew=ancestor.annotated_anew,
            )
            if gained:
                gains += gained
                break
    return gains
