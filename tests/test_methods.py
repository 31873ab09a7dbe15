from dataclasses import replace

import pytest

from bench import methods
from bench.config.training import DomainAdaptConfig, FinetuneConfig, MicrosamConfig
from bench.errors import BenchError
from bench.methods import (
    CLASSES,
    DEFAULT_SOURCE,
    FIRST_RELEASE,
    LOSSES,
    METHODS,
    NORMALISATIONS,
    OPTIMISERS,
    SCHEDULES,
    Method,
    choose_method,
    find_method,
    find_stage,
    find_start,
    names_of,
    random_row_of,
    source_as_it_is,
)
from bench.models.networks import NETWORKS
from bench.report.variants import variant_label, variant_name, variant_order
from bench.steps.training.data import with_defaults

FILE = "weights/best.safetensors"
TRAINED = names_of("finetune")
OF_RETINA = ("unet_resnet50", "unet_resnet50_moco", "transunet", "retina")
NEED_A_FILE = (
    "cryovesnet_finetuned",
    "anisotropic_finetuned",
    "foundation_features",
    *(f"{name}{kind}" for name in ("unet_resnet50_moco", "retina") for kind in ("", "_classes")),
)


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
        # The same, of a pretraining.
        ("montage_pretrained", "auto", "auto", ("montage_pretrained", "auto")),
        ("montage_pretrained", FILE, "auto", ("montage_pretrained", FILE)),
    ],
)
def test_method_and_source_follow_from_what_is_given(name, source, loss, expected):
    method, chosen = choose_method(name, source=source, loss=loss)
    assert (method.name, chosen) == expected
    assert loss in ("auto", method.loss)


@pytest.mark.parametrize("name", OF_RETINA)
def test_a_row_of_classes_differs_from_its_own_in_nothing_else(name):
    of_classes, row = METHODS[f"{name}_classes"], METHODS[name]
    assert of_classes.outputs == CLASSES
    assert of_classes.loss == "ce_dice"
    own = {"name": row.name, "label": row.label, "loss": row.loss, "outputs": row.outputs}
    assert replace(of_classes, **own, foreground_weight=row.foreground_weight) == row


@pytest.mark.parametrize(
    "name", ["finetuned", "finetuned_dice", "da_finetuned", "montage_pretrained"]
)
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
def test_a_named_method_stays_what_it_is_whatever_the_loss(name, loss):
    source = FILE if name in NEED_A_FILE else "auto"
    assert choose_method(name, source=source, loss=loss)[0] is METHODS[name]


def test_a_method_starts_from_a_row_a_pretraining_or_nothing():
    assert find_start(METHODS["scratch"]) is None
    assert find_start(METHODS["finetuned"]) is None
    assert find_start(METHODS["da_finetuned"]) is METHODS["domain_adapted"]
    stage = find_start(METHODS["montage_pretrained"])
    assert (stage.name, stage.step, stage.network) == ("pretrained_unet2d", "pretrain", "unet2d")
    assert stage.name not in METHODS
    assert find_stage(stage.name) == stage
    assert find_stage("scratch") is METHODS["scratch"]
    with pytest.raises(BenchError, match="unknown method 'scrach'"):
        find_stage("scrach")


def test_before_a_pretraining_is_made_random_weights_stand_in():
    assert random_row_of(METHODS["montage_pretrained"]) is METHODS["scratch"]
    assert (
        random_row_of(replace(METHODS["montage_pretrained"], loss="dice"))
        is METHODS["scratch_dice"]
    )
    with pytest.raises(BenchError, match="odd needs a row of the network odd_net that starts from"):
        random_row_of(Method("odd", "Odd", "odd_net", "finetune", "pretrain", "dice"))


def test_a_method_of_cryovesnet_needs_its_file():
    file = "give source=cryovesnet:FILE, cryovesnet/weights/weights.h5 of Zuber-group/CryoVesNet"
    with pytest.raises(BenchError, match=f"cryovesnet_finetuned starts from .*: {file}"):
        choose_method("cryovesnet_finetuned", source="auto", loss="auto")
    with pytest.raises(BenchError, match=f"cryovesnet starts from .*: {file}"):
        source_as_it_is(METHODS["cryovesnet"], "vesicles", "data")


@pytest.fixture
def laboratory(monkeypatch):
    """A table of its own, with a method of a network that is not ours."""
    monkeypatch.setattr(methods, "METHODS", dict(METHODS))
    row = Method("ours", "Ours", "a_network", "finetune", "source", "dice")
    methods.register_method(row)
    return row


def test_a_method_from_outside_is_found_by_its_name_only(laboratory):
    assert find_method("ours") is laboratory
    assert choose_method("ours", source=FILE, loss="auto") == (laboratory, FILE)
    with pytest.raises(BenchError, match="network a_network, of which there are none by default"):
        choose_method("ours", source="auto", loss="auto")
    assert choose_method("auto", source=FILE, loss="dice")[0].name == "finetuned_dice"


def test_a_name_or_label_is_registered_once(laboratory):
    methods.register_method(replace(laboratory))
    assert list(methods.METHODS) == [*METHODS, "ours"]
    for other in (
        replace(laboratory, lr=1.0),
        replace(laboratory, name="scratch", label="New"),
        replace(laboratory, name="new", label="Unadapted"),
    ):
        with pytest.raises(BenchError, match=f"of its own, received {other.name} .*: rename it"):
            methods.register_method(other)
    assert list(methods.METHODS) == [*METHODS, "ours"]


@pytest.mark.parametrize("name", sorted(set(METHODS) - set(TRAINED)))
def test_finetune_refuses_the_methods_of_other_steps(name):
    with pytest.raises(BenchError, match=f"received method={name}: run .* with it"):
        choose_method(name, source="auto", loss="auto")


def test_unknown_names_are_answered_with_those_known():
    with pytest.raises(BenchError, match=r"unknown loss 'hinge': choose one of auto, .*dice, f"):
        FinetuneConfig(loss="hinge")
    with pytest.raises(
        BenchError, match=r"unknown method 'finetune': choose one of .*scratch_dice"
    ):
        find_method("finetune")


def test_rows_hold_together():
    assert all(name == method.name for name, method in METHODS.items())
    assert len({method.label for method in METHODS.values()}) == len(METHODS)
    assert (
        *("unadapted", "domain_adapted", "finetuned", "finetuned_dice", "da_finetuned"),
        *("finetuned_boundary", "microsam_zero_shot", "microsam_finetuned"),
    ) == FIRST_RELEASE
    for method in METHODS.values():
        ours = NETWORKS[method.network].trained_by is None
        assert bool(method.loss) == (method.step == "finetune" and ours)
        assert method.loss in ("", *LOSSES)
        assert method.start in ("random", "source", "pretrain", "detect", *METHODS)
        assert not method.step or method.step in NETWORKS[method.network].steps
        assert bool(method.mode) == (method.step == "microsam")
        assert method.optimiser in OPTIMISERS
        assert method.schedule in SCHEDULES
        assert method.normalisation in NORMALISATIONS


def test_the_defaults_of_a_training_are_the_row_s_and_what_is_typed_wins():
    sgd = replace(METHODS["scratch"], optimiser="sgd", lr=0.01, schedule="polynomial", loss="dice")
    config = with_defaults(FinetuneConfig(), sgd)
    chosen = (config.optimiser, config.lr, config.schedule, config.loss, config.normalisation)
    assert chosen == ("sgd", 0.01, "polynomial", "dice", "section")
    config = with_defaults(FinetuneConfig(lr=1e-3, schedule="cosine", loss="focal_dice"), sgd)
    assert (config.optimiser, config.lr, config.schedule) == ("sgd", 1e-3, "cosine")
    assert config.loss == "focal_dice"
    # Those of the releases before, of which the runs' scores are known.
    for settings, name, expected in (
        (FinetuneConfig(), "finetuned", ("adam", 1e-4, "plateau")),
        (DomainAdaptConfig(), "domain_adapted", ("adam", 1e-4, "plateau")),
        (MicrosamConfig(), "microsam_finetuned", ("adamw", 1e-5, "plateau")),
    ):
        config = with_defaults(settings, METHODS[name])
        assert (config.optimiser, config.lr, config.schedule) == expected


@pytest.mark.parametrize("field", ["optimiser", "schedule", "normalisation", "loss"])
def test_a_row_with_a_setting_that_there_is_not_is_refused(field):
    row = replace(METHODS["scratch"], **{field: "no such"})
    with pytest.raises(BenchError, match=f"unknown {field} 'no such': choose one of .*auto, "):
        with_defaults(FinetuneConfig(), row)


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
