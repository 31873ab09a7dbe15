import numpy as np
import pytest

from bench.errors import BenchError
from bench.metrics.curves import average_precision, histogram_scores
from bench.metrics.instances import Matching, instance_scores
from bench.metrics.overlap import PixelCounts, overlap_scores
from bench.metrics.table import METRICS, find_metric


def test_table_names_exactly_the_scores_that_are_computed():
    nothing = np.zeros(4, np.uint8)
    computed = overlap_scores(PixelCounts()) | instance_scores(Matching())
    computed["average_precision"] = average_precision(
        histogram_scores(truth=nothing, probability=nothing)
    )
    assert set(computed) == set(METRICS)
    assert all(value == 1 for value in computed.values())


def test_unknown_metric_lists_the_names():
    assert find_metric("dice").label == "Dice"
    with pytest.raises(BenchError, match=r"'dise'.*dice.*panoptic_quality"):
        find_metric("dise")
