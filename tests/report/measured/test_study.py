import numpy as np
import pandas as pd
import pytest

from bench.measurement.objects import CUT, DIAMETER
from bench.report.figures.measured import distribution_figure, groups_figure
from bench.report.measured.estimates import Measured
from bench.report.measured.grouping import region_of
from bench.report.measured.study import (
    Study,
    compare_groups,
    summarise,
    tabulate_objects,
    tabulate_sections,
)
from bench.report.page.measured_page import measured_page


def make_study(names, counts, **homes):
    """Sections of 1 µm² with disks of 40 nm, a pixel of 1 nm each."""
    tables = tuple(
        pd.DataFrame(
            {"id": np.arange(1, n + 1), "area_nm2": 1257.0, DIAMETER: 40.0, CUT: np.arange(n) == 0}
        )
        for n in counts
    )
    measured = Measured(tuple(names), tables, (1.0,) * len(names), serial=True)
    regions = {name: region_of(name, "") for name in names}
    return Study("vesicles", 2, measured, regions, **homes)


@pytest.fixture
def two_groups():
    names = [f"{animal}_{n}" for animal in ("c1", "c2", "c3", "k1", "k2", "k3") for n in (1, 2)]
    groups = {name: {"c": "ctrl", "k": "ko"}[name[0]] for name in names}
    counts = [10, 12, 14, 15, 11, 12, 20, 22, 18, 19, 25, 27]
    return make_study(names, counts, groups=groups)


def test_a_summary_has_groups_regions_and_all(two_groups):
    summary = summarise(two_groups)
    density = summary[summary["quantity"] == "density_per_um2"].set_index(["level", "name"])
    assert density["raw"].to_dict() == {
        ("group", "ctrl"): pytest.approx(74 / 6),
        ("group", "ko"): pytest.approx(131 / 6),
        ("all", "all"): pytest.approx(205 / 12),
        **{
            ("region", f"{animal}_"): pytest.approx(total / 2)
            for animal, total in zip(
                ("c1", "c2", "c3", "k1", "k2", "k3"), (22, 29, 23, 42, 37, 52), strict=True
            )
        },
    }
    assert (density["raw_low"] <= density["raw"]).all()
    assert density["corrected"].isna().all()
    # One object of each section is cut, and in no mean.
    objects = tabulate_objects(two_groups)
    assert len(objects) == 205
    assert set(objects["group"]) == {"ctrl", "ko"}
    sections = tabulate_sections(two_groups)
    assert len(sections) == 12 * len(two_groups.quantities)


def test_regions_are_values_of_a_test_where_there_are_three_of_each(two_groups):
    """Their six sections would say more than the three of each group do."""
    compared = compare_groups(two_groups).set_index("quantity")
    row = compared.loc["count"]
    assert (row["of"], row["n_first"], row["n_second"]) == ("region", 3, 3)
    assert row["raw_difference"] == pytest.approx((74 - 131) / 6)
    assert row["raw_low"] < row["raw_difference"] < row["raw_high"]
    assert row["raw_p"] <= row["raw_p_holm"]
    names = two_groups.measured.names
    fewer = {name: group for name, group in two_groups.groups.items() if name[1] != "3"}
    of_sections = make_study(names, [10] * 12, groups=fewer)
    assert of_sections.drawn == "section"
    animals = {name: name[:2] for name in names}
    assert make_study(names, [10] * 12, groups=fewer, animals=animals).drawn == "animal"


def test_charts_have_every_section_and_the_page_says_what_is_one_value(two_groups):
    summary, sections = summarise(two_groups), tabulate_sections(two_groups)
    figures = {
        "groups": groups_figure(two_groups, summary, sections),
        "distributions": distribution_figure(two_groups),
    }
    count = figures["groups"].axes[0]
    points = np.concatenate([line.get_ydata() for line in count.lines if line.get_marker() == "."])
    assert sorted(points[np.isfinite(points)]) == sorted(len(t) for t in two_groups.measured.tables)
    page = measured_page(two_groups, summary, compare_groups(two_groups), figures, {"<x>": b"png"})
    assert "One value is a region. " in page
    assert "ctrl - ko" in page
    assert "<x>" not in page
    assert "Held-out sections" not in page
