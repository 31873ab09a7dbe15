"""Search the best combination of evaluated models, on their stored predictions."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config.scoring import OptimizeConfig
from bench.core.files import check_output
from bench.core.progress import show_progress
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError, unknown_name
from bench.inference.prediction import SectionPrediction
from bench.metrics.table import requested_metrics, scored_metrics, searchable_metrics
from bench.postprocess.instances import LARGEST_FOOTPRINT_RADIUS_PX, Instances
from bench.postprocess.spheres.settings import SphereSettings, circle_settings
from bench.recipe.recipe import Recipe, VolumeSettings, searched_by
from bench.recipe.scores import SplitResult
from bench.recipe.sections import need_pixel_size
from bench.report.variants import combination_name
from bench.search.candidates import (
    Candidate,
    Evidence,
    check_metric,
    score_candidate,
    segment_candidate,
)
from bench.search.map_search import ENSEMBLE_MODES, MapSettings
from bench.search.search import SearchResult, SearchSettings, search_combinations
from bench.steps.scoring.evaluation_report import (
    describe_data,
    log_curve,
    log_ignored,
    log_pictures,
    log_scores,
    log_validation,
)
from bench.steps.scoring.optimize_members import Member, find_members, predictions_of
from bench.steps.scoring.optimize_report import (
    TestScores,
    log_combination,
    log_search,
    restore_output,
    show,
)
from bench.steps.scoring.units import Unit, list_units
from bench.steps.table.records import find_stages, sum_costs
from bench.steps.used_data import describe_run
from bench.structures import Structure, find_structure, split_names
from bench.tracking.opening import open_run
from bench.tracking.queries import read_run
from bench.tracking.runs import Identity, Run
from bench.tracking.store import Store, experiment_id_of, open_store
from bench.words import AUTO, NONE, SECTION_UNIT, VOLUME_UNIT, of_units

# How vesicles of sections are tried as circles: by shape, from several radii (nm) on, and by their
# membranes, for which pixels may be too coarse.
_CIRCLES = (
    *(circle_settings(radius_nm) for radius_nm in (4.0, 6.0, 8.0)),
    circle_settings(6.0, by_membranes=True),
)
# Factors of the minimum areas of the evaluations that are tried.
_AREA_FACTORS = (0.125, 0.25, 0.5, 1, 2, 4, 8)


@dataclass(frozen=True)
class _Task:
    config: OptimizeConfig
    dataset: PreparedDataset
    structure: Structure
    members: Sequence[Member]
    defaults: dict[str, Candidate]
    settings: SearchSettings

    @property
    def of_volumes(self) -> bool:
        """Whether whole volumes are scored; all members agree."""
        return self.members[0].recipe.volume is not None

    @property
    def unit(self) -> str:
        """What has a score of its own."""
        return VOLUME_UNIT if self.of_volumes else SECTION_UNIT

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what the winner is scored by."""
        return scored_metrics(
            self.structure.name, volumes=self.of_volumes, requested=self.requested
        )

    @property
    def requested(self) -> tuple[str, ...]:
        """Names of the metrics that are scored as the user asks for them.

        Raises:
            BenchError: If the settings name a metric that is not there.
        """
        name, volumes = self.structure.name, self.of_volumes
        return requested_metrics(self.config.metrics, name, volumes=volumes)

    def units(self, split: str) -> list[Unit]:
        """What is scored as one."""
        return list_units(self.dataset, split, by_section=not self.of_volumes)


def optimize(config: OptimizeConfig, store: Store | None = None, parent: str | None = None) -> str:
    """Searches the best combination and returns the id of the run that keeps it.

    Args:
        config: The settings.
        store: The tracking store; opened if not given.
        parent: Id of the run that this one is a child of.

    Raises:
        BenchError: If there are no predictions to search, or they do not belong together.
    """
    store = store or open_store()
    check_output(Path(config.output))
    task = _resolve_task(config, store)
    run = open_run(store, _identify(task), parent=parent)
    if run.reused:
        restore_output(store, run.id, Path(config.output))
        return run.id
    with run:
        describe_run(run, task.dataset, config, _resolved_settings(task), "val")
        evidence = _gather(task, "val", store)
        with show_progress(f"optimize {task.structure.name}") as advance:
            result = search_combinations(evidence, task.defaults, task.settings, advance)
        recipe = _make_recipe(task, result)
        log_search(run, result, recipe, Path(config.output))
        _log_costs(run, task, recipe, store)
        # The test split is read here and nowhere before: nothing is chosen any more.
        on_test = _gather(task, "test", store)
        test = _score_test(task, on_test, run, result)
        scored = score_candidate(evidence, result.winner, task.metrics)
        if test is None:
            _log_split(task, run, result.winner, scored, evidence)
        else:
            recipe = dataclasses.replace(recipe, test=test.winner.scores())
            log_validation(run, scored)
            _log_split(task, run, result.winner, test.winner, on_test)
        log_combination(run, recipe, test, Path(config.output))
        show(result, recipe, test)
    return run.id


def _resolve_task(config: OptimizeConfig, store: Store) -> _Task:
    check_metric(config.metric)
    dataset = PreparedDataset.open(config.dataset)
    structure = find_structure(config.structure, dataset.structures)
    dataset.instances("val", structure.name)
    members = find_members(config, dataset, structure.name, store)
    defaults = {member.name: member.plain_candidate() for member in members}
    settings = _read_settings(config, structure, list(defaults.values()))
    task = _Task(config, dataset, structure, members, defaults, settings)
    _check_circles(task)
    return task


def _check_circles(task: _Task) -> None:
    if not task.config.circles:
        return
    if task.of_volumes:
        raise BenchError(
            "circles are of sections, received circles=true for a dataset of volumes: evaluate "
            "with spheres=data, which a search tries as well"
        )
    need_pixel_size(task.dataset.pixel_size_nm)


def _read_settings(
    config: OptimizeConfig, structure: Structure, plain: Sequence[Candidate]
) -> SearchSettings:
    modes = () if config.ensembles == NONE else tuple(split_names(config.ensembles))
    for mode in modes:
        if mode not in ENSEMBLE_MODES:
            raise unknown_name("ensemble", mode, (*ENSEMBLE_MODES, NONE))
    radii = _read_numbers("opening_radii_px", config.opening_radii_px)
    if max(radii) > LARGEST_FOOTPRINT_RADIUS_PX:
        raise BenchError(
            f"opening_radii_px must be 0 to {LARGEST_FOOTPRINT_RADIUS_PX}, received "
            f"{max(radii)}: leave it out"
        )
    return SearchSettings(
        maps=MapSettings(
            metric=config.metric,
            augmentations=config.augmentations,
            ensembles=modes,
            largest_ensemble=config.largest_ensemble,
            pool=config.pool,
            shortlist=config.shortlist,
            weighted=config.weighted_means,
        ),
        finalists=config.finalists,
        radii=sorted(radii),
        min_areas=sorted(_choose_areas(config, structure, plain)),
    )


def _choose_areas(
    config: OptimizeConfig, structure: Structure, plain: Sequence[Candidate]
) -> set[int]:
    """The smallest areas that are tried, px."""
    if config.min_areas_px != AUTO:
        return _read_numbers("min_areas_px", config.min_areas_px)
    scaled = {round(factor * each.min_area_px) for each in plain for factor in _AREA_FACTORS}
    return {0, structure.paper_min_area_px or 0} | scaled


def _read_numbers(name: str, text: str) -> set[int]:
    parts = split_names(text)
    if not parts or not all(part.isdecimal() for part in parts):
        raise BenchError(
            f"{name} must be whole numbers from 0 on, comma-separated, received {text!r}: "
            "write for example 0,1,2"
        )
    return {int(part) for part in parts}


def _identify(task: _Task) -> Identity:
    return Identity(
        step="optimize",
        settings={
            "search": task.settings,
            **({"metrics": list(task.requested)} if task.requested else {}),
            **({"circles": _CIRCLES} if task.config.circles else {}),
        },
        inputs={
            "validation": ",".join(member.validation.id for member in task.members),
            "test": ",".join(member.test.id if member.test else "" for member in task.members),
        },
        method=combination_name(task.settings.metric),
        structure=task.structure.name,
        dataset=task.dataset.content_hash,
        # A search draws nothing; tables ask every row for one.
        seed=0,
        parts=(
            *(f"metric {name}" for name in task.metrics),
            *(("spheres",) if _spheres_to_try(task) else ()),
        ),
    )


def _resolved_settings(task: _Task) -> dict[str, object]:
    return dataclasses.asdict(task.config) | {
        "structure": task.structure.name,
        "members": ", ".join(member.name for member in task.members),
        "validation_runs": ",".join(member.validation.id for member in task.members),
        "opening_radii_px": ",".join(map(str, task.settings.radii)),
        "min_areas_px": ",".join(map(str, task.settings.min_areas)),
    }


def _gather(task: _Task, split: str, store: Store) -> Evidence:
    """The stored predictions of a split; its annotations are read when they are asked for."""
    files, stored = {}, {}
    for member in task.members:
        evaluation = member.validation if split == "val" else member.test
        if evaluation is not None:
            files[member.name], stored[member.name] = predictions_of(
                evaluation, task.dataset, store
            )

    units = {unit.name: unit for unit in task.units(split)}

    def read(member: str, unit: str, augmentation: str) -> SectionPrediction:
        return units[unit].read_prediction(files[member], augmentation)

    return Evidence(
        sections=tuple(units),
        members=stored,
        read=read,
        read_truth=lambda unit: units[unit].read_labels(task.structure.name),
        pixel_size_nm=task.dataset.pixel_size_nm,
        voxel_size_nm=next(iter(units.values())).voxel_size_nm,
        read_raw=lambda unit: units[unit].read_raw(),
        spheres=_spheres_to_try(task),
        read_levels=lambda unit: units[unit].read_levels(task.structure.name),
    )


def _spheres_to_try(task: _Task) -> tuple[SphereSettings, ...]:
    """The ways of making spheres that the members were evaluated with, and those of circles."""
    evaluated = (member.recipe.spheres for member in task.members)
    tried = _CIRCLES if task.config.circles else ()
    return tuple(dict.fromkeys([*(each for each in evaluated if each), *tried]))


def _make_recipe(task: _Task, result: SearchResult) -> Recipe:
    winner, members = result.winner, {member.name: member for member in task.members}
    chosen = [members[name] for name in winner.blend.members]
    return Recipe(
        structure=task.structure.name,
        dataset=task.dataset.content_hash,
        pixel_size_nm=task.dataset.pixel_size_nm,
        rescale=chosen[0].recipe.rescale,
        members=tuple(member.for_recipe() for member in chosen),
        ensemble=winner.blend.ensemble,
        weights=winner.blend.weights,
        augmentations=winner.blend.augmentations,
        level=winner.level,
        opening_radius_px=winner.opening_radius_px,
        min_area_px=winner.min_area_px,
        watershed=winner.watershed,
        metric=task.settings.metric,
        validation=winner.scores,
        origin=of_units(searched_by(task.settings.metric), [task.unit]),
        volume=_volume_of(task, winner),
        circles=None if task.of_volumes else winner.spheres,
    )


def _volume_of(task: _Task, winner: Candidate) -> VolumeSettings | None:
    of_member = task.members[0].recipe.volume
    if of_member is None:
        return None
    # Those that have sections as planes agree; networks of volumes have none.
    volumes = [member.recipe.volume for member in task.members]
    planes = next((each.planes for each in volumes if each and each.planes), None)
    return VolumeSettings(of_member.section_nm, winner.spheres, planes)


def _log_split(
    task: _Task, run: Run, winner: Candidate, result: SplitResult, evidence: Evidence
) -> None:
    units = task.units("val")
    split = "val" if evidence.sections == tuple(unit.name for unit in units) else "test"
    units = task.units(split)
    log_scores(run, result, split)
    log_curve(run, result, winner.level)
    run.set_tags({"bench.split": split})

    def clean(unit: Unit) -> Instances:
        return segment_candidate(evidence, winner, unit.name)

    log_pictures(run, units, task.structure.name, result, clean)
    describe_data(run, units, task.structure.name)
    log_ignored(run, units, task.structure.name, split)


def _log_costs(run: Run, task: _Task, recipe: Recipe, store: Store) -> None:
    members = {member.name: member for member in task.members}
    found = [read_run(store.client.get_run(m.evaluation)) for m in recipe.members]
    stages = find_stages(store, experiment_id_of(store, task.config.experiment), found, [])
    costs = [sum_costs(evaluation, stages) for evaluation in found]
    run.set_tags({"bench.train_seconds": str(sum(c.get("train_seconds", 0) for c in costs))})
    seconds = 0.0
    for each, cost in zip(recipe.members, costs, strict=True):
        evaluated = members[each.name].recipe
        passes = len(recipe.augmentations) / len(evaluated.augmentations)
        seconds += passes / cost.get("predict_megapixels_per_s", math.inf)
    facts = {"model/parameters": sum(c.get("parameters", 0) for c in costs)}
    if seconds:
        facts["predict/megapixels_per_s"] = 1 / seconds
    run.log_facts(facts)


def _score_test(
    task: _Task, evidence: Evidence, run: Run, result: SearchResult
) -> TestScores | None:
    """Scores the winner on the test split, once, and the best model alone beside it.

    None, and a warning, where a model of either lacks predictions under an augmentation needed.
    """
    lacking = [
        name
        for blend in (result.winner.blend, result.single.blend)
        for name in blend.members
        if not set(blend.augmentations) <= set(evidence.members.get(name, ()))
    ]
    if lacking:
        names = ", ".join(dict.fromkeys(lacking))
        run.add_warning(
            f"the winner has no test score, as {names} was not evaluated on the test split with "
            "its augmentations: evaluate with split=test augmentations=all, then optimize again"
        )
        return None

    return TestScores(
        winner=score_candidate(evidence, result.winner, task.metrics),
        # Only what is compared with it.
        single=score_candidate(evidence, result.single, searchable_metrics()),
    )
