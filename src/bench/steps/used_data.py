"""What every run says of what it works with: its settings, and its dataset."""

from collections.abc import Mapping

from bench.config.settings import StepConfig
from bench.dataset.prepared import PreparedDataset
from bench.tracking.queries import SOURCE_TAG
from bench.tracking.runs import Run


def describe_run(
    run: Run,
    dataset: PreparedDataset,
    config: StepConfig,
    settings: Mapping[str, object],
    context: str,
) -> None:
    """Logs what a run works with: its settings, given and resolved, and the dataset as an input."""
    run.log_settings(settings, config)
    tags = {"bench.dataset_name": dataset.root.name}
    if "source" in settings:
        tags[SOURCE_TAG] = str(settings["source"])
    run.set_tags(tags)
    log_used_dataset(run, dataset, context)


def log_used_dataset(run: Run, dataset: PreparedDataset, context: str) -> None:
    """Logs a dataset as an input of a run: where it is, and what its sections have."""
    size = f", pixels of {dataset.pixel_size_nm:g} nm" if dataset.pixel_size_nm else ""
    columns = {"raw": f"grey values{size}"}
    for name, summary in dataset.manifest["structures"].items():
        counts = (f"{number} in {split}" for split, number in summary["instances"].items())
        columns[name] = f"ids of instances: {', '.join(counts)}"
    run.log_dataset(
        name=dataset.root.name,
        path=dataset.root,
        digest=dataset.content_hash,
        context=context,
        columns=columns,
        sections=len(dataset.manifest["sections"]),
    )
