"""Finds the labels that an export is of, by what the user named."""

import logging
from pathlib import Path

import numpy as np

from bench.config.data import ExportConfig, PrepareConfig
from bench.core.hashing import json_sha256, path_sha256
from bench.dataset.checks import read_instances
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.inference.prediction_file import read_mean
from bench.ingest.classes import parse_classes
from bench.ingest.segmented import describe_segmented, find_segmented
from bench.ingest.sources import SourceImage, SourceSection
from bench.models.scales import find_scale_warnings
from bench.recipe.predictor import RecipePredictor
from bench.report.variants import combination_name
from bench.steps.scoring.recipes import (
    FoundRecipe,
    fetch_registered,
    fetch_searched,
    read_evaluated,
)
from bench.steps.serving.export_subject import (
    DEFAULT_SPLIT,
    ExportImage,
    ExportSubject,
    export_annotation,
    subject_of_split,
)
from bench.steps.serving.files import OUTPUT_TAG
from bench.structures import find_structure, find_structures, order_structures, split_names
from bench.tracking.evaluations import SEARCH_STEP, Evaluation, get_evaluation
from bench.tracking.queries import fetch_artifact, get_finished, scratch_folder, step_of
from bench.tracking.registry import SCHEME
from bench.tracking.store import Store
from bench.words import AUTO, NONE

log = logging.getLogger(__name__)

_SEGMENT_STEP = "segment"
_SEGMENTED = "segmented"


def find_export_subject(config: ExportConfig, store: Store) -> ExportSubject:
    """Finds what a config names.

    Raises:
        BenchError: If there is none, or the config contradicts itself.
    """
    folders = _find_folders(config, store)
    if folders:
        return _find_segmented(config, folders)
    dataset = PreparedDataset.open(config.dataset)
    if config.run_id in (AUTO, NONE):
        return export_annotation(config, dataset)
    if config.run_id.startswith(SCHEME):
        model, found = fetch_registered(store, config.run_id)
        return _find_applied(config, dataset, found, model.uri)
    if step_of(store, config.run_id) == SEARCH_STEP:
        found = fetch_searched(store, config.run_id)
        return _find_applied(config, dataset, found, found.run_id)
    return _find_evaluated(config, dataset, get_evaluation(store, config.run_id), store)


def _find_folders(config: ExportConfig, store: Store) -> dict[Path, str]:
    """The outputs of segment that a config names, with the run of each; empty if it names none."""
    runs = [] if config.run_id in (AUTO, NONE) else list(split_names(config.run_id))
    if config.input != NONE:
        if runs:
            raise BenchError(
                f"export writes one thing, received input={config.input} and run_id="
                f"{config.run_id}: leave one of both out"
            )
        return dict.fromkeys(map(Path, split_names(config.input)), "")
    if config.run_id.startswith(SCHEME):
        return {}
    if len(runs) == 1 and step_of(store, runs[0]) != _SEGMENT_STEP:
        return {}
    found = {}
    for run_id in runs:
        run = get_finished(store, run_id, (_SEGMENT_STEP,), "have segmented images")
        folder = Path(run.data.tags.get(OUTPUT_TAG, "") or run.data.params["cfg.output"])
        if not folder.is_dir():
            raise BenchError(
                f"the output of run {run_id} must be where it was written, received nothing at "
                f"{folder.absolute()}: give its folder as -P input=FOLDER in place of run_id"
            )
        found[folder] = run_id
    return found


def _find_segmented(config: ExportConfig, folders: dict[Path, str]) -> ExportSubject:
    """What segment wrote into some folders, a structure each, of the same images."""
    said = {folder: describe_segmented(folder) for folder in folders}
    first = next(iter(said.values()))
    sections: dict[str, SourceSection] = {}
    labels: dict[tuple[str, str], SourceImage] = {}
    for folder, description in said.items():
        if description.get("images_sha256") != first.get("images_sha256"):
            raise BenchError(
                f"segmentations that are exported together must be of the same images, received "
                f"others in {folder} than in {next(iter(said))}: export them one by one"
            )
        for section in _list_sections(folder):
            sections.setdefault(section.stem, section)
            for structure, mask in section.labels.items():
                if (section.stem, structure) in labels:
                    raise BenchError(
                        f"one segmentation of {structure} can be exported at a time, received "
                        f"several with {section.stem}: leave one out"
                    )
                labels[section.stem, structure] = mask
    structures = _choose_structures(config, {structure for _, structure in labels})
    files = {
        f"{name} {kind}": path_sha256(path)
        for name, section in sections.items()
        for kind, image in (
            ("raw", section.raw),
            *((structure, labels[name, structure]) for structure in structures),
        )
        for path in image.files.values()
    }

    def read(name: str, structure: str) -> np.ndarray:
        mask = labels[name, structure]
        return read_instances(mask.read(), mask.place, ids=True)[0]

    return ExportSubject(
        {name: _image_of(section) for name, section in sections.items()},
        _SEGMENTED,
        structures,
        read,
        _of_each_section,
        {"segmentation": json_sha256(files)},
        section_nm=first.get("section_nm"),
        run_id=",".join(filter(None, folders.values())),
        method=str(first.get("method", "")),
    )


def _list_sections(folder: Path) -> list[SourceSection]:
    config = PrepareConfig(input=str(folder))
    found, _ = find_segmented(config, parse_classes(config.structures))
    return found.sections


def _image_of(section: SourceSection) -> ExportImage:
    """Rows of what segment wrote begin at the top, as people see the image."""
    header = section.raw.header
    size_nm = header.pixel_sides_nm[0] if header.pixel_sides_nm else None
    return ExportImage(header.shape, size_nm, False, section.raw.read)


def _choose_structures(config: ExportConfig, there: set[str]) -> tuple[str, ...]:
    """The structures that were segmented, or those of them that the user names."""
    if config.structure == AUTO:
        return order_structures(there)
    return tuple(row.name for row in find_structures(config.structure, order_structures(there)))


def _find_applied(
    config: ExportConfig, dataset: PreparedDataset, found: FoundRecipe, model: str
) -> ExportSubject:
    """What the recipe of a search, or a registered one, makes of a dataset's split."""
    recipe = found.recipe
    _check_structure(config, f"{model} segments", recipe.structure)
    compute = choose_compute(config.device, AUTO)
    predictor = RecipePredictor.open(recipe, found.weights, compute)
    size_nm = dataset.pixel_size_nm
    warnings = [
        *found.warnings,
        *find_scale_warnings(predictor.infos, [size_nm] if size_nm else [], rescale=recipe.rescale),
    ]

    def read(name: str, _: str) -> np.ndarray:
        log.info("%s: %s is segmented", name, recipe.structure)
        with scratch_folder() as folder:
            maps = predictor.predict(
                dataset.read_raw(name), size_nm, Path(folder) / "tiles", lambda more: None
            )
        return recipe.segment(maps, size_nm).labels

    return subject_of_split(
        dataset,
        DEFAULT_SPLIT if config.split == AUTO else config.split,
        (recipe.structure,),
        read=read,
        numbering=_of_each_section,
        inputs={"model": model},
        settings={"device": compute.device.type, "precision": compute.precision},
        run_id=model,
        method=combination_name(recipe.metric),
        warnings=tuple(warnings),
    )


def _check_structure(config: ExportConfig, what: str, structure: str) -> None:
    if config.structure != AUTO and find_structure(config.structure).name != structure:
        raise BenchError(
            f"{what} {structure}, received structure={config.structure}: leave structure out, or "
            "give a run of that structure"
        )


def _find_evaluated(
    config: ExportConfig, dataset: PreparedDataset, found: Evaluation, store: Store
) -> ExportSubject:
    if found.dataset != dataset.content_hash:
        raise BenchError(
            f"run {found.id} evaluated a dataset of content {found.dataset[:12]}, received "
            f"{dataset.root} of content {dataset.content_hash[:12]}: give the dataset of the run"
        )
    if config.split not in (AUTO, found.split):
        raise BenchError(
            f"run {found.id} predicted {found.split}, received split={config.split}: leave split "
            "out, or evaluate that split"
        )
    _check_structure(config, f"run {found.id} segmented", found.structure)
    recipe = read_evaluated(found, store)
    predictions = fetch_artifact(store, found.id, "predictions.h5")

    def read(name: str, _: str) -> np.ndarray:
        prediction = read_mean(predictions, name, recipe.augmentations)
        return recipe.segment(prediction, dataset.pixel_size_nm).labels

    return subject_of_split(
        dataset,
        found.split,
        (found.structure,),
        read=read,
        numbering=_of_each_section,
        inputs={"evaluation": found.id},
        run_id=found.id,
        method=found.method,
    )


def _of_each_section(name: str, _: str) -> str:
    """A model sees one section at a time: its numbers start anew in each."""
    return name
