"""A failure of many cells is a line that can be read."""

from bench.steps.grid.causes import describe_causes, group_by_cause
from bench.steps.grid.cells import GridCell

CELLS = [GridCell.named("scratch", "mito", seed, None) for seed in range(40)]


def test_forty_cells_of_one_cause_are_one_line():
    reason = "weights must be fetched, they cannot be: " + "put them there " * 20
    line = describe_causes(dict.fromkeys(CELLS, reason))
    assert line.startswith("scratch mitochondria seed 0 and 39 more: weights must be fetched")
    assert line.count("weights must be fetched") == 1


def test_however_many_causes_there_are_the_line_is_short():
    reasons = {cell: f"cause {cell.seed} " + "long " * 1000 for cell in CELLS}
    line = describe_causes(reasons)
    assert len(line) < 2000
    assert line.endswith("; and 37 more causes")


def test_the_cause_of_most_cells_comes_first():
    reasons = {cell: "common" if cell.seed > 1 else f"rare {cell.seed}" for cell in CELLS}
    assert [len(cells) for cells in group_by_cause(reasons).values()] == [38, 1, 1]
    line = describe_causes(reasons)
    assert line == (
        "scratch mitochondria seed 2 and 37 more: common; scratch mitochondria seed 0: rare 0; "
        "scratch mitochondria seed 1: rare 1"
    )
