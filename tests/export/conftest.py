import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays


@pytest.fixture(scope="session")
def label_arrays() -> st.SearchStrategy:
    """Ids (z, y, x): noise has holes, single pixels and diagonal neighbours, all at the border.

    Grown by two, it has larger objects with holes and islands; ids have gaps.
    """
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
    noise = shapes.flatmap(
        lambda shape: arrays.arrays(np.uint32, shape, elements=st.sampled_from([0, 0, 1, 2, 7]))
    )
    return st.builds(
        lambda ids, factor: ids.repeat(factor, axis=1).repeat(factor, axis=2),
        noise,
        st.integers(1, 2),
    )


@pytest.fixture(scope="session")
def ring_labels() -> np.ndarray:
    """Two sections (y, x) of 12 x 14 px.

    A square ring of id 3 goes through both, with a single pixel of id 300 inside in the first;
    id 8 has two pixels that touch at a corner of the image.
    """
    labels = np.zeros((2, 12, 14), np.uint16)
    labels[:, 2:9, 3:11] = 3
    labels[:, 4:7, 5:9] = 0
    labels[0, 5, 6] = 300
    labels[1, 0, 13] = labels[1, 1, 12] = 8
    return labels


@pytest.fixture(scope="session")
def same_instances():
    """Whether two arrays of ids (z, y, x) hold the same instances, whatever their numbers."""

    def same(first: np.ndarray, second: np.ndarray) -> bool:
        if first.shape != second.shape:
            return False
        pairs = np.unique(np.stack([first.ravel(), second.ravel()], axis=1), axis=0)
        one_to_one = len(pairs) == len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1]))
        return one_to_one and np.array_equal(first == 0, second == 0)

    return same


@pytest.fixture(scope="session")
def same_sections(same_instances):
    """The same of every section by itself, for formats that do not follow instances through."""

    def same(first: np.ndarray, second: np.ndarray) -> bool:
        return len(first) == len(second) and all(
            same_instances(a[None], b[None]) for a, b in zip(first, second, strict=True)
        )

    return same


@pytest.fixture(scope="session")
def draw_objects():
    """Draws what a reader found as ids (z, y, x)."""
    from bench.ingest.annotations.rasterise import draw_labels

    def draw(objects, shape: tuple[int, int, int]) -> np.ndarray:
        drawn = [draw_labels(objects, section, shape[1:]) for section in range(shape[0])]
        assert not any(section.overlapping_px or section.outside for section in drawn)
        return np.stack([section.labels for section in drawn])

    return draw
