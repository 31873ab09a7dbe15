import numpy as np
import pytest

from bench.inference import tile_store
from bench.inference.blends import Blend
from bench.inference.prediction import SectionPrediction
from bench.inference.tile_store import blend_maps, has_maps, store_maps

SHAPE = (23, 17)
AUGMENTATIONS = ("identity", "rot90", "flip_x")


def maps(number, *, boundary):
    random = np.random.default_rng(number)
    pixels = random.integers(0, 256, (2, *SHAPE), dtype=np.uint8)
    return SectionPrediction(pixels[0], pixels[1] if boundary else None)


@pytest.fixture
def stored(tmp_path):
    """Stores the maps of three models under three augmentations; some have a boundary."""

    def store(boundaries):
        found, folders = [], []
        for number, boundary in enumerate(boundaries):
            found.append([maps(10 * number + n, boundary=boundary) for n in range(3)])
            folders.append([tmp_path / f"{number}_{name}" for name in AUGMENTATIONS])
            for folder, prediction in zip(folders[-1], found[-1], strict=True):
                store_maps(folder, prediction)
        return found, folders

    return store


@pytest.mark.parametrize("rows", [1, 4, 23, 1000])
@pytest.mark.parametrize("boundaries", [(True,) * 3, (False,) * 3, (True, False, True)])
@pytest.mark.parametrize(
    ("ensemble", "weights"), [("mean", (1, 1, 1)), ("mean", (3, 1, 2)), ("vote", (1, 1, 1))]
)
def test_bands_give_what_the_whole_gives(stored, monkeypatch, rows, boundaries, ensemble, weights):
    monkeypatch.setattr(tile_store, "MAP_BAND_PX", rows * SHAPE[1])
    found, folders = stored(boundaries)
    blend = Blend(("a", "b", "c"), AUGMENTATIONS, ensemble, weights)
    expected, blended = blend.apply(found), blend_maps(blend, folders, SHAPE)
    np.testing.assert_array_equal(blended.foreground, expected.foreground)
    assert blended.foreground.dtype == np.uint8
    if all(boundaries):
        np.testing.assert_array_equal(blended.boundary, expected.boundary)
    else:
        assert blended.boundary is None
        assert expected.boundary is None


def test_maps_are_there_when_all_of_them_are(tmp_path, monkeypatch):
    """Killed between the two maps of a pass, it is not taken for finished."""
    write_map = tile_store.write_map

    def killed(path, pixels):
        if path.name == "foreground.npy":
            raise KeyboardInterrupt
        write_map(path, pixels)

    folder, prediction = tmp_path / "pass", maps(0, boundary=True)
    assert not has_maps(folder)
    monkeypatch.setattr(tile_store, "write_map", killed)
    with pytest.raises(KeyboardInterrupt):
        store_maps(folder, prediction)
    assert [path.name for path in folder.iterdir()] == ["boundary.npy"]
    assert not has_maps(folder)
    monkeypatch.undo()
    store_maps(folder, prediction)
    assert has_maps(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["boundary.npy", "foreground.npy"]


def test_transposed_maps_are_stored_as_they_are_seen(tmp_path):
    """What is mapped back from a symmetry is a view of another order in memory."""
    view = maps(1, boundary=False).foreground.T
    store_maps(tmp_path / "pass", SectionPrediction(view))
    blend = Blend(("a",), ("transpose", "transpose"))
    blended = blend_maps(blend, [[tmp_path / "pass"] * 2], view.shape)
    np.testing.assert_array_equal(blended.foreground, view)
