import numpy as np

from bench.dataset.volumes import Volume
from bench.inference.prediction import SectionPrediction
from bench.steps.serving.whole_volumes import WholeVolumes, stack_predictions


def volume_of(name, planes):
    sections = tuple(f"{name}_z{number:02}" for number in range(planes))
    return Volume(name, "val", sections, (planes, 4, 5), (2.2, 2.2, 2.2))


def test_a_volume_is_segmented_once_for_all_its_planes():
    volumes = (volume_of("a", 3), volume_of("b", 2))
    asked = []

    def segment(volume):
        asked.append(volume.name)
        return np.arange(volume.shape[0], dtype=np.int32)[:, None, None] + np.zeros(
            volume.shape, np.int32
        )

    whole = WholeVolumes(volumes, segment)
    for volume in volumes:
        for number, name in enumerate(volume.sections):
            plane = whole.read(name, "vesicles")
            np.testing.assert_array_equal(plane, np.full((4, 5), number))
            # Whoever turns a plane turns a copy.
            plane[:] = 99
            assert whole.numbering(name, "vesicles") == volume.name
    np.testing.assert_array_equal(whole.read("b_z01", ""), np.full((4, 5), 1))
    assert asked == ["a", "b"]


def test_maps_of_planes_are_those_of_their_volume():
    maps = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 5), dtype=np.uint8)
    planes = [SectionPrediction(*each) for each in maps.swapaxes(0, 1)]
    stacked = stack_predictions(planes)
    np.testing.assert_array_equal(stacked.foreground, maps[0])
    np.testing.assert_array_equal(stacked.boundary, maps[1])
    assert stack_predictions([SectionPrediction(maps[0, 0])]).boundary is None
