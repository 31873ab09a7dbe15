"""Sizes that no tissue has, and neighbours in two splits whose distance is unknown."""

import functools
from pathlib import Path

import numpy as np
import pytest

from bench.config.data import PrepareConfig
from bench.ingest.inputs import read_input
from bench.ingest.inspection.findings import Finding
from bench.ingest.inspection.measures import SectionMeasures
from bench.ingest.inspection.neighbours import NeighbourWatch
from bench.ingest.inspection.reading import inspect_section, measure_mask
from bench.ingest.inspection.report import inspect_tree
from bench.ingest.inspection.sizes import judge_sizes, measure_size
from bench.ingest.writing import write_prepared
from bench.postprocess.label_runs import find_label_runs

SIZES_NM = {"epfl6": 5.0, "vnc": 4.6, "isbi2012": 4.0}


@functools.cache
def measure_first(root: Path) -> tuple[tuple[str, ...], tuple[SectionMeasures]]:
    """The structures of a data set, and the measures of its first section."""
    tree = read_input(PrepareConfig(input=str(root)))
    return tree.structures, (inspect_section(tree.sections[0])[0],)


@pytest.fixture
def real_sections(shared):
    return {name: measure_first(shared / name) for name in SIZES_NM}


@pytest.mark.parametrize("name", SIZES_NM)
def test_right_pixel_sizes_of_real_tissue_are_not_accused(real_sections, name):
    assert judge_sizes(*real_sections[name], SIZES_NM[name]) == []
    assert judge_sizes(*real_sections[name], None) == []


@pytest.mark.parametrize("factor", [10, 0.1])
@pytest.mark.parametrize("name", SIZES_NM)
def test_pixel_sizes_of_real_tissue_that_are_ten_times_wrong_are_accused(
    real_sections, name, factor
):
    structures, sections = real_sections[name]
    found = judge_sizes(structures, sections, SIZES_NM[name] * factor)
    assert {finding.structure for finding in found} == set(structures)
    assert all("check pixel_size_nm" in finding.remedy for finding in found)


def test_a_sheet_is_as_thick_as_it_is_in_whatever_direction_it_lies(make_section):
    ys, xs = np.ogrid[:200, :200]
    distance = np.hypot(ys - 100, xs - 100)
    ring = np.where((distance >= 60) & (distance < 68), 1, 0).astype(np.uint8)
    image = make_section("train", "s0", ring, membrane=ring).labels["membrane"]
    mask = measure_mask(image, ring, ring, find_label_runs(ring), "binary", None)
    assert measure_size([mask], "thickness") == pytest.approx(8, rel=0.15)


def test_few_instances_have_no_usual_size(make_section):
    mask = np.zeros((40, 40), np.uint8)
    mask[:4, :4] = 1
    image = make_section("train", "s0", mask, mitochondria=mask).labels["mitochondria"]
    found = measure_mask(image, mask, mask, find_label_runs(mask), "ids", None)
    assert measure_size([found], "diameter") is None
    assert measure_size([], "thickness") is None


def test_check_and_prepare_say_that_a_pixel_size_is_ten_times_too_large(write_tree, tmp_path):
    root = write_tree(tmp_path / "tree")

    def said(size_nm: float) -> tuple[list[Finding], list[str]]:
        tree = read_input(PrepareConfig(input=str(root), pixel_size_nm=size_nm))
        warnings = write_prepared(tree, tmp_path / f"out{size_nm:g}").manifest["warnings"]
        found = [f for f in inspect_tree(tree).findings if f.kind == "size"]
        return found, [w for w in warnings if w.startswith("size is far from that in tissue")]

    assert said(10.0) == ([], [])
    found, warnings = said(100.0)
    assert [finding.structure for finding in found] == ["mitochondria", "vesicles"]
    assert "px of 100 nm), plausible are 80 to 1500 nm" in warnings[0]


@pytest.fixture
def judge_pair(make_section, make_source, tissue):
    """What is said of a training and a validation section."""

    def judge(first: str, second: str, *, y: int = 0, **tree: object) -> list[Finding]:
        raws = tissue(0), tissue(1, y=y)
        sections = make_section("train", first, None), make_section("val", second, None)
        watch = NeighbourWatch(make_source(*sections, **{"section_nm": None} | tree))
        for section, raw in zip(sections, raws, strict=True):
            watch.add(section.name, raw)
        return watch.judge()

    return judge


def test_neighbours_in_two_splits_are_said_where_their_distance_is_unknown(judge_pair):
    (finding,) = judge_pair("cell_09", "cell_10")
    assert finding.split == "train and val"
    assert "train-cell_09 and val-cell_10 follow one another and correlate with 0." in finding.fact


@pytest.mark.parametrize(
    "given",
    [
        {"first": "cell_09", "second": "cell_11"},
        {"first": "mouse1_09", "second": "mouse2_10"},
        {"first": "cell_09", "second": "cell_10", "y": 99},
        {"first": "cell_09", "second": "cell_10", "section_nm": 400.0},
        {"first": "cell_09", "second": "cell_10", "rule": "paper"},
    ],
    ids=["a gap", "another series", "another place", "known distance", "meant"],
)
def test_other_sections_are_not_taken_for_neighbours(judge_pair, given):
    assert judge_pair(**given) == []


def test_real_neighbours_are_said_by_the_check(shared):
    tree = read_input(PrepareConfig(input=str(shared / "vnc"), pixel_size_nm=4.6))
    watch = NeighbourWatch(tree)
    for section in tree.sections:
        if section.name in watch.wanted:
            watch.add(section.name, section.raw.read())
    (finding,) = watch.judge()
    assert "train-section09 and val-section10" in finding.fact
