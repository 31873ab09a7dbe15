"""How often intervals of measurements hold the truth, in studies simulated from the phantom.

Vesicles of phantom sections, whose truth is known, are found by a pixel classifier that was fitted
on four others. A study draws sections to measure and others that are held out, as a laboratory has
them; the truth is that of all sections.
Printed is how often the 95 % intervals of `measure` hold it, as found and corrected, and how far
off both are; then the same where the tissue measured has more vesicles than the held-out one; and
how often two groups of equal animals are told apart at 0.05, by animals and by sections.

The sections take most of the time, studies rest on their tables alone: ``--samples`` keeps these in
a file, and reads them where it is there.

    PYTHONPATH=src python benchmarks/measured_studies.py [--studies 200] [--samples /tmp/kept.csv]
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from measuring import HERE, describe_machine

from bench.core.files import write_json
from bench.inference.feeding import Moments
from bench.measurement.matching import match_objects
from bench.measurement.objects import describe_objects, extent
from bench.models.pixels.filters import filter_maps
from bench.models.pixels.pixel_classifier import HALO_PX, PixelClassifier
from bench.phantom.region import PhantomRegion, make_region
from bench.postprocess.instances import clean_mask
from bench.report.measured.estimates import Estimate, Estimator, Measured, compare_estimates
from bench.report.measured.held_out import HeldOut
from bench.report.measured.quantities import Quantity, list_quantities
from bench.training.pixels.fitting import PixelWork, fit_classifier
from bench.training.pixels.pieces import list_places, make_piece

FILE = HERE / "measured_studies.json"
SIDE_PX, PIXEL_NM = 320, 5.0
EDGES_NM = (PIXEL_NM, PIXEL_NM)
TRAINING = 4
# Sections are predicted in squares of so many.
COLUMNS = 3
OPENING_PX, SMALLEST_PX = 1, 20
MEASURED, HELD_OUT = (10, 20), (6, 12)
ANIMALS, OF_ANIMAL, ALIKE = 5, 4, 12
DOMAIN = "resin"


class Sample(NamedTuple):
    """A section: its objects, annotated and found."""

    truth: pd.DataFrame
    found: pd.DataFrame


def make_section(seed: int) -> PhantomRegion:
    """A section of the phantom; every one is of another tissue."""
    shape = (1, SIDE_PX, SIDE_PX)
    return make_region(shape=shape, pixel_size_nm=PIXEL_NM, domain=DOMAIN, seed=seed)


def fit(regions: Sequence[PhantomRegion], structure: str) -> PixelClassifier:
    """A pixel classifier of a structure."""
    device, pieces = torch.device("cpu"), []
    for number, region in enumerate(regions):
        truth = region.labels[structure][0] > 0
        nothing = np.zeros(truth.shape, bool)
        for place, _ in list_places(number, truth):
            pieces.append(make_piece(region.raw[0], truth, nothing, place, filter_maps, device))
    return fit_classifier(pieces, PixelWork(pixels=16_000, trees=40), seed=0).classifier


def find(classifier: PixelClassifier, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Ids of what a classifier finds in sections, which lie side by side in one image."""
    mosaic = np.block([list(images[n : n + COLUMNS]) for n in range(0, len(images), COLUMNS)])
    around = np.pad(Moments.of(mosaic).apply(mosaic), HALO_PX, mode="symmetric")
    with torch.no_grad():
        logits = classifier(torch.from_numpy(around)[None, None])[0, 0].numpy()
    # The limit of the sample, of which a fourth and more is the structure, finds twice as many as
    # that of the tissue, and joins those that touch: errors that a correction has to mend.
    found = logits[HALO_PX:-HALO_PX, HALO_PX:-HALO_PX] > float(classifier.shift)
    pieces = found.reshape(-1, SIDE_PX, COLUMNS, SIDE_PX).swapaxes(1, 2)
    masks = pieces.reshape(-1, SIDE_PX, SIDE_PX)
    return [
        clean_mask(mask, opening_radius_px=OPENING_PX, min_area_px=SMALLEST_PX).labels
        for mask in masks
    ]


def make_samples(count: int) -> list[Sample]:
    """Sections with their objects, annotated and found; so many, to a whole mosaic."""
    classifier = fit([make_section(seed) for seed in range(TRAINING)], "vesicles")
    samples, seed = [], TRAINING
    while len(samples) < count:
        regions = [make_section(seed + n) for n in range(COLUMNS**2)]
        seed += len(regions)
        labels = find(classifier, [region.raw[0] for region in regions])
        samples += [sample(*each) for each in zip(regions, labels, strict=True)]
    return samples


def keep_samples(samples: Sequence[Sample], path: Path) -> None:
    """Writes the objects of all sections as one table."""
    tables = [
        table.assign(section=number, kind=kind)
        for number, each in enumerate(samples)
        for kind, table in zip(Sample._fields, each, strict=True)
    ]
    pd.concat(tables).to_csv(path, index=False)


def read_samples(path: Path) -> list[Sample]:
    """Reads what keep_samples wrote."""
    rows = pd.read_csv(path)
    keys = ["section", "kind"]
    found = {key: table.drop(columns=keys) for key, table in rows.groupby(keys)}
    nothing = rows.iloc[:0].drop(columns=keys)
    return [
        Sample(*(found.get((number, kind), nothing) for kind in Sample._fields))
        for number in range(rows["section"].max() + 1)
    ]


def sample(region: PhantomRegion, found: np.ndarray) -> Sample:
    """The objects of a section; distances are to its membrane, as if somebody had drawn it."""
    truth, walls = (region.labels[name][0].astype(np.int64) for name in ("vesicles", "membrane"))
    tables = [describe_objects(each, region.raw[0], EDGES_NM, walls) for each in (truth, found)]
    match_objects(*tables, true_labels=truth, found_labels=found)
    return Sample(*tables)


def measured(
    samples: Sequence[Sample], kind: int, series: str = "s", clusters: Sequence[str] = ()
) -> Measured:
    """Sections as `measure` has them, annotated (0) or found (1)."""
    size = extent((SIDE_PX, SIDE_PX), EDGES_NM)
    # Sections of the phantom are of other tissue each, which no number in a name may deny.
    names = tuple(f"{series}{n:03d}x" for n in range(len(samples)))
    tables = tuple(each[kind] for each in samples)
    return Measured(names, tables, (size,) * len(names), serial=True, clusters=tuple(clusters))


def held_out(samples: Sequence[Sample]) -> HeldOut:
    """The same as held-out sections."""
    found = measured(samples, 1, "held")
    truth = tuple(each.truth for each in samples)
    return HeldOut(found.names, truth, found.tables, found.extents, "the phantom")


def holds(estimate: Estimate, truth: float, quantity: Quantity) -> bool:
    """Whether an interval holds the truth."""
    low, high = estimate.interval(0.0, quantity.high)
    return low <= truth <= high


class Tally(NamedTuple):
    """What came of the studies of a quantity: holds the truth, and relative errors."""

    quantity: Quantity
    raw: float
    corrected: float
    raw_error: float
    corrected_error: float


def simulate(
    pool: Sequence[Sample], tissue: Sequence[Sample], sizes: tuple[int, int], studies: int
) -> list[Tally]:
    """Draws studies: held-out sections of the pool, and sections of a tissue that are measured."""
    rng = np.random.default_rng(1)
    columns = pool[0].truth.columns.tolist()
    quantities = list_quantities(2, columns)
    truths = {q.name: Estimator(q, None).raw(measured(tissue, 0)).value for q in quantities}
    # No annotated vesicle touches the membrane.
    quantities = tuple(q for q in quantities if truths[q.name] > 0)
    rows: dict[str, list[tuple[float, ...]]] = {q.name: [] for q in quantities}
    for _ in range(studies):
        chosen = [tissue[n] for n in rng.integers(len(tissue), size=sizes[0])]
        known = held_out([pool[n] for n in rng.integers(len(pool), size=sizes[1])])
        for quantity in quantities:
            truth, estimator = truths[quantity.name], Estimator(quantity, known)
            found = measured(chosen, 1)
            raw, corrected = estimator.raw(found), estimator.corrected(found)
            rows[quantity.name].append(
                (
                    holds(raw, truth, quantity),
                    holds(corrected, truth, quantity),
                    raw.value / truth - 1,
                    corrected.value / truth - 1,
                )
            )
    return [Tally(q, *np.nanmean(rows[q.name], axis=0).tolist()) for q in quantities]


def list_tallies(title: str, tallies: Sequence[Tally]) -> Iterator[str]:
    """Yields the lines of a table."""
    yield f"\n{title}\n"
    yield "| quantity | found: holds | off by | corrected: holds | off by |"
    yield "|---|---:|---:|---:|---:|"
    for each in tallies:
        yield (
            f"| {each.quantity.label} | {100 * each.raw:.0f} % | {100 * each.raw_error:+.1f} % | "
            f"{100 * each.corrected:.0f} % | {100 * each.corrected_error:+.1f} % |"
        )


def false_alarms(pool: Sequence[Sample], studies: int) -> dict[str, float]:
    """Two groups of animals of one kind: in which share of studies a test says that they differ."""
    rng, quantity = np.random.default_rng(2), list_quantities(2, [])[1]
    ranked = sorted(pool, key=lambda each: len(each.truth))
    known = Estimator(quantity, held_out([pool[n] for n in rng.integers(len(pool), size=12)]))
    said = {"animals": 0, "sections": 0}
    for _ in range(studies):
        sides = [list(_draw_animals(ranked, rng)) for _ in range(2)]
        names = [f"animal{n}" for n in range(ANIMALS) for _ in range(OF_ANIMAL)]
        for way in said:
            found = []
            for series, side in zip("ab", sides, strict=True):
                clusters = [f"{series}-{name}" for name in names] if way == "animals" else ()
                found.append(known.corrected(measured(side, 1, series, clusters)))
            said[way] += compare_estimates(*found).p_value() <= 0.05
    return {way: round(count / studies, 4) for way, count in said.items()}


def _draw_animals(ranked: Sequence[Sample], rng: np.random.Generator) -> Iterator[Sample]:
    """The sections of animals, which are alike: of neighbouring ranks in how much they have."""
    for _ in range(ANIMALS):
        middle = rng.integers(ALIKE, len(ranked) - ALIKE)
        for number in rng.integers(middle - ALIKE, middle + ALIKE, size=OF_ANIMAL):
            yield ranked[number]


def draw(panels: dict[str, Sequence[Tally]], path: Path) -> None:
    """Draws how often intervals hold the truth, a panel for each kind of study."""
    figure = Figure(figsize=(4.6 * len(panels) + 1.2, 4.6), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for place, (title, tallies) in zip(axes, panels.items(), strict=True):
        lines = np.arange(len(tallies))
        place.axvspan(90, 98, color="0.9")
        place.axvline(95, color="0.6", lw=0.8)
        place.plot([100 * each.raw for each in tallies], lines, "o", mfc="none", color="0.4")
        place.plot([100 * each.corrected for each in tallies], lines, "o", color="#0072b2")
        place.set(xlim=(-3, 103), xlabel="studies whose interval holds the truth, %")
        place.set_title(title, fontsize=10)
        place.spines[["top", "right"]].set_visible(False)
    axes[0].set_yticks(lines, [each.quantity.label for each in tallies])
    axes[0].invert_yaxis()
    handles = axes[0].lines[1:3]
    figure.legend(handles, ["as found", "corrected"], loc="outside lower center", ncols=2)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints the tables, and draws the figure where one is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sections", type=int, default=63)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--samples", type=Path, help="A file that keeps the sections' objects.")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    began = time.process_time()
    kept = arguments.samples
    if kept and kept.exists():
        pool = read_samples(kept)
    else:
        pool = make_samples(arguments.sections)
        if kept:
            keep_samples(pool, kept)
    truth, found = (sum(len(each[kind]) for each in pool) for kind in (0, 1))
    matched = sum(int((each.found["partner"] > 0).sum()) for each in pool)
    print(f"{len(pool)} sections: {truth} vesicles, {found} found, {matched} of them right")
    print(f"{time.process_time() - began:.0f} s of CPU", flush=True)
    ranked = sorted(pool, key=lambda each: len(each.truth))
    kinds = {
        f"{few} sections measured, {known} held out": (pool, (few, known))
        for few, known in zip(MEASURED, HELD_OUT, strict=True)
    }
    title = f"denser tissue: {MEASURED[0]} measured, {HELD_OUT[1]} held out"
    kinds[title] = (ranked[len(ranked) // 2 :], (MEASURED[0], HELD_OUT[1]))
    panels = {}
    for title, (tissue, sizes) in kinds.items():
        panels[title] = simulate(pool, tissue, sizes, arguments.studies)
        print("\n".join(list_tallies(title, panels[title])), flush=True)
    alarms = false_alarms(pool, arguments.studies)
    print("\nTwo groups of equal animals told apart at 0.05, by")
    for way, share in alarms.items():
        print(f"{way}: {100 * share:.1f} % of {arguments.studies} studies")
    print(f"{time.process_time() - began:.0f} s of CPU")
    found = {
        "sections": len(pool),
        "studies": arguments.studies,
        "panels": {
            title: {
                each.quantity.name: dict(
                    zip(Tally._fields[1:], np.round(each[1:], 4).tolist(), strict=True)
                )
                for each in tallies
            }
            for title, tallies in panels.items()
        },
        "told_apart": alarms,
        "cpu_s": round(time.process_time() - began, 1),
        "machine": describe_machine(),
    }
    write_json(FILE, found)
    if arguments.figure:
        draw(panels, arguments.figure)


if __name__ == "__main__":
    main()
