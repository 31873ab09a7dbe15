import pytest

from bench.inference.blends import Blend
from bench.metrics.curves import histogram_scores
from bench.search.candidates import pixel_curve
from bench.search.map_search import SectionPixels, score_blends, score_subsets


def expected_histogram(evidence, blend, section):
    """The same, from the blend's one map."""
    probability = evidence.blend(blend, section).foreground
    return histogram_scores(truth=evidence.read_truth(section), probability=probability)


def check(found, evidence, section):
    for blend, histogram in found:
        expected = expected_histogram(evidence, blend, section)
        assert (histogram.foreground == expected.foreground).all(), blend
        assert (histogram.background == expected.background).all(), blend


def test_every_subset_of_augmentations_once(make_evidence):
    evidence = make_evidence({"m": 0.4}, augmentations=8)
    found = list(score_subsets(SectionPixels(evidence, "a"), "m", evidence.members["m"]))
    assert len({blend for blend, _ in found}) == len(found) == 255
    check(found, evidence, "a")


def test_ensembles_of_every_kind(make_evidence):
    evidence = make_evidence({"m": 0.4, "n": 0.5, "o": 0.9})
    two = evidence.members["m"][:2]
    blends = [
        Blend(("m", "n"), two),
        Blend(("m", "n", "o"), two, "vote"),
        Blend(("m", "o"), two, "vote"),
        Blend(("m", "n", "o"), two, "maximum"),
        Blend(("m", "n", "o"), two, "mean", (3, 1, 2)),
        Blend(("m", "n"), ("identity",), "mean", (1, 3)),
        Blend(("o",), two),
    ]
    found = list(score_blends(SectionPixels(evidence, "b"), blends))
    assert [blend for blend, _ in found] == blends
    check(found, evidence, "b")


@pytest.mark.parametrize("metric", ["dice", "iou", "precision", "recall"])
def test_curves_are_those_of_the_masks(make_evidence, metric):
    evidence = make_evidence({"m": 0.6})
    blend = Blend(("m",))
    histogram = expected_histogram(evidence, blend, "a")
    curve = pixel_curve(histogram, metric)
    truth = evidence.read_truth("a") > 0
    for level in range(0, 256, 15):
        mask = evidence.blend(blend, "a").foreground >= level
        both, either = (truth & mask).sum(), (truth | mask).sum()
        parts = {
            "dice": 2 * both / (truth.sum() + mask.sum()),
            "iou": both / either,
            "precision": both / mask.sum() if mask.any() else 0.0,
            "recall": both / truth.sum(),
        }
        assert curve[level] == pytest.approx(parts[metric], abs=1e-15)
