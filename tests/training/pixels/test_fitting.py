import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.models.pixels.filters import context_maps, filter_maps
from bench.training.pixels import fitting
from bench.training.pixels.fitting import PixelWork, fit_classifier
from bench.training.pixels.pace import PixelSpeed, plan_work
from bench.training.pixels.pieces import AROUND, Place, choose_places, list_places, make_piece

CPU = torch.device("cpu")


def draw_section(seed, shape=(80, 100), darker=90):
    """Dark squares in noise, and where they are."""
    random = np.random.default_rng(seed)
    truth = np.zeros(shape, dtype=bool)
    for y, x in random.integers(2, 60, (4, 2)):
        truth[y : y + 18, x : x + 16] = True
    return (random.integers(120, 180, shape) - darker * truth).astype(np.uint8), truth


def make_pieces(number, **settings):
    pieces = []
    for seed in range(number):
        raw, truth = draw_section(seed, **settings)
        (place, _), *_ = list_places(seed, truth)
        pieces.append(make_piece(raw, truth, np.zeros_like(truth), place, filter_maps, CPU))
    return pieces


def test_what_nobody_annotated_is_not_drawn():
    raw, truth = draw_section(0)
    ((place, _),) = list_places(0, truth)
    ignored = np.zeros_like(truth)
    # Of blocks of 2 px that are partly open nothing is drawn.
    ignored[:, 31:] = True
    ignored[33:] = True
    piece = make_piece(raw, truth, ignored, place, filter_maps, CPU)
    drawn = piece.draw(10**6, np.ones_like(piece.truth), np.random.default_rng(0))
    y, x = np.divmod(drawn, piece.truth.shape[1])
    assert (y.max(), x.max()) == (15, 14)


def test_large_sections_are_cut_and_pieces_spread():
    truth = np.zeros((1500, 900), dtype=bool)
    truth[1200:, 5] = True
    places = list_places(3, truth)
    assert [(p.rows, p.columns, has) for p, has in places] == [
        (slice(0, 750), slice(0, 900), False),
        (slice(750, 1500), slice(0, 900), True),
    ]
    many = [(Place(n, slice(0, 10), slice(0, 10)), n % 2 == 0) for n in range(20)]
    random = np.random.default_rng(0)
    assert len(choose_places(many, 10**6, random)) == 20
    # Those with the structure, from one end to the other; and one at least.
    few = [place.section for place in choose_places(many, 500, random)]
    assert few == sorted(few)
    assert set(np.diff(few)) == {4}
    assert all(number % 2 == 0 for number in few)
    assert len(choose_places(many, 1, random)) == 1
    most = [place.section for place in choose_places(many, 1500, random)]
    assert len(set(most)) == 15
    assert {*range(0, 20, 2)} < set(most)


def test_a_sample_is_inside_and_half_of_it_is_near_the_structure():
    (piece,) = make_pieces(1)
    # Sides are made whole multiples of 16: what is beyond the section is never drawn.
    assert piece.sides_px == (80, 112)
    assert piece.maps["grey value"].shape == (40 + 2 * AROUND, 56 + 2 * AROUND)
    everywhere = np.ones_like(piece.truth)
    drawn = piece.draw(400, everywhere, np.random.default_rng(0))
    y, x = np.divmod(drawn, 56)
    assert x.max() == 49
    assert piece.truth[y, x].mean() > 0.25
    rows = everywhere.copy()
    rows[20:] = False
    assert (np.divmod(piece.draw(400, rows, np.random.default_rng(0)), 56)[0] < 20).all()
    features = piece.features(drawn)
    grey = list(piece.maps).index("grey value")
    assert np.array_equal(features[:, grey], piece.maps["grey value"][y + AROUND, x + AROUND])


def test_the_halves_have_as_much_of_the_structure_each():
    pieces = make_pieces(3)
    halves = fitting._split_halves(pieces)
    counts = [
        [p.truth[rows == half].sum() for p, rows in zip(pieces, halves, strict=True)]
        for half in (False, True)
    ]
    first, second = map(sum, counts)
    assert abs(first - second) < 60
    # In order: no row of the first half comes after one of the second.
    assert np.all(np.diff(np.concatenate(halves).astype(int)) >= 0)


def test_the_second_stage_learns_from_members_that_did_not_see_a_row(monkeypatch):
    pieces = make_pieces(2)
    asked = []

    class Member:
        def __init__(self, logit):
            self.logit = logit

        def __call__(self, features):
            asked.append((self.logit, len(features)))
            return torch.full((len(features),), self.logit)

    second = np.arange(len(pieces[0].truth)) >= 10
    # The member of the first half says foreground, that of the second half background.
    context = fitting._find_unseen(pieces[0], second, [Member(50.0), Member(-50.0)])
    probability = context["probability"]
    assert probability[AROUND : AROUND + 10].max() < 1e-6
    assert probability[AROUND + 10 : -AROUND].min() > 1 - 1e-6


def test_it_learns_and_says_by_what():
    fitted = fit_classifier(make_pieces(4), PixelWork(pixels=3000, trees=15), seed=0)
    assert len(fitted.losses) == 15
    assert np.all(np.diff(fitted.losses) < 0)
    assert sum(fitted.importances.values()) == pytest.approx(1)
    shares = list(fitted.importances.values())
    assert shares == sorted(shares, reverse=True)
    # The squares are darker than the noise around them.
    assert next(iter(fitted.importances)).startswith(("Gaussian", "grey value"))
    again = fit_classifier(make_pieces(4), PixelWork(pixels=3000, trees=15), seed=0)
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            fitted.classifier.state_dict().values(),
            again.classifier.state_dict().values(),
            strict=True,
        )
    )


def test_probabilities_are_of_what_is_annotated_not_of_the_sample():
    """Where nothing tells the structure, its probability is how much of it there is."""
    pieces = make_pieces(4, darker=0)
    share = np.mean([piece.truth[piece.inside].mean() for piece in pieces])
    fitted = fit_classifier(pieces, PixelWork(pixels=3000, trees=3), seed=0).classifier
    found = []
    for piece in pieces:
        context = context_maps(fitted.find_context([*piece.maps.values()], 0)[None, None])
        rows = torch.from_numpy(piece.features(np.arange(piece.truth.size), context.values()))
        found.append(torch.sigmoid(fitted.second(rows) + fitted.shift))
    assert torch.cat(found).mean() == pytest.approx(share, rel=0.15)
    # Of the sample more is of it by half.
    assert torch.sigmoid(fitted.second(rows)).mean() > 1.5 * share


def test_a_half_without_the_structure_is_refused():
    (piece,) = make_pieces(1)
    piece.truth[:] = False
    piece.truth[30, 10:20] = True
    with pytest.raises(BenchError, match="in both halves of the training sections, received 0 of"):
        fit_classifier([piece], PixelWork(pixels=500, trees=2), seed=0)


def test_more_minutes_are_more_of_all():
    speed, sizes = PixelSpeed(1.0, 1.0), {"training_px": 26 * 2**20, "validation_s": 5.0}
    one, two = (plan_work(minutes, speed, PixelWork(), **sizes) for minutes in (1, 2))
    assert one.pixels < two.pixels
    assert one.trees < two.trees
    assert one.area_px < two.area_px
    with pytest.raises(
        BenchError, match=r"minutes must suffice .* received 0.05: a million pixels"
    ):
        plan_work(0.05, speed, PixelWork(), **sizes)
    # What it takes is what there is; where features are slower, less is done.
    assert speed.training_s(two, **sizes) == pytest.approx(120, abs=0.5)
    slower = plan_work(1, PixelSpeed(1.0, 5.0), PixelWork(), **sizes)
    assert slower.area_px < 0.6 * one.area_px
