"""Apply a trained model to new images."""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from bench.cluster.clusters import choose_cluster, open_cluster, read_profile
from bench.config.running import SegmentConfig
from bench.core.files import write_json
from bench.core.folders import publish, unfinished_folder
from bench.core.progress import show_progress
from bench.export.sphere_table import CIRCLES_FILE, SPHERES_FILE
from bench.inference.device import Compute, choose_compute
from bench.ingest.images.formats import stem_of
from bench.ingest.images.headers import DISPUTED
from bench.ingest.images.planes import Plane, check_readable, hash_planes, list_planes
from bench.ingest.sources import describe_notes
from bench.ingest.stacks import ImageVolume
from bench.recipe.predictor import RecipePredictor
from bench.recipe.volume_predictor import VolumePredictor
from bench.steps.export import check_free
from bench.steps.segmented_names import (
    INSTANCES,
    ORIGINS,
    OUTPUT_TAG,
    OVERLAYS,
    SECTIONS,
    VOLUMES_FILE,
)
from bench.steps.serving.files import picture_of, write_tables
from bench.steps.serving.graph import choose_on_workers, segment_on_workers
from bench.steps.serving.model_origin import Origin, find_origin, sample_planes
from bench.steps.serving.subject import (
    SIZES,
    SegmentSubject,
    check_circles,
    find_segment_subject,
    resolve_engines,
)
from bench.steps.serving.volumes import (
    choose_volumes_of_input,
    describe_volumes,
    find_volume_warnings,
    refuse_workers,
    sample_volumes,
    segment_volumes,
)
from bench.steps.serving.work import CONTENT, Work, segment_plane
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, open_store
from bench.words import AUTO, MRC, NONE, SEGMENTATION_FILE, TORCH

if TYPE_CHECKING:
    from distributed import Client

log = logging.getLogger(__name__)

# Kept in the run beside what is in the output.
_LARGEST_ARTIFACT_BYTES = 64 * 2**20
_SHOWN_SECTIONS = 9
_MRC_ROWS = (
    "results of MRC begin with its last stored row, as 3dmod and Fiji show it, so that they lie on "
    "it there; in programs that show the first stored row on top, such as napari with mrcfile, "
    "they are mirrored"
)
_DISPUTED_ROWS = (
    "results of MRC whose header makes 3dmod invert it begin with its first stored row, so that "
    "they lie on it in 3dmod and napari; in Fiji they are mirrored"
)


@dataclass(frozen=True)
class _Task:
    config: SegmentConfig
    subject: SegmentSubject
    planes: Sequence[Plane]
    compute: Compute
    images_sha256: str
    origin: Origin
    volumes: Sequence[ImageVolume] = ()
    client: "Client | None" = None

    @property
    def structure(self) -> str:
        return self.subject.recipe.structure


def segment(config: SegmentConfig, store: Store | None = None) -> str:
    """Segments images and returns the id of the run that describes the result.

    A killed segmentation goes on at the tile where it stopped when it is called again.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.

    Raises:
        BenchError: If there is no such model or image, or the output exists.
    """
    store = store or open_store()
    output = Path(config.output).absolute()
    check_free(output)
    with contextlib.ExitStack() as stack:
        task = _resolve_task(config, store, stack)
        identity = _identify(task)
        folder = stack.enter_context(unfinished_folder(output, identity.fingerprint()))
        run = open_run(store, identity)
        if run.reused:
            log.info("the run is kept, its files are written again to %s", output)
            run.set_tags({OUTPUT_TAG: str(output)})
            _segment_images(task, folder)
        else:
            with run:
                _record(run, task, folder)
        # Last: killed before it, a finished run finds its sections in the folder.
        if not publish(folder, folder / CONTENT, output):
            check_free(output)
    count, kind = len(task.volumes or task.planes), "volumes" if task.volumes else "sections"
    log.info("segmented %d %s into %s, run %s", count, kind, output, run.id)
    return run.id


def _record(run: Run, task: _Task, folder: Path) -> None:
    run.log_settings(vars(task.config) | _describe_task(task), task.config)
    output = str(Path(task.config.output).absolute())
    run.set_tags({"bench.model_run": task.subject.model, OUTPUT_TAG: output})
    run.log_datasets_of(task.subject.trained_on, "model")
    run.keep_warnings(task.subject.warnings)
    log.info("post-processing: %s", task.subject.origin)
    for warning in _find_warnings(task):
        run.add_warning(warning)
    started = time.monotonic()
    table = _segment_images(task, folder)
    run.log_metrics({"segment/seconds": time.monotonic() - started})
    if task.volumes:
        for warning in find_volume_warnings(table, task.subject.infos):
            run.add_warning(warning)
    _log_result(run, table, folder / CONTENT)


def _resolve_task(config: SegmentConfig, store: Store, stack: contextlib.ExitStack) -> _Task:
    """Finds and checks everything that a config names; what it opens ends with the stack."""
    subject = find_segment_subject(config, store)
    origin = find_origin(subject, store)
    log.info("model %s: %s", subject.model, origin.describe())
    planes = list_planes(config.input, config.pixel_size_nm, config.raw_key)
    check_readable(planes)
    volumes = choose_volumes_of_input(planes, subject, config)
    check_circles(planes, subject)
    images_sha256 = hash_planes(planes)
    cluster = choose_cluster(config.cluster, config.workers, config.device)
    if volumes:
        cluster = NONE if config.cluster == AUTO and config.workers is None else cluster
        refuse_workers(cluster)
    config = dataclasses.replace(config, cluster=cluster)
    if config.cluster == NONE:
        compute = choose_compute(config.device, AUTO)
        subject = resolve_engines(subject, config.engine, compute)
        return _Task(config, subject, planes, compute, images_sha256, origin, volumes)
    profile = read_profile(config.cluster_profile)
    client = stack.enter_context(open_cluster(config.cluster, config.workers, profile))
    compute = choose_on_workers(config, client)
    subject = resolve_engines(subject, config.engine, compute)
    return _Task(config, subject, planes, compute, images_sha256, origin, client=client)


def _identify(task: _Task) -> Identity:
    subject = task.subject
    # What it scored elsewhere changes no pixel.
    recipe = dataclasses.replace(subject.recipe, validation={}, test={})
    return Identity(
        step="segment",
        settings={
            "recipe": recipe,
            "sizes": dict(subject.sizes),
            "device": task.compute.device.type,
            "precision": task.compute.precision,
            "format": task.config.format,
            **({"voxels_nm": [v.voxel_size_nm for v in task.volumes]} if task.volumes else {}),
        },
        inputs={"images": task.images_sha256, "model": subject.model},
        method=subject.method,
        structure=task.structure,
        dataset=recipe.dataset,
        seed=subject.seed,
        labelled=subject.labelled,
        parts=(
            *(f"network {info.architecture}" for info in subject.infos),
            *(("spheres",) if recipe.spheres else ()),
        ),
    )


def _find_warnings(task: _Task) -> list[str]:
    unknown = sum(plane.pixel_size_nm is None for plane in task.planes)
    given = task.config.pixel_size_nm is not None
    warnings = describe_notes((plane.image for plane in task.planes), sizes=not given)
    if unknown:
        warnings.append(
            f"pixel size of {unknown} of {len(task.planes)} sections is unknown, so they are fed "
            "as they are and measured in px: give -P pixel_size_nm=..."
        )
    # Of an MRC they are then as in the MRC.
    if task.config.format != MRC:
        if any(plane.bottom_first for plane in task.planes):
            warnings.append(_MRC_ROWS)
        if any(plane.image.header.rows == DISPUTED for plane in task.planes):
            warnings.append(_DISPUTED_ROWS)
    seen = sample_volumes(task.volumes) if task.volumes else sample_planes(task.planes)
    return warnings + task.origin.find_warnings(task.planes, seen, task.subject)


def _describe_task(task: _Task) -> dict[str, object]:
    subject, recipe = task.subject, task.subject.recipe
    # Lengths of the recipe are scaled to each image, where both pixel sizes are known.
    sizes = {name: getattr(recipe, name) for name in SIZES} | dict(subject.sizes)
    headers = [plane.image.header for plane in task.planes]
    return {
        "run_id": subject.model,
        "method": subject.method,
        "structure": task.structure,
        "members": [member.name for member in recipe.members],
        "ensemble": recipe.ensemble,
        "weights": list(recipe.weights),
        "augmentations": list(recipe.augmentations),
        "threshold": recipe.threshold,
        **sizes,
        "recipe_pixel_size_nm": recipe.pixel_size_nm,
        "made_on": task.origin.dataset,
        "test_dice": task.origin.test_dice,
        "rescale": recipe.rescale,
        "watershed": recipe.watershed.origin if recipe.watershed else "none",
        **({"circles": vars(recipe.circles)} if recipe.circles else {}),
        "postprocess_origin": subject.origin,
        "weights_sha256": [member.weights_sha256 for member in recipe.members],
        "images_sha256": task.images_sha256,
        "section_nm": task.config.section_nm
        or next((h.section_nm for h in headers if h.section_nm), None),
        ORIGINS: {
            stem_of(plane.path): list(plane.image.header.origin_nm)
            for plane in task.planes
            if plane.image.header.origin_nm
        },
        "model_pixel_size_nm": [info.input_pixel_size_nm for info in subject.infos],
        "tile_px": [info.tile_px for info in subject.infos],
        "halo_px": [info.halo_px for info in subject.infos],
        "device": task.compute.device.type,
        "precision": task.compute.precision,
        "engine": [member.engine or TORCH for member in recipe.members],
        **describe_volumes(task.volumes, recipe.volume),
    }


def _segment_images(task: _Task, folder: Path) -> pd.DataFrame:
    """Segments what is left of the sections or volumes, and returns the table of them."""
    subject = task.subject
    predictor = RecipePredictor.open(subject.recipe, subject.weights, task.compute)
    work = Work(predictor, task.compute, subject.sizes, task.config.format, folder)
    if task.volumes:
        of_volumes = VolumePredictor(predictor, subject.weights, task.compute)
        table = segment_volumes(work, of_volumes, task.volumes)
    else:
        if task.client:
            segment_on_workers(work, task.planes, task.config, subject.weights, task.client)
        else:
            segment_here(work, task.planes)
        table = write_tables([work.part_of(plane) for plane in task.planes], work.content)
    write_json(work.content / SEGMENTATION_FILE, _describe_task(task))
    return table


def segment_here(work: Work, planes: Sequence[Plane]) -> None:
    """Segments the sections that are left, one after the other."""
    predictor = work.predictor
    steps = [predictor.count_steps(plane.shape, plane.pixel_size_nm) for plane in planes]
    done = 0
    with show_progress(f"segment {predictor.recipe.structure}, tiles") as advance:
        for plane, count in zip(planes, steps, strict=True):
            if not work.part_of(plane).exists():

                def report(more: int, name: str = plane.name) -> None:
                    nonlocal done
                    done += more
                    advance(done, sum(steps), name)

                segment_plane(work, plane, report)
            else:
                done += count


def _log_result(run: Run, table: pd.DataFrame, content: Path) -> None:
    """Logs what was found, and the tables and pictures of it, in sections or in volumes."""
    metrics = {"segment/instances": float(table["instances"].sum())}
    for size, density in (("area_um2", "density_per_um2"), ("volume_um3", "density_per_um3")):
        if density in table and table[size].notna().all():
            metrics[f"segment/{density}"] = metrics["segment/instances"] / table[size].sum()
    run.log_metrics(metrics)
    for name in (SECTIONS, VOLUMES_FILE, INSTANCES, SPHERES_FILE, CIRCLES_FILE, SEGMENTATION_FILE):
        path = content / name
        if path.is_file() and path.stat().st_size <= _LARGEST_ARTIFACT_BYTES:
            run.log_file(path)
    names = table["volume" if "volume" in table else "section"]
    for number in np.unique(np.linspace(0, len(table) - 1, _SHOWN_SECTIONS).astype(int)):
        run.log_file(picture_of(content, names.iloc[number]), OVERLAYS)
