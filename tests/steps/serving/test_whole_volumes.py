import numpy as np

from bench.dataset.volumes import Volume
from bench.steps.scoring.units import Unit
from bench.steps.serving.whole_volumes import read_units


def unit_of(name, planes):
    sections = tuple(f"{name}_z{number:02}" for number in range(planes))
    return Unit(
        name, sections, None, Volume(name, "val", sections, (planes, 4, 5), (2.2, 2.2, 2.2))
    )


def test_a_volume_is_segmented_once_for_all_its_planes():
    units = (unit_of("a", 3), unit_of("b", 2))
    asked = []

    def segment(unit):
        asked.append(unit.name)
        shape = unit.volume.shape
        return np.arange(shape[0], dtype=np.int32)[:, None, None] + np.zeros(shape, np.int32)

    whole = read_units(units, segment)
    for unit in units:
        for number, name in enumerate(unit.sections):
            plane = whole["read"](name, "vesicles")
            np.testing.assert_array_equal(plane, np.full((4, 5), number))
            # Whoever turns a plane turns a copy.
            plane[:] = 99
            assert whole["numbering"](name, "vesicles") == unit.name
    np.testing.assert_array_equal(whole["read"]("b_z01", ""), np.full((4, 5), 1))
    assert asked == ["a", "b"]


def test_sections_are_segmented_one_by_one():
    units = [Unit(name, (name,), None) for name in ("one", "other")]
    reading = read_units(units, lambda unit: np.full((2, 2), len(unit.name)))
    assert reading["read"]("other", "")[0, 0] == 5
    assert reading["numbering"]("one", "") != reading["numbering"]("other", "")
