"""Train a network on images without labels: it reconstructs them from views that are spoiled."""

import dataclasses
import logging
import time

import numpy as np
import torch

from bench.config.pretraining import PretrainConfig
from bench.core.names import first_names
from bench.core.progress import show_progress
from bench.dataset.prepared import UNLABELLED, PreparedDataset
from bench.errors import BenchError
from bench.inference.device import Compute, choose_compute
from bench.ingest.image_pool import UnlabelledPool, hold_out, list_pool
from bench.methods import Method, pretraining_of
from bench.models.checkpoint import ModelInfo, build_model, check_network, save_checkpoint
from bench.models.networks import NETWORKS, Network, find_network
from bench.steps.training.data import (
    log_checkpoints,
    log_training_costs,
    loop_settings,
    measure_network,
)
from bench.steps.training.minutes import check_minutes, describe_loop, plan_loop
from bench.steps.training.reports.pretraining import PretrainReport
from bench.steps.used_data import log_used_dataset
from bench.structures import split_names
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.training.ahead import draw_ahead
from bench.training.loop import Progress, make_trainee, train
from bench.training.objectives import supervised
from bench.training.reconstruction import (
    HeldOutViews,
    ViewFeed,
    ViewSettings,
    measure_moments,
    squared_error,
)
from bench.words import AUTO, CEM500K_MOMENTS, FIXED, NONE, RECONSTRUCTION, OurNetworks

log = logging.getLogger(__name__)

_DATASET = "data/prepared"
# The edge that RETINA and CEM500K have.
_PATCH_PX = 224
# Images that the moments of all are measured on, at most, and patches of a validation.
_MEASURED_IMAGES, _HELD_OUT_PATCHES = 200, 48
# Of the held-out batches' seed: other patches than those of the training.
_HELD_OUT_SEED = 2**31


@dataclasses.dataclass(frozen=True)
class _Task:
    config: PretrainConfig
    method: Method
    dataset: PreparedDataset | None
    pool: UnlabelledPool
    held_out: np.ndarray
    info: ModelInfo
    compute: Compute


def pretrain(config: PretrainConfig, store: Store | None = None, parent: str | None = None) -> str:
    """Pretrains a network and returns the id of its run.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If the settings or the images do not fit.
    """
    begun = time.monotonic()
    task = resolve_pretraining(config)
    log.info("%s of %s", task.method.name, "; ".join(group.kind for group in task.pool.groups))
    store = store or open_store()
    run = open_run(store, identify_pretraining(task), parent=parent)
    if run.reused:
        return run.id
    with run:
        run.log_settings(_resolved_settings(task), config)
        if task.dataset:
            run.set_tags({"bench.dataset_name": task.dataset.root.name})
            log_used_dataset(run, task.dataset, "pretraining")
        if task.pool.left_out:
            run.add_warning(
                f"{len(task.pool.left_out)} images are smaller than a patch (patch_px="
                f"{task.config.patch_px}) and were left out: {first_names(task.pool.left_out)}"
            )
        _train_network(task, run, begun)
    return run.id


def resolve_pretraining(config: PretrainConfig) -> _Task:
    """Finds and checks everything that a config names; reads no pixels."""
    check_minutes(config)
    network = _find_network(config.network)
    method = pretraining_of(network.name)
    arguments = network.arguments(config) | {"out_channels": 1}
    patch_px = _fit_patch(network, config.patch_px, arguments)
    compute = choose_compute(config.device, config.precision)
    config = dataclasses.replace(config, patch_px=patch_px)
    dataset = _open_dataset(config)
    given = "" if config.input == NONE else config.input
    pool = list_pool(
        given, dataset, _choose_splits(config), patch_px=patch_px, raw_key=config.raw_key
    )
    pool, held_out = hold_out(pool, patch_px, config.seed)
    if config.normalisation == AUTO:
        # What fine-tuning does to a section. Images cut out of larger ones would lose by it what
        # is bright and dark in them.
        chosen = "section" if (pool.shapes > patch_px).all(axis=1).any() else "data"
        config = dataclasses.replace(config, normalisation=chosen)
    tile_px, halo_px = network.choices(arguments)[0]
    info = ModelInfo(
        architecture=network.name,
        arguments=arguments,
        outputs=RECONSTRUCTION,
        structure="",
        # Its patches were enlarged up to three times: it is of no one size.
        input_pixel_size_nm=None,
        normalisation="section",
        tile_px=tile_px,
        halo_px=halo_px,
        training={"method": method.name, "images": len(pool), "images_sha256": pool.sha256},
    )
    if network.name not in set(OurNetworks):
        check_network(build_model(network.name, arguments), network.name, 1, patch_px)
    return _Task(config, method, dataset, pool, held_out, info, compute)


def _find_network(name: str) -> Network:
    network = find_network(name)
    if "pretrain" not in network.steps:
        able = [other for other, row in NETWORKS.items() if "pretrain" in row.steps]
        raise BenchError(
            f"network must be one that pretrain can train ({', '.join(able)}), received {name}: "
            "choose one of them"
        )
    return network


def _fit_patch(network: Network, given: int | None, arguments: dict[str, object]) -> int:
    if given is None and network.size_px is None:
        given = _PATCH_PX - _PATCH_PX % network.multiples(arguments)[0]
    return network.fit_patch(given, arguments)


def _open_dataset(config: PretrainConfig) -> PreparedDataset | None:
    if config.dataset == NONE and config.input == NONE:
        raise BenchError(
            "pretrain needs images, received input=none and dataset=none: give input=FOLDER, or a "
            "prepared dataset"
        )
    if config.dataset == NONE or (config.dataset == AUTO and config.input != NONE):
        return None
    return PreparedDataset.open(_DATASET if config.dataset == AUTO else config.dataset)


def _choose_splits(config: PretrainConfig) -> tuple[str, ...]:
    # Never test sections unless somebody names them: the network would have seen what it is
    # scored on, labels or not.
    return ("train", UNLABELLED) if config.splits == AUTO else tuple(split_names(config.splits))


def identify_pretraining(task: _Task) -> Identity:
    """What the run of a task is."""
    settings = task.config.identity(_resolved_settings(task))
    for elsewhere in ("network", "features", "width", "seed", "splits", "raw_key"):
        del settings[elsewhere]
    return Identity(
        step="pretrain",
        settings=settings | {"arguments": task.info.arguments},
        inputs={"images": task.pool.sha256},
        method=task.method.name,
        dataset=task.dataset.content_hash if task.dataset else "",
        seed=task.config.seed,
        parts=(f"network {task.info.architecture}",),
    )


def _resolved_settings(task: _Task) -> dict[str, object]:
    return dataclasses.asdict(task.config) | {
        **describe_loop(task.config, loop_settings(task.config)),
        "method": task.method.name,
        "images": len(task.pool),
        "images_held_out": len(task.held_out),
        "images_sha256": task.pool.sha256,
        "splits": ",".join(_choose_splits(task.config)) if task.dataset else NONE,
        "device": str(task.compute.device),
        "precision": task.compute.precision,
    }


def _train_network(task: _Task, run: Run, begun: float) -> None:
    config, settings = task.config, loop_settings(task.config)
    torch.manual_seed(config.seed)
    network = build_model(task.info.architecture, task.info.arguments)
    measure_network(run, network, task.compute)
    trainee = make_trainee(network, settings, task.compute)
    feed, held_out = make_view_feeds(task)
    info, moments = task.info, feed.settings.moments
    if moments:
        info = dataclasses.replace(info, normalisation=FIXED, grey_scale=moments)
    with (
        show_progress(task.method.name) as advance,
        draw_ahead(feed, task.compute.device) as batches,
    ):
        report = PretrainReport(
            run=run,
            views=HeldOutViews.draw(held_out, -(-_HELD_OUT_PATCHES // config.batch_size)),
            info=info,
            compute=task.compute,
            advance=lambda done, remark: advance(done, max(done, settings.iterations), remark),
        )
        settings, budget = plan_loop(
            *(run, config, settings, trainee),
            lambda tried: supervised(tried.network, feed, squared_error, task.compute),
            begun=begun,
        )
        progress = train(
            trainee,
            supervised(network, batches, squared_error, task.compute),
            settings,
            state_file=run.work / "state.safetensors",
            reports=report.callbacks(),
            budget=budget,
        )
    save_checkpoint(
        run.work / "last.safetensors", network, report.describe(progress.iteration, None)
    )
    log_checkpoints(run, ("best", "last"))
    _conclude(task, run, report, progress)


def make_view_feeds(task: _Task) -> tuple[ViewFeed, ViewFeed]:
    """The patches of the training, and those of the images that are held out."""
    config = task.config
    assert config.patch_px is not None
    trained_on = np.setdiff1d(np.arange(len(task.pool)), task.held_out)
    settings = ViewSettings(
        config.patch_px, config.batch_size, config.seed, _choose_moments(task, trained_on)
    )
    device = task.compute.device
    others = dataclasses.replace(settings, seed=_HELD_OUT_SEED)
    return (
        ViewFeed(task.pool, settings, device, trained_on),
        ViewFeed(task.pool, others, device, task.held_out),
    )


def _choose_moments(task: _Task, numbers: np.ndarray) -> tuple[float, float] | None:
    if task.config.normalisation == "section":
        return None
    if task.config.normalisation == "cem500k":
        return CEM500K_MOMENTS
    found = measure_moments(task.pool, numbers[:: -(-len(numbers) // _MEASURED_IMAGES)].tolist())
    log.info("mean %.4g and deviation %.4g of all grey values, white is 1", *found)
    return found


def _conclude(task: _Task, run: Run, report: PretrainReport, progress: Progress) -> None:
    """Says what came out, beside what knows nothing of the images."""
    best = report.mse_of(progress.best_score)
    run.log_metrics({"best/mse": best})
    log_training_costs(run, progress, task.compute)
    log.info(
        "%s: error on held-out images %.3f at iteration %d (the mean of each patch %.3f, its view "
        "as it is %.3f), %.0f s of training, run %s",
        task.method.name,
        best,
        progress.best_iteration,
        report.views.mean_mse,
        report.views.view_mse,
        progress.elapsed_s,
        run.id,
    )
    if best >= report.views.mean_mse:
        run.add_warning(
            f"nothing was learned: the error on held-out images, {best:.3f}, is not below that of "
            f"each patch's mean, {report.views.mean_mse:.3f}: train longer, or change lr"
        )
