import pytest

from bench.errors import BenchError
from bench.methods import LOSSES, METHODS, choose_method, find_method

FILE = "weights/best.safetensors"


@pytest.mark.parametrize(
    ("name", "source", "loss", "expected"),
    [
        # The method is found from the source and the loss.
        ("auto", "auto", "auto", ("scratch", "random")),
        ("auto", "auto", "focal_dice", ("scratch", "random")),
        ("auto", "auto", "dice", ("scratch_dice", "random")),
        ("auto", "random", "auto", ("scratch", "random")),
        ("auto", "random", "focal_dice", ("scratch", "random")),
        ("auto", "random", "dice", ("scratch_dice", "random")),
        ("auto", FILE, "auto", ("finetuned", FILE)),
        ("auto", FILE, "focal_dice", ("finetuned", FILE)),
        ("auto", "runs:/abc", "dice", ("finetuned_dice", "runs:/abc")),
        # The method is named, and decides what is auto.
        ("scratch", "auto", "auto", ("scratch", "random")),
        ("scratch", "random", "focal_dice", ("scratch", "random")),
        ("scratch_dice", "auto", "auto", ("scratch_dice", "random")),
        ("scratch_dice", "random", "dice", ("scratch_dice", "random")),
        ("finetuned", FILE, "auto", ("finetuned", FILE)),
        ("finetuned", "runs:/abc", "focal_dice", ("finetuned", "runs:/abc")),
        ("finetuned_dice", FILE, "auto", ("finetuned_dice", FILE)),
        ("finetuned_dice", FILE, "dice", ("finetuned_dice", FILE)),
    ],
)
def test_method_and_source_follow_from_what_is_given(name, source, loss, expected):
    method, chosen = choose_method(name, source=source, loss=loss)
    assert (method.name, chosen) == expected
    assert loss in ("auto", method.loss)


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].pretrained])
@pytest.mark.parametrize("source", ["auto", "random"])
@pytest.mark.parametrize("loss", ["auto", *LOSSES])
def test_a_pretrained_method_needs_a_source(name, source, loss):
    with pytest.raises(BenchError, match=f"{name} starts from a trained model.*give source=runs:"):
        choose_method(name, source=source, loss=loss)


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].pretrained])
@pytest.mark.parametrize("source", ["runs:/abc", FILE])
@pytest.mark.parametrize("loss", ["auto", *LOSSES])
def test_a_method_from_scratch_takes_no_source(name, source, loss):
    with pytest.raises(BenchError, match=f"{name} starts from random weights, received source="):
        choose_method(name, source=source, loss=loss)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_may_not_contradict_the_method(name, loss):
    source = FILE if METHODS[name].pretrained else "random"
    if METHODS[name].loss == loss:
        assert choose_method(name, source=source, loss=loss)[0] is METHODS[name]
        return
    with pytest.raises(BenchError, match=f"{name} has the loss .*, received loss={loss}"):
        choose_method(name, source=source, loss=loss)


def test_unknown_names_are_answered_with_those_known():
    with pytest.raises(BenchError, match="unknown loss 'hinge': choose one of auto, dice, focal"):
        choose_method("auto", source="auto", loss="hinge")
    with pytest.raises(
        BenchError, match=r"unknown method 'finetune': choose one of .*scratch_dice"
    ):
        find_method("finetune")


def test_every_row_has_its_own_name_and_label():
    assert all(name == method.name for name, method in METHODS.items())
    assert len({method.label for method in METHODS.values()}) == len(METHODS)
    assert {method.loss for method in METHODS.values()} <= set(LOSSES)
