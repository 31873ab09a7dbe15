import pytest

from bench.errors import BenchError
from bench.methods import (
    DEFAULT_SOURCE,
    FIRST_RELEASE,
    LOSSES,
    METHODS,
    choose_method,
    find_method,
    names_of,
)
from bench.report.variants import variant_label, variant_name, variant_order

FILE = "weights/best.safetensors"
TRAINED = names_of("finetune")


@pytest.mark.parametrize(
    ("name", "source", "loss", "expected"),
    [
        # The method is found from the source and the loss.
        ("auto", "auto", "auto", ("finetuned", DEFAULT_SOURCE)),
        ("auto", "auto", "focal_dice", ("finetuned", DEFAULT_SOURCE)),
        ("auto", "auto", "dice", ("finetuned_dice", DEFAULT_SOURCE)),
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
        ("finetuned", "auto", "auto", ("finetuned", DEFAULT_SOURCE)),
        ("finetuned", FILE, "auto", ("finetuned", FILE)),
        ("finetuned", "runs:/abc", "focal_dice", ("finetuned", "runs:/abc")),
        ("finetuned_dice", FILE, "auto", ("finetuned_dice", FILE)),
        ("finetuned_dice", FILE, "dice", ("finetuned_dice", FILE)),
        ("finetuned_boundary", "auto", "auto", ("finetuned_boundary", DEFAULT_SOURCE)),
        # A source of SynapseNet's kind, both channels, from random weights.
        ("finetuned_boundary", "random", "auto", ("finetuned_boundary", "random")),
        # The step looks for the adapted model.
        ("da_finetuned", "auto", "auto", ("da_finetuned", "auto")),
        ("da_finetuned", "runs:/abc", "auto", ("da_finetuned", "runs:/abc")),
    ],
)
def test_method_and_source_follow_from_what_is_given(name, source, loss, expected):
    method, chosen = choose_method(name, source=source, loss=loss)
    assert (method.name, chosen) == expected
    assert loss in ("auto", method.loss)


@pytest.mark.parametrize("name", ["finetuned", "finetuned_dice", "da_finetuned"])
@pytest.mark.parametrize("loss", ["auto", *LOSSES])
def test_a_pretrained_method_needs_a_source(name, loss):
    with pytest.raises(BenchError, match=f"{name} starts from a trained model.*give source=syn"):
        choose_method(name, source="random", loss=loss)


@pytest.mark.parametrize("name", ["scratch", "scratch_dice"])
@pytest.mark.parametrize("source", ["runs:/abc", FILE])
@pytest.mark.parametrize("loss", ["auto", *LOSSES])
def test_a_method_from_scratch_takes_no_source(name, source, loss):
    with pytest.raises(BenchError, match=f"{name} starts from random weights, received source="):
        choose_method(name, source=source, loss=loss)


@pytest.mark.parametrize("name", TRAINED)
@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_may_not_contradict_the_method(name, loss):
    if METHODS[name].loss == loss:
        assert choose_method(name, source="auto", loss=loss)[0] is METHODS[name]
        return
    with pytest.raises(BenchError, match=f"{name} has the loss .*, received loss={loss}"):
        choose_method(name, source="auto", loss=loss)


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(TRAINED)))
def test_finetune_refuses_the_methods_of_other_steps(name):
    with pytest.raises(BenchError, match=f"received method={name}: run .* with it"):
        choose_method(name, source="auto", loss="auto")


def test_unknown_names_are_answered_with_those_known():
    with pytest.raises(BenchError, match="unknown loss 'hinge': choose one of auto, dice, focal"):
        choose_method("auto", source="auto", loss="hinge")
    with pytest.raises(
        BenchError, match=r"unknown method 'finetune': choose one of .*scratch_dice"
    ):
        find_method("finetune")


def test_rows_hold_together():
    assert all(name == method.name for name, method in METHODS.items())
    assert len({method.label for method in METHODS.values()}) == len(METHODS)
    assert len(FIRST_RELEASE) == 8
    for method in METHODS.values():
        assert bool(method.loss) == (method.step == "finetune")
        assert method.loss in ("", *LOSSES)
        assert method.start in ("random", "source", "sam", *METHODS)


def test_few_labelled_sections_make_a_row_of_their_own():
    assert variant_name("finetuned", None) == "finetuned"
    assert variant_name("finetuned", 3) == "finetuned:3"
    assert variant_label("finetuned:3") == "Fine-tuned (focal-Dice), 3 labelled sections"
    assert variant_label("finetuned:1").endswith(", 1 labelled section")
    assert variant_label("finetuned") == METHODS["finetuned"].label
    assert variant_label("of others") == "of others"
    shuffled = ["zoo", "scratch", "finetuned", "finetuned:10", "finetuned:3", "unadapted"]
    ordered = ["unadapted", "finetuned:3", "finetuned:10", "finetuned", "scratch", "zoo"]
    assert sorted(shuffled, key=variant_order) == ordered
