"""A segmentation of whole volumes: what is checked before, and what is done to each."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from bench.config.running import SegmentConfig
from bench.core.memory import check_memory
from bench.core.progress import show_progress
from bench.errors import BenchError
from bench.export.label_images import as_label_type
from bench.inference.prediction import SectionPrediction
from bench.inference.resumable import Advance
from bench.ingest.images.planes import Plane
from bench.ingest.stacks import ImageVolume, join_planes
from bench.metrics.curves import TOP_LEVEL
from bench.metrics.membrane import find_inverted, membrane_contrast
from bench.models.checkpoint import ModelInfo
from bench.postprocess.spheres.rows import list_rows
from bench.postprocess.spheres.settings import edge_of_cubes
from bench.recipe.orthoplanes import check_orthoplanes
from bench.recipe.predictor import grey_values_of
from bench.recipe.recipe import VolumeSettings
from bench.recipe.volume_predictor import VolumePredictor, takes_volumes
from bench.recipe.volumes import segment_volume
from bench.steps.serving.subject import SegmentSubject, check_sizes
from bench.steps.serving.volume_files import VolumeFound, write_volume, write_volume_tables
from bench.steps.serving.work import Work
from bench.words import NONE

# Beside its image a voxel takes its level, its id and two masks.
_BYTES_PER_VOXEL = 7
_VESICLE = "vesicle"
# Volumes, and planes of each, whose contrast is looked at.
_LOOKED_AT = 6
_CONTRAST, _NOTES = "membrane_contrast", "notes"


def choose_volumes_of_input(
    planes: Sequence[Plane], subject: SegmentSubject, config: SegmentConfig
) -> tuple[ImageVolume, ...]:
    """The volumes that are segmented as a whole; none where the recipe is of sections.

    Args:
        planes: The planes of all images.
        subject: What is applied.
        config: The settings.

    Raises:
        BenchError: If what was read are no volumes, or not such that the recipe can be applied.
    """
    recipe = subject.recipe
    if recipe.volume is None:
        if any(takes_volumes(info) for info in subject.infos):
            raise BenchError(
                f"a model that sees volumes is applied as it was evaluated on volumes, "
                f"{subject.model} was not: evaluate it on a dataset of volumes with scored=auto, "
                "and segment again"
            )
        return ()
    check_sizes(subject)
    volumes = tuple(join_planes(planes, config.section_nm))
    for volume in volumes:
        _check(volume, recipe.volume)
        for info in subject.infos if recipe.volume.planes else ():
            if not takes_volumes(info):
                check_orthoplanes(info, volume.voxel_size_nm, recipe.augmentations)
    return volumes


def refuse_workers(cluster: str) -> None:
    """Raises BenchError where volumes would be segmented on several workers."""
    if cluster != NONE:
        raise BenchError(
            f"volumes are segmented in one process, received cluster={cluster}: leave cluster and "
            "workers auto, or segment each volume by a command of its own"
        )


def _check(volume: ImageVolume, settings: VolumeSettings) -> None:
    if settings.spheres is not None:
        try:
            edge_of_cubes(volume.voxel_size_nm)
        except BenchError as error:
            raise BenchError(f"{volume.path.name}: {error} (separation=components)") from error
    depth, height, width = volume.shape
    check_memory(
        depth * height * width * (_BYTES_PER_VOXEL + volume.planes[0].read().itemsize),
        f"{volume.name} of {depth} x {height} x {width} voxels",
        "cut it into pieces, or use a machine with more",
    )


def segment_volumes(
    work: Work, predictor: VolumePredictor, volumes: Sequence[ImageVolume]
) -> pd.DataFrame:
    """Segments the volumes that are left, one after the other, and returns the table of all.

    Args:
        work: How volumes are segmented, and where what is finished is kept.
        predictor: The models.
        volumes: The volumes.

    Raises:
        BenchError: If a model cannot be fed a volume.
    """
    for volume in volumes:
        predictor.check(volume.shape, volume.voxel_size_nm)
    steps = [predictor.count_steps(volume.shape) for volume in volumes]
    done = 0
    with show_progress(f"segment {work.predictor.recipe.structure}, planes") as advance:
        for volume, count in zip(volumes, steps, strict=True):

            def report(more: int, name: str = volume.name) -> None:
                nonlocal done
                done += more
                advance(done, sum(steps), name)

            if work.part_of(volume).exists():
                report(count)
            else:
                _segment(work, predictor, volume, report)
            shutil.rmtree(work.tiles / volume.name, ignore_errors=True)
    return write_volume_tables([work.part_of(volume) for volume in volumes], work.content)


def _segment(work: Work, predictor: VolumePredictor, volume: ImageVolume, advance: Advance) -> None:
    maps = predictor.predict(
        volume.read_planes,
        volume.shape,
        volume.voxel_size_nm,
        work.tiles / volume.name,
        advance,
    )
    recipe = work.predictor.recipe
    write_volume(
        volume,
        _find_instances(work, volume, maps),
        structure=recipe.structure,
        format=work.format,
        content=work.content,
        part=work.part_of(volume),
    )


def _find_instances(work: Work, volume: ImageVolume, maps: SectionPrediction) -> VolumeFound:
    recipe, raw = work.predictor.recipe, volume.read_planes(0, volume.shape[0])
    made = segment_volume(recipe, maps, volume.voxel_size_nm, lambda: raw, sizes=work.sizes)
    # Masks and wide labels are as large as the volume: they go as soon as they can.
    made = replace(made, mask=None)
    labels, found = as_label_type(made.labels), made.found
    del made
    facts: dict[str, object] = {"threshold": recipe.threshold}
    # Spheres tell it themselves.
    if found is None and _VESICLE in recipe.structure:
        facts[_CONTRAST] = membrane_contrast(raw, labels, maps.foreground, volume.voxel_size_nm)
    if found is not None:
        facts = {
            "threshold": found.threshold_level / TOP_LEVEL,
            "removed": len(found.removed),
            "specks": found.specks,
            _NOTES: " ".join(found.notes),
        }
    edge_nm = float(np.mean(volume.voxel_size_nm))
    spheres = list_rows(found, volume.name, edge_nm) if found else None
    return VolumeFound(labels, maps.foreground, spheres, facts)


def sample_volumes(volumes: Sequence[ImageVolume]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields name and some planes, one below the other, of a few volumes."""
    numbers = np.linspace(0, len(volumes) - 1, min(_LOOKED_AT, len(volumes))).astype(int)
    for volume in (volumes[number] for number in numbers):
        # The first and the last are often empty.
        planes = np.linspace(0, len(volume.planes), _LOOKED_AT + 2).astype(int)[1:-1]
        yield volume.name, np.concatenate([volume.planes[z].read() for z in planes])


def find_volume_warnings(volumes: pd.DataFrame, infos: Sequence[ModelInfo]) -> list[str]:
    """What is suspicious about the volumes that were segmented, one line each.

    Args:
        volumes: The table of the volumes.
        infos: What the models are. Of those that say which grey values they were trained on, these
            were looked at before.
    """
    warnings = []
    if _NOTES in volumes:
        said = zip(volumes["volume"], volumes[_NOTES], strict=True)
        warnings = [f"{name}: {note}" for name, note in said if note]
    if not grey_values_of(infos) and _CONTRAST in volumes:
        measured = volumes.set_index("volume")[_CONTRAST].dropna()
        warnings += find_inverted({str(name): float(v) for name, v in measured.items()})
    return warnings


def describe_volumes(
    volumes: Sequence[ImageVolume], settings: VolumeSettings | None
) -> dict[str, object]:
    """What a segmentation says of its volumes; nothing of sections."""
    if settings is None:
        return {}
    return {
        "volumes": [volume.name for volume in volumes],
        "voxel_size_nm": [list(volume.voxel_size_nm) for volume in volumes],
        "spheres": vars(settings.spheres) if settings.spheres else NONE,
        **({"planes": settings.planes} if settings.planes else {}),
    }
