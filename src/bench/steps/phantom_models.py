"""Small source models of the project's own making, in the formats of the published ones."""

import dataclasses
import logging
from pathlib import Path

from bench.config import FinetuneConfig, PhantomModelsConfig
from bench.data.prepared import PreparedDataset
from bench.models.checkpoint import load_info, load_weights
from bench.models.foreign import write_synapsenet_file
from bench.steps.finetune import finetune
from bench.steps.source import fetch_checkpoint
from bench.tracking.store import Store, open_store

log = logging.getLogger(__name__)


def phantom_models(config: PhantomModelsConfig) -> Path:
    """Trains a source U-Net per structure and writes ``<structure>.pt``; returns the folder.

    The networks have a foreground and a boundary channel and lie in SynapseNet's file format.

    Raises:
        BenchError: If the dataset or the settings do not fit.
    """
    store = open_store()
    # The step itself has no run: its trainings have.
    store.take_adopted()
    output = Path(config.output)
    for structure in PreparedDataset.open(config.dataset).structures:
        write_source(config, structure, store, output / f"{structure}.pt")
    return output


def write_source(config: PhantomModelsConfig, structure: str, store: Store, path: Path) -> None:
    """Trains both channels from random weights and writes them as SynapseNet would."""
    shared = {field.name for field in dataclasses.fields(FinetuneConfig)}
    settings = {name: value for name, value in vars(config).items() if name in shared}
    run_id = finetune(
        FinetuneConfig(
            **settings,
            structure=structure,
            method="finetuned_boundary",
            source="random",
            schedule="cosine",
        ),
        store,
    )
    checkpoint = fetch_checkpoint(store, run_id)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_synapsenet_file(path, load_weights(checkpoint), load_info(checkpoint).arguments)
    log.info("written: %s", path)
