import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from bench.export.sphere_table import SphereRow
from bench.export.stack import make_stack

SHAPE = (48, 48, 48)


def paint(rows, shape=SHAPE):
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    labels = np.zeros(shape, np.uint16)
    for row in rows:
        distance = (z - row.z) ** 2 + (y - row.y) ** 2 + (x - row.x) ** 2
        labels[(distance <= row.radius**2) & (labels == 0)] = row.id
    return labels


def draw_tomogram(rows, shape=SHAPE):
    """Vesicles with dark membranes, two voxels thick, in noise."""
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]
    raw = np.full(shape, 0.2)
    for row in rows:
        distance = np.sqrt((z - row.z) ** 2 + (y - row.y) ** 2 + (x - row.x) ** 2)
        raw[distance < row.radius] = 0
        raw[(distance < row.radius) & (distance > row.radius - 2)] = -1
    noise = np.random.default_rng(0).normal(0, 0.3, shape)
    return (gaussian_filter(raw, 1) + noise).astype(np.float32)


@pytest.fixture(scope="session")
def truth():
    """Four vesicles; the last is in no table and no label."""
    return (
        SphereRow("tomo", 1, 14.3, 15.2, 15.7, 9.2, p=0.8),
        SphereRow("tomo", 2, 33.0, 14.0, 31.0, 8.0, p=0.001),
        SphereRow("tomo", 4, 30.0, 35.0, 15.0, 9.5, p=0.3, status="shrunk"),
        SphereRow("tomo", 5, 28.0, 36.0, 36.0, 7.5),
    )


@pytest.fixture(scope="session")
def tomogram(truth):
    return draw_tomogram(truth)


@pytest.fixture(scope="session")
def found(truth):
    """What a program found: three vesicles and one that it left out."""
    left_out = SphereRow("tomo", 9, 8.0, 40.0, 40.0, 5.0, p=0.002, kept=False, reason="outlier")
    return [*truth[:3], left_out]


@pytest.fixture(scope="session")
def labels(found):
    """Labels of those that are kept, and of an active zone."""
    zone = np.zeros(SHAPE, np.uint8)
    zone[:, 46, 4:40] = 1
    return {"vesicles": paint([row for row in found if row.kept]), "active_zone": zone}


@pytest.fixture
def stack(tomogram, found, labels):
    return make_stack(
        labels,
        raw=tomogram,
        pixel_size_nm=2.2,
        section_nm=2.2,
        volume="tomo",
        spheres={"vesicles": found},
    )
