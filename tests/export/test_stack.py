import numpy as np
import pytest

from bench.errors import BenchError
from bench.export.stack import make_stack

IDS = np.ones((2, 3, 4), np.uint16)


def test_a_section_is_a_stack_of_one():
    stack = make_stack({"vesicles": IDS[0]}, raw=np.zeros((3, 4), np.uint8))
    assert stack.shape == (1, 3, 4)
    assert stack.raw.shape == (1, 3, 4)
    assert stack.names == ("section0000",)


def test_sections_of_unknown_distance_are_a_pixel_apart():
    assert make_stack({"vesicles": IDS}, pixel_size_nm=5).section_px == 1
    assert make_stack({"vesicles": IDS}, section_nm=50).section_px == 1
    assert make_stack({"vesicles": IDS}, pixel_size_nm=5, section_nm=50).section_px == 10


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        ({}, {}, "needs labels of a structure, received none"),
        ({"membrane": IDS.astype(float)}, {}, "must be whole numbers, received float64"),
        ({"membrane": IDS.astype(bool)}, {}, "must be whole numbers, received bool"),
        ({"membrane": -IDS.astype(int)}, {}, "must lie in 0 to 4294967295, received -1 to -1"),
        ({"membrane": IDS.astype(np.uint64) << 32}, {}, "received 4294967296 to 4294967296"),
        ({"membrane": IDS[0, 0]}, {}, r"must be a section .* received shape \(4,\)"),
        ({"membrane": IDS[:0]}, {}, r"with pixels, received shape \(0, 3, 4\)"),
        ({"membrane": IDS, "vesicles": IDS[:1]}, {}, "must have one shape"),
        ({"membrane": IDS}, {"raw": IDS[:, :2]}, "must have one shape"),
        ({"membrane": IDS}, {"names": ("a",)}, "each of 2 sections must have a name of its own"),
        ({"membrane": IDS}, {"names": ("a", "a")}, "received 1 different ones"),
        ({"membrane": IDS}, {"names": ("a", "../b")}, "must be fit for a file, received '../b'"),
        ({"../membrane": IDS}, {}, "name of a structure must be fit for a file"),
        ({"membrane": IDS}, {"names": ("a", "..")}, "must be fit for a file"),
        ({"membrane": IDS}, {"names": ("a", "b\0")}, "must be fit for a file"),
    ],
)
def test_what_cannot_be_exported(labels, more, message):
    with pytest.raises(BenchError, match=message):
        make_stack(labels, **more)
