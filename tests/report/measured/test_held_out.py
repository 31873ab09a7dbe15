import numpy as np
import pandas as pd
import pytest

from bench.measurement.matching import PARTNER
from bench.measurement.objects import CUT, DIAMETER
from bench.report.measured.estimates import Estimator, Measured
from bench.report.measured.held_out import HeldOut, describe_classes, diameter_ratio, find_factors
from bench.report.measured.quantities import QUANTITIES

COUNT, DENSITY, FRACTION = QUANTITIES[2][:3]
DIAMETERS = next(q for q in QUANTITIES[2] if q.name == "diameter_nm")


def table(diameters, partners=()):
    """Disks of these diameters, in the order of their ids."""
    sizes = np.asarray(diameters, float)
    return pd.DataFrame(
        {
            "id": np.arange(1, len(sizes) + 1),
            "area_nm2": np.pi * sizes**2 / 4,
            DIAMETER: sizes,
            CUT: False,
            PARTNER: np.asarray(partners or np.zeros(len(sizes)), int),
        }
    )


def as_measured(held_out, kind="found"):
    return Measured(held_out.names, getattr(held_out, kind), held_out.extents, serial=True)


@pytest.fixture
def by_hand():
    """Two sections: of 5 annotated objects 4 were found, too small, and one is extra."""
    return HeldOut(
        ("a1", "a2"),
        (table([40, 40, 40], [1, 2, 0]), table([40, 40], [1, 3])),
        (table([36, 36], [1, 2]), table([36, 30, 36], [1, 0, 2])),
        (1.0, 1.0),
        "by hand",
    )


def test_factors_by_hand(by_hand):
    """5 were found for 5 annotated ones, though one is extra and one is missed."""
    ones = np.ones((1, 2))
    assert find_factors(by_hand, COUNT).weigh(ones).tolist() == [[1.0]]
    # The first section alone: 2 found for 3 annotated ones.
    assert find_factors(by_hand, COUNT).weigh(np.array([[1.0, 0]])).tolist() == [[1.5]]
    # 174 nm were found in all, and each of 5 annotated ones is 40.
    assert find_factors(by_hand, DIAMETERS).weigh(ones)[0, 0] == pytest.approx(200 / 174)
    classes = describe_classes(by_hand)
    assert classes[["annotated", "missed", "found", "extra"]].to_numpy().tolist() == [[5, 1, 5, 1]]
    assert diameter_ratio(by_hand) == pytest.approx(0.9)


@pytest.fixture(scope="module")
def sections():
    """Sections whose small objects are missed more often, and with small extra ones."""
    rng = np.random.default_rng(5)
    truths, founds = [], []
    for _ in range(9):
        sizes = rng.normal(45, 8, rng.integers(30, 50)).clip(15)
        seen = rng.random(len(sizes)) < np.clip((sizes - 20) / 30, 0.2, 0.95)
        extra = rng.normal(30, 4, rng.poisson(6)).clip(10)
        partners = np.zeros(len(sizes), int)
        partners[seen] = np.arange(1, seen.sum() + 1)
        back = [*(np.flatnonzero(seen) + 1), *np.zeros(len(extra), int)]
        truths.append(table(sizes, partners.tolist()))
        founds.append(table([*(0.9 * sizes[seen]), *extra], back))
    names = tuple(f"h{n}" for n in range(9))
    return HeldOut(names, tuple(truths), tuple(founds), (2.0,) * 9, "made")


def test_there_are_classes_of_sizes(sections):
    edges = sections.edges_nm
    classes = describe_classes(sections)
    assert len(edges) == 3
    assert (np.diff(edges) > 0).all()
    missed = classes["missed"] / classes["annotated"]
    assert missed.is_monotonic_decreasing
    assert classes["annotated"].sum() == sum(map(len, sections.truth))
    assert classes["found"].sum() == sum(map(len, sections.found))


def test_held_out_sections_are_brought_back_to_their_annotation(sections):
    """Exactly, whatever is missed: small objects are here, and extra ones are smaller still."""
    for quantity in (COUNT, DENSITY, FRACTION):
        estimator = Estimator(quantity, sections)
        truth = Estimator(quantity, None).raw(as_measured(sections, "truth")).value
        assert estimator.corrected(as_measured(sections)).value == pytest.approx(truth, 1e-12)
        assert estimator.raw(as_measured(sections)).value != pytest.approx(truth, 0.05)


def test_a_mean_is_brought_back_too(sections):
    estimator = Estimator(DIAMETERS, sections)
    truth = Estimator(DIAMETERS, None).raw(as_measured(sections, "truth")).value
    raw, corrected = (
        find(as_measured(sections)).value for find in (estimator.raw, estimator.corrected)
    )
    assert raw == pytest.approx(0.9 * truth, rel=0.03)
    assert corrected == pytest.approx(truth, rel=1e-12)


def test_a_model_without_errors_corrects_nothing():
    tables = tuple(table(np.linspace(30, 60, 40), list(range(1, 41))) for _ in range(3))
    perfect = HeldOut(("a", "b", "c"), tables, tables, (1.0,) * 3, "made")
    for quantity in (COUNT, FRACTION, DIAMETERS):
        estimator, measured = Estimator(quantity, perfect), as_measured(perfect)
        raw, corrected = estimator.raw(measured), estimator.corrected(measured)
        assert corrected.value == pytest.approx(raw.value)
        assert corrected.interval() == pytest.approx(raw.interval())
    sections = Estimator(COUNT, perfect).by_section(as_measured(perfect))
    assert sections["low"].tolist() == sections["high"].tolist() == [40.0] * 3


def test_a_share_of_the_tissue_needs_no_pairs(by_hand):
    """Areas go as squares of diameters: 5 of 40 nm over 4 of 36 and one of 30."""
    estimator = Estimator(FRACTION, by_hand, by_pairs=False)
    raw, corrected = (find(as_measured(by_hand)) for find in (estimator.raw, estimator.corrected))
    assert corrected.value / raw.value == pytest.approx(5 * 40**2 / (4 * 36**2 + 30**2))
    assert np.isfinite(corrected.interval()).all()
