import numpy as np
from scipy import ndimage

from bench.measurement.matching import PARTNER, match_objects
from bench.measurement.objects import describe_objects
from bench.metrics.instances import match_instances


def tables_of(truth, found):
    both = [describe_objects(each, each, (1.0, 1.0)) for each in (truth, found)]
    match_objects(*both, true_labels=truth, found_labels=found)
    return both


def test_partners_are_the_pairs_that_scores_count():
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.normal(size=(120, 120)), 2.5)
    truth, _ = ndimage.label(smooth > 0.06)
    found, _ = ndimage.label(np.roll(smooth, 1, axis=0) > 0.07)
    of_truth, of_found = tables_of(5 * truth, 2 * found)
    pairs = match_instances(truth=truth, prediction=found).true_positive
    assert 3 < pairs < min(len(of_truth), len(of_found))
    assert (of_truth[PARTNER] > 0).sum() == (of_found[PARTNER] > 0).sum() == pairs
    for row in of_truth[of_truth[PARTNER] > 0].itertuples():
        a, b = 5 * truth == row.id, 2 * found == row.partner
        assert (a & b).sum() > (a | b).sum() / 2
        assert of_found.set_index("id")[PARTNER][row.partner] == row.id


def test_half_is_no_match():
    truth, found = np.array([[1, 1, 0]]), np.array([[0, 1, 0]])
    assert tables_of(truth, found)[0][PARTNER].tolist() == [0]
