"""What a search counts where not all is annotated is what an evaluation counts there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bench.inference.prediction import SectionPrediction
from bench.metrics.table import METRICS, searchable_metrics
from bench.postprocess.instances import Instances, clean_mask
from bench.recipe.scores import SplitResult
from bench.search.finalists import count_own_instances
from bench.search.threshold_counts import count_thresholds

AREAS = (0, 2, 6)
SHAPE = (8, 11)
MAPS = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 90, 200, 255]))
TRUTHS = arrays(np.int32, SHAPE, elements=st.sampled_from([0, 0, 0, 3, 7]))
OPENED = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 0, 1]))


def mark(truth, opened, mostly):
    """A truth that has nothing where it is open, and perhaps an object that is mostly open."""
    truth = np.where(opened == 1, 0, truth)
    return truth, np.where((truth == 7) & mostly, 2, opened).astype(np.uint8)


def evaluate(levels, truth, opened, labels):
    result = SplitResult(searchable_metrics())
    area = int(np.count_nonzero(labels))
    instances = Instances(labels, area, area)
    result.add("a", truth=truth, probability=levels, instances=instances, levels=opened)
    return result.scores()


@given(levels=MAPS, truth=TRUTHS, opened=OPENED, mostly=st.booleans())
@settings(max_examples=80, deadline=None)
def test_components_at_each_threshold(levels, truth, opened, mostly):
    truth, opened = mark(truth, opened, mostly)
    counts = count_thresholds(levels, truth, AREAS, opened)
    curves = {name: METRICS[name].at_thresholds(counts) for name in searchable_metrics()}
    for level in (0, 1, 60, 201):
        for place, area in enumerate(AREAS):
            labels = clean_mask(levels >= level, opening_radius_px=0, min_area_px=area).labels
            expected = evaluate(levels, truth, opened, labels)
            found = {name: curve[place, level] for name, curve in curves.items()}
            assert found == pytest.approx({name: expected[name] for name in found}, abs=1e-12)


@given(levels=MAPS, found=TRUTHS, truth=TRUTHS, opened=OPENED, mostly=st.booleans())
@settings(max_examples=40, deadline=None)
def test_instances_of_a_model_at_each_threshold(levels, found, truth, opened, mostly):
    truth, opened = mark(truth, opened, mostly)
    counts = count_own_instances(SectionPrediction(levels, None, found), truth, AREAS, opened)
    curves = {name: METRICS[name].at_thresholds(counts) for name in searchable_metrics()}
    for level in (0, 91, 255):
        for place, area in enumerate(AREAS):
            cut = np.where(levels >= level, found, 0)
            ids, areas = np.unique(cut, return_counts=True)
            labels = np.where(np.isin(cut, ids[areas >= area]), cut, 0)
            expected = evaluate(levels, truth, opened, labels)
            scored = {name: curve[place, level] for name, curve in curves.items()}
            assert scored == pytest.approx({name: expected[name] for name in scored}, abs=1e-12)
