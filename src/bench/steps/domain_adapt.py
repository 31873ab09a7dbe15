"""Adapt a model to another tissue on unlabelled images, by a mean teacher."""

import copy
import dataclasses
import logging
import time
from pathlib import Path
from typing import Any

import torch

from bench.config.training import DomainAdaptConfig
from bench.core.progress import show_progress
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import Compute, choose_compute
from bench.inference.prediction import SAME_SCALE, foreground_channel
from bench.ingest.images.planes import UnlabelledImage, hash_unlabelled, read_unlabelled
from bench.methods import METHODS, Method, find_method_of, names_of
from bench.models.checkpoint import ModelInfo, build_model, check_segments, save_checkpoint
from bench.models.networks import find_trainable
from bench.steps.training.data import (
    TrainingData,
    conclude_run,
    fed_pixel_size,
    log_checkpoints,
    loop_settings,
    measure_network,
    note_grey_values,
    warn_of_scales,
    with_defaults,
)
from bench.steps.training.minutes import describe_loop, plan_loop
from bench.steps.training.reports.sections import AdaptationReport
from bench.steps.training.source import Source, resolve_source, source_of
from bench.steps.used_data import describe_run
from bench.structures import Structure, find_structure
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.training.ahead import draw_ahead
from bench.training.augment import StrongView
from bench.training.loop import LoopSettings, Progress, Trainee, make_trainee, save_state, train
from bench.training.mean_teacher import (
    MeanTeacher,
    PseudoLabeller,
    make_pseudo_labeller,
    self_training,
)
from bench.training.thresholds import (
    ThresholdLabeller,
    choose_thresholds,
    find_centres,
    shift_outputs,
)
from bench.training.unlabelled import UnlabelledFeed, UnlabelledSettings
from bench.words import AUTO

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Task:
    config: DomainAdaptConfig
    dataset: PreparedDataset
    structure: Structure
    method: Method
    source: Source
    info: ModelInfo
    compute: Compute


def domain_adapt(
    config: DomainAdaptConfig, store: Store | None = None, parent: str | None = None
) -> str:
    """Adapts a model and returns the id of its run.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If the settings, the dataset, the images or the source do not fit together.
    """
    begun = time.monotonic()
    store = store or open_store()
    task = resolve_adaptation(config, store)
    run = open_run(store, identify_adaptation(task), parent=parent)
    if run.reused:
        return run.id
    with run:
        describe_run(run, task.dataset, config, _resolved_settings(task), "adaptation")
        task = dataclasses.replace(task, info=note_grey_values(task.info, task.dataset))
        progress = _adapt(task, run, begun)
        conclude_run(run, f"{task.method.name} {task.structure.name}", progress, task.compute)
    return run.id


def resolve_adaptation(config: DomainAdaptConfig, store: Store) -> _Task:
    """Finds and checks everything that a config names."""
    dataset = PreparedDataset.open(config.dataset)
    structure = find_structure(config.structure, dataset.structures)
    method = _choose_method(config)
    network = find_trainable(method.network, "domain_adapt")
    config = with_defaults(config, method)
    compute = choose_compute(config.device, config.precision)
    dataset.instances("val", structure.name)
    name = source_of(structure.name, config.source, dataset.structures, method.name)
    source = resolve_source(store, name, trust=config.trust_checkpoint)
    if source.info:
        check_segments(source.info, f"source {source.name}")
    if source.info is None or source.network != network.name:
        kind = f"a {source.network}" if source.info else "without weights"
        raise BenchError(
            f"domain_adapt needs a trained {network.name}, whose pseudo-labels it learns, source "
            f"{source.name} is {kind}: give source=synapsenet:NAME, runs:/ID or a checkpoint file"
        )
    if source.info.classes:
        raise BenchError(
            "domain_adapt learns pseudo-labels of one structure, source "
            f"{source.name} has the classes {', '.join(source.info.outputs)}: give a source with a "
            "foreground"
        )
    tile_px, halo_px = network.fit_geometry(
        source.info.tile_px if config.tile_px is None else config.tile_px,
        source.info.halo_px if config.halo_px is None else config.halo_px,
        source.info.arguments,
    )
    patch_px = network.fit_patch(config.patch_px, source.info.arguments)
    config = dataclasses.replace(config, patch_px=patch_px, tile_px=tile_px, halo_px=halo_px)
    info = dataclasses.replace(
        source.info,
        structure=structure.name,
        input_pixel_size_nm=fed_pixel_size(source.info, dataset, rescale=config.rescale),
        tile_px=tile_px,
        halo_px=halo_px,
        training={"method": method.name, "dataset": dataset.content_hash},
    )
    return _Task(config, dataset, structure, method, source, info, compute)


def _choose_method(config: DomainAdaptConfig) -> Method:
    """The row that a config names, or the one whose confidence is given, or is not, like its."""
    if config.method != AUTO:
        return find_method_of("domain_adapt", config.method)
    given = config.confidence is not None
    rows = [METHODS[name] for name in names_of("domain_adapt")]
    return next(row for row in rows if (row.confidence is not None) == given)


def identify_adaptation(task: _Task) -> Identity:
    """What the run of a task is."""
    settings = task.config.identity(_resolved_settings(task))
    # Said beside the settings, or by the hash of the source.
    for elsewhere in ("method", "structure", "seed", "source"):
        del settings[elsewhere]
    unlabelled = hash_unlabelled(task.config.unlabelled, task.dataset)
    return Identity(
        step="domain_adapt",
        settings=settings,
        inputs={"source": task.source.sha256, "unlabelled": unlabelled},
        method=task.method.name,
        structure=task.structure.name,
        dataset=task.dataset.content_hash,
        seed=task.config.seed,
        parts=(f"network {task.info.architecture}",),
    )


def _resolved_settings(task: _Task) -> dict[str, object]:
    return dataclasses.asdict(task.config) | {
        **describe_loop(task.config, loop_settings(task.config)),
        "structure": task.structure.name,
        "method": task.method.name,
        "confidence": AUTO if task.config.confidence is None else task.config.confidence,
        "source": task.source.name,
        "source_sha256": task.source.sha256,
        "device": str(task.compute.device),
        "precision": task.compute.precision,
        "pixel_size_nm": task.dataset.pixel_size_nm or "unknown",
        "fed_pixel_size_nm": task.info.input_pixel_size_nm or "unknown",
    }


def _adapt(task: _Task, run: Run, begun: float) -> Progress:
    settings = loop_settings(task.config)
    torch.manual_seed(task.config.seed)
    feed = _make_feed(task, run)
    trainee = _make_networks(task, settings, feed)
    measure_network(run, trainee.network, task.compute)
    labeller = _make_labeller(task, trainee, feed, run)
    pair = _pair(task, trainee, labeller)
    with (
        show_progress(f"{task.method.name} {task.structure.name}") as advance,
        draw_ahead(feed, task.compute.device) as batches,
    ):
        report = AdaptationReport(
            pair=pair,
            feed=feed,
            warn_after=task.config.warn_empty_iterations,
            run=run,
            **_read_validation(task),
            pixel_size_nm=task.dataset.pixel_size_nm,
            info=task.info,
            compute=task.compute,
            advance=lambda done, remark: advance(done, max(done, settings.iterations), remark),
        )
        state = run.work / "state.safetensors"
        _score_source(report, trainee, state)
        settings, budget = plan_loop(
            *(run, task.config, settings, trainee),
            lambda tried: self_training(_pair(task, tried, labeller), feed, task.compute),
            begun=begun,
            own_lr=task.method.lr,
        )
        progress = train(
            trainee,
            self_training(pair, batches, task.compute),
            settings,
            state_file=state,
            reports=report.callbacks(),
            budget=budget,
        )
    return _log_models(task, run, report, progress)


def _read_validation(task: _Task) -> dict[str, Any]:
    """The validation sections, and what of them is not annotated, as a report takes them."""
    data = TrainingData(task.dataset, task.structure.name, (), task.info.input_pixel_size_nm)
    return {"sections": data.validation(), "levels": data.validation_levels()}


def _pair(task: _Task, trainee: Trainee, labeller: PseudoLabeller) -> MeanTeacher:
    assert trainee.teacher is not None
    channel = foreground_channel(task.info, task.structure.name)
    return MeanTeacher(trainee.network, trainee.teacher, labeller, task.config.ema, channel)


def _make_feed(task: _Task, run: Run) -> UnlabelledFeed:
    config, fed_nm = task.config, task.info.input_pixel_size_nm
    assert config.patch_px is not None
    images = read_unlabelled(config.unlabelled, task.dataset)
    sizes = [task.dataset.pixel_size_nm, *(image.pixel_size_nm for image in images)]
    warn_of_scales(run, [task.source.info], sizes, rescale=config.rescale)
    feed = UnlabelledFeed(
        [image.pixels for image in images],
        UnlabelledSettings(
            patch_px=config.patch_px,
            batch_size=config.batch_size,
            strong=StrongView(config.noise, config.blur_px, config.gamma),
            seed=config.seed,
        ),
        task.compute.device,
        [_feeding_scale(image, fed_nm) if config.rescale else 1.0 for image in images],
    )
    if feed.mirrored:
        log.warning(
            "%d of %d unlabelled images are smaller than a patch (patch_px=%d at the scale they "
            "are fed at) and are mirrored beyond their border: lower patch_px",
            feed.mirrored,
            len(images),
            config.patch_px,
        )
    return feed


def _feeding_scale(image: UnlabelledImage, fed_nm: float | None) -> float:
    """Pixels that the network sees per pixel of an image; 1 where a pixel size is not known."""
    size_nm = image.pixel_size_nm
    if fed_nm is None or size_nm is None or abs(size_nm / fed_nm - 1) < SAME_SCALE:
        return 1.0
    return size_nm / fed_nm


def _make_networks(task: _Task, settings: LoopSettings, feed: UnlabelledFeed) -> Trainee:
    student = build_model(task.info.architecture, task.info.arguments)
    try:
        student.load_state_dict(task.source.weights())
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise BenchError(
            f"the weights of source {task.source.name} must fit its description, they do not "
            f"({first}): copy both of its files again"
        ) from error
    task.compute.place(student)
    if task.config.confidence is None:
        _centre_outputs(student, task, feed)
    teacher = copy.deepcopy(student).requires_grad_(False)
    return make_trainee(student, settings, task.compute, teacher=teacher)


def _centre_outputs(network: torch.nn.Module, task: _Task, feed: UnlabelledFeed) -> None:
    """Makes a source that calls hardly anything foreground call the best-ranked pixels so."""
    centres = find_centres(network, feed, task.compute)
    centre = centres[foreground_channel(task.info, task.structure.name)]
    if centre != 0.5:
        log.warning(
            "hardly any pixel has a probability on both sides of 0.5 by source %s: it starts with "
            "logits shifted so that %.3f, which parts its scores best, becomes 0.5",
            task.source.name,
            centre,
        )
    shift_outputs(network, centres)


def _make_labeller(task: _Task, trainee: Trainee, feed: UnlabelledFeed, run: Run) -> PseudoLabeller:
    """Makes what accepts pseudo-labels, and logs its thresholds.

    A resumed run chooses the same thresholds again: the teacher still has the source's weights.
    """
    confidence = task.config.confidence
    if confidence is not None:
        run.log_facts({"threshold/upper": confidence, "threshold/lower": 1 - confidence})
        labeller: PseudoLabeller = make_pseudo_labeller(confidence)
        return labeller
    assert trainee.teacher is not None
    thresholds = choose_thresholds(trainee.teacher, feed, task.compute)
    chosen = thresholds[foreground_channel(task.info, task.structure.name)]
    log.info(
        "confidence=auto: foreground from %.3f, background to %.3f", chosen.upper, chosen.lower
    )
    run.log_facts({"threshold/upper": chosen.upper, "threshold/lower": chosen.lower})
    run.log_settings({"thresholds": [dataclasses.astuple(channel) for channel in thresholds]})
    return ThresholdLabeller(thresholds, task.compute.device)


def _score_source(report: AdaptationReport, trainee: Trainee, state: Path) -> None:
    """Validates the source, once: the first candidate, and the first point of the curves."""
    if state.exists():
        return
    score = report.validate(trainee.network)
    report.on_epoch(0, score, True)
    report.run.log_metrics({"source/dice": score})
    save_state(state, trainee, Progress(best_score=score))


def _log_models(task: _Task, run: Run, report: AdaptationReport, progress: Progress) -> Progress:
    pair, best, end = report.pair, report.best, progress.iteration
    if task.config.select == "last":
        score = report.validate(pair.student)
        progress = dataclasses.replace(progress, best_score=score, best_iteration=end)
        save_checkpoint(best, pair.teacher, report.describe(end, score))
    elif progress.best_iteration == 0:
        run.add_warning(
            f"no adapted teacher was better on validation than the source (Dice "
            f"{progress.best_score:.3f}), which is kept as it was"
        )
    for name, network in (("teacher", pair.teacher), ("student", pair.student)):
        save_checkpoint(run.work / f"{name}.safetensors", network, report.describe(end, None))
    log_checkpoints(run, ("best", "teacher", "student"))
    return progress
