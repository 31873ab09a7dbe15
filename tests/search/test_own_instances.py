import numpy as np
import pytest
from scipy.ndimage import label

from bench.inference.prediction import SectionPrediction
from bench.metrics.instances import match_instances
from bench.metrics.measures import measure_matching, measure_pixels
from bench.metrics.overlap import count_pixels
from bench.metrics.table import METRICS, finish_scores, searchable_metrics
from bench.postprocess.segmentation import PostprocessSettings, segment_prediction
from bench.search.finalists import count_own_instances

AREAS = (0, 3, 9)


@pytest.mark.parametrize("shape", [(30, 40), (6, 12, 15)])
@pytest.mark.parametrize("seed", range(3))
def test_scores_are_those_of_the_segmentation_at_each_threshold(seed, shape):
    rng = np.random.default_rng(seed)
    truth, _ = label(rng.random(shape) < (0.45 if len(shape) == 2 else 0.25))
    instances, _ = label(np.where(rng.random(shape) < 0.1, ~(truth > 0), truth > 0))
    foreground = np.where(instances, rng.choice([128, 140, 200, 255], shape), 0)
    prediction = SectionPrediction(foreground.astype(np.uint8), None, instances.astype(np.int32))
    counts = count_own_instances(prediction, truth, AREAS)
    for level in (0, 1, 128, 129, 200, 201, 255):
        for place, area in enumerate(AREAS):
            settings = PostprocessSettings(2, area, "")
            found = segment_prediction(prediction, level=level, settings=settings, watershed=None)
            pixels = count_pixels(truth=truth, prediction=found.labels)
            matching = match_instances(truth=truth, prediction=found.labels)
            expected = finish_scores(
                {measure_pixels: pixels, measure_matching: matching}, searchable_metrics()
            )
            got = {name: METRICS[name].at_thresholds(counts)[place, level] for name in expected}
            assert got == pytest.approx({name: expected[name] for name in got}, abs=1e-12)


def test_no_instance_at_all():
    nothing = np.zeros((5, 6), np.uint8)
    prediction = SectionPrediction(nothing, None, nothing.astype(np.int32))
    counts = count_own_instances(prediction, nothing.astype(np.int32), AREAS)
    assert (METRICS["dice"].at_thresholds(counts) == 1).all()
    counts = count_own_instances(prediction, nothing.astype(np.int32) + 1, AREAS)
    assert (METRICS["instance_f1"].at_thresholds(counts) == 0).all()
