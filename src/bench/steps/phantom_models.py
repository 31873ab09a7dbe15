"""Small source models of the project's own making, in the formats of the published ones."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

from bench.config.data import PhantomModelsConfig
from bench.config.training import FinetuneConfig, MicrosamConfig
from bench.dataset.prepared import PreparedDataset
from bench.models.checkpoint import load_info, load_weights
from bench.models.foreign import write_synapsenet_file
from bench.models.sam import write_sam_file, write_tiny_sam
from bench.steps.finetune import finetune
from bench.steps.microsam import microsam
from bench.steps.training.source import fetch_checkpoint
from bench.tracking.opening import name_adopted
from bench.tracking.queries import scratch_folder
from bench.tracking.store import Store, open_store

log = logging.getLogger(__name__)

# Edge to which the small SAM resizes what it sees.
_SAM_PX = 128
# Only the decoder learns. A random encoder loses nothing of a patch, and as long as it changed as
# well, vesicles were not found after 200 iterations; so they are after 100 that take half as long.
# A window is as large as a patch, so that both are seen at one scale. The thresholds are for maps
# that have not become sharp yet.
_SAM_SETTINGS: dict[str, Any] = {
    "freeze": "image_encoder,prompt_encoder,mask_decoder",
    "schedule": "cosine",
    "patch_px": 64,
    "tile_px": 64,
    "halo_px": 0,
    "batch_size": 4,
    "sub_iterations": 1,
    "objects_per_batch": 1,
    "center_distance_threshold": 0.8,
    "boundary_distance_threshold": 0.8,
}


def phantom_models(config: PhantomModelsConfig) -> Path:
    """Trains a U-Net and a SAM per structure and writes them; returns the folder.

    ``<structure>.pt`` is a network with a foreground and a boundary channel in SynapseNet's file
    format, ``<structure>_sam.pt`` a SAM with the decoder of automatic segmentation in micro_sam's.

    Raises:
        BenchError: If the dataset or the settings do not fit.
    """
    name_adopted("phantom_models")
    store = open_store()
    # The step itself has no run: its trainings have.
    store.take_adopted()
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    for structure in PreparedDataset.open(config.dataset).structures:
        _write_source(config, structure, store, output / f"{structure}.pt")
        _write_sam(config, structure, store, output / f"{structure}_sam.pt")
    log.info("written: models of %s in %s", config.dataset, output)
    return output


def _write_source(config: PhantomModelsConfig, structure: str, store: Store, path: Path) -> None:
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
    write_synapsenet_file(path, load_weights(checkpoint), load_info(checkpoint).arguments)


def _write_sam(config: PhantomModelsConfig, structure: str, store: Store, path: Path) -> None:
    """Trains the decoder of a small SAM of random weights, and writes it as micro_sam would."""
    with scratch_folder() as folder:
        start = Path(folder) / "random.pt"
        write_tiny_sam(start, config.seed, image_px=_SAM_PX, transposed=True)
        run_id = microsam(
            MicrosamConfig(
                dataset=config.dataset,
                structure=structure,
                mode="finetune",
                source=str(start),
                iterations=config.sam_iterations,
                epoch_iterations=config.sam_iterations,
                lr=config.sam_lr,
                seed=config.seed,
                **_SAM_SETTINGS,
            ),
            store,
        )
    write_sam_file(path, load_weights(fetch_checkpoint(store, run_id)))
