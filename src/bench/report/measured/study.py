"""A study: what was measured of all sections, which group each is of, and the tables of it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations

import pandas as pd

from bench.report.measured.estimates import Estimate, Estimator, Measured, compare_estimates
from bench.report.measured.grouping import ALL
from bench.report.measured.held_out import FEWEST_MATCHED, HeldOut
from bench.report.measured.quantities import EXTENT, Quantity, list_quantities
from bench.report.statistics import holm

# As many regions has a group at least of which each counts as one value of a test.
_FEWEST_REGIONS = 3


@dataclass(frozen=True, eq=False)
class Study:
    """Sections, or volumes, that were measured.

    Attributes:
        structure: What was measured.
        axes: 2 of sections, 3 of volumes.
        measured: Their objects.
        regions: The region of each.
        groups: The group of each; empty where none were named, which leaves one of all.
        animals: The animal of each; empty where they were not named.
        held_out: What the model found where there is annotation; None corrects nothing.
        reasons: Why a quantity has no corrected value, by its name; ``""`` is of all of them.
    """

    structure: str
    axes: int
    measured: Measured
    regions: Mapping[str, str]
    groups: Mapping[str, str] = field(default_factory=dict)
    animals: Mapping[str, str] = field(default_factory=dict)
    held_out: HeldOut | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def unit(self) -> str:
        """What a table of it has a row for."""
        return "section" if self.axes == 2 else "volume"

    @cached_property
    def quantities(self) -> tuple[Quantity, ...]:
        """What was measured, in the order of tables."""
        return list_quantities(self.axes, self.measured.tables[0].columns.tolist())

    @cached_property
    def estimators(self) -> dict[str, Estimator]:
        """One for each quantity, which corrects it where the held-out objects allow that."""
        return {quantity.name: self._make_estimator(quantity) for quantity in self.quantities}

    def _make_estimator(self, quantity: Quantity) -> Estimator:
        held_out = self.held_out
        if held_out is None or quantity.column not in ("", *held_out.found[0].columns):
            return Estimator(quantity, None)
        if held_out.matched >= FEWEST_MATCHED:
            return Estimator(quantity, held_out)
        # A share of the tissue needs no pairs of objects.
        is_share = bool(quantity.column) and quantity.over == EXTENT
        return Estimator(quantity, held_out if is_share else None, by_pairs=False)

    @cached_property
    def members(self) -> dict[str, list[int]]:
        """The numbers of the sections of each group."""
        found: dict[str, list[int]] = {}
        for number, name in enumerate(self.measured.names):
            group = self.groups.get(name) if self.groups else ALL
            if group:
                found.setdefault(group, []).append(number)
        return found

    @cached_property
    def drawn(self) -> str:
        """What counts as one value of a group: an animal, a region, or a section (or volume)."""
        if self.animals:
            return "animal"
        names = self.measured.names
        regions = [{self.regions[names[n]] for n in places} for places in self.members.values()]
        several = len(set(self.regions.values())) < len(names)
        apart = sum(map(len, regions)) == len(set().union(*regions))
        if several and apart and min(map(len, regions)) >= _FEWEST_REGIONS:
            return "region"
        return self.unit

    def take_group(self, places: Sequence[int]) -> Measured:
        """The sections of a group, with what is drawn of them."""
        taken = self.measured.take(places)
        if self.drawn == self.unit:
            return taken
        homes = self.animals if self.drawn == "animal" else self.regions
        return Measured(
            taken.names,
            taken.tables,
            taken.extents,
            taken.serial,
            tuple(homes.get(name, name) for name in taken.names),
        )


def summarise(study: Study) -> pd.DataFrame:
    """The quantities of every region, group and of all: found, corrected, with intervals.

    Returns:
        A row for each with ``level``, ``name``, how many sections and objects it has, the
        quantity, ``raw``, ``raw_low``, ``raw_high`` and ``corrected`` with the same; NaN where
        there is none.
    """
    rows = []
    for level, name, places in _list_levels(study):
        whole = level == "region"
        measured = study.measured.take(places) if whole else study.take_group(places)
        counts = {
            f"{study.unit}s": len(places),
            "objects": sum(len(table) for table in measured.tables),
        }
        for quantity in study.quantities:
            estimator = study.estimators[quantity.name]
            values = {
                "raw": estimator.raw(measured),
                "corrected": estimator.corrected(measured),
            }
            row: dict[str, object] = {"level": level, "name": name, **counts}
            row |= {"quantity": quantity.name, "label": quantity.label, "unit": quantity.unit}
            for key, estimate in values.items():
                low, high = estimate.interval(0.0, quantity.high)
                row |= {key: estimate.value, f"{key}_low": low, f"{key}_high": high}
            rows.append(row)
    return pd.DataFrame(rows)


def _list_levels(study: Study) -> Iterator[tuple[str, str, list[int]]]:
    """Level, name and sections of each row of the summary."""
    every = list(range(len(study.measured.names)))
    if study.groups:
        for group, places in study.members.items():
            yield "group", group, places
    yield ALL, ALL, every
    regions: dict[str, list[int]] = {}
    for number, name in enumerate(study.measured.names):
        regions.setdefault(study.regions[name], []).append(number)
    if 1 < len(regions) < len(every):
        for region, places in regions.items():
            yield "region", region, places


def tabulate_sections(study: Study) -> pd.DataFrame:
    """A row for every section and quantity, found and corrected."""
    names, tables = study.measured.names, []
    for quantity in study.quantities:
        values = study.estimators[quantity.name].by_section(study.measured)
        values = values.rename(columns={"low": "corrected_low", "high": "corrected_high"})
        values.insert(0, "unit", quantity.unit)
        values.insert(0, "quantity", quantity.name)
        values.insert(0, "objects", [len(table) for table in study.measured.tables])
        values.insert(0, "animal", [study.animals.get(name, "") for name in names])
        values.insert(0, "group", [study.groups.get(name, "") for name in names])
        values.insert(0, "region", [study.regions[name] for name in names])
        values.insert(0, study.unit, names)
        tables.append(values)
    return pd.concat(tables, ignore_index=True)


def tabulate_objects(study: Study) -> pd.DataFrame:
    """A row for every object, with the section, region, group and animal that it is of."""
    tables = []
    for name, table in zip(study.measured.names, study.measured.tables, strict=True):
        homes = {
            study.unit: name,
            "region": study.regions[name],
            "group": study.groups.get(name, ""),
            "animal": study.animals.get(name, ""),
        }
        tables.append(table.assign(**homes)[[*homes, *table.columns]])
    # Those without objects bring columns without a type.
    filled = [table for table in tables if len(table)] or tables[:1]
    return pd.concat(filled, ignore_index=True)


def compare_groups(study: Study) -> pd.DataFrame:
    """Every pair of groups in every quantity: the difference, its interval and p.

    One value of a group is an animal, a region or a section, as ``drawn`` says; neighbouring
    sections count for as much as they tell. p is that of a t test with Welch's degrees of freedom
    of the raw values, and of the corrected ones, which carries the model's error too; Holm's
    correction is over all quantities and pairs.

    Returns:
        A row for each; empty with fewer than two groups.
    """
    rows = []
    for first, second in combinations(study.members, 2):
        sides = [study.take_group(study.members[name]) for name in (first, second)]
        for quantity in study.quantities:
            estimator = study.estimators[quantity.name]
            row: dict[str, object] = {
                "first": first,
                "second": second,
                "quantity": quantity.name,
                "label": quantity.label,
                "unit": quantity.unit,
                "of": study.drawn,
                **{
                    f"n_{place}": len(set(side.clusters or side.names))
                    for place, side in zip(("first", "second"), sides, strict=True)
                },
            }
            row |= _describe_difference("raw", *map(estimator.raw, sides))
            row |= _describe_difference("corrected", *map(estimator.corrected, sides))
            rows.append(row)
    table = pd.DataFrame(rows)
    for kind in ("raw", "corrected") if len(table) else ():
        defined = table[f"{kind}_p"].notna()
        table.loc[defined, f"{kind}_p_holm"] = holm(table.loc[defined, f"{kind}_p"].tolist())
    return table


def _describe_difference(kind: str, first: Estimate, second: Estimate) -> dict[str, float]:
    found = compare_estimates(first, second)
    low, high = found.interval()
    return {
        f"{kind}_difference": found.value,
        f"{kind}_low": low,
        f"{kind}_high": high,
        f"{kind}_p": found.p_value() if math.isfinite(found.value) else math.nan,
        f"{kind}_p_holm": math.nan,
    }
