"""Sources that nobody named, and patches that show too little."""

import pytest

from bench.config.scoring import EvaluateConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.methods import DEFAULT_SOURCE, METHODS, source_as_it_is
from bench.models.checkpoint import ModelInfo, build_model, save_checkpoint
from bench.models.synapsenet import SYNAPSENET
from bench.steps.scoring import evaluation_subject
from bench.steps.scoring.evaluation_subject import find_subject
from bench.steps.training.data import TrainingData, warn_of_patches


@pytest.mark.parametrize(
    ("structure", "protocol", "source"),
    [
        ("mitochondria", "data", "synapsenet:mitochondria"),
        ("membrane", "data", "synapsenet:compartments"),
        ("vesicles", "data", DEFAULT_SOURCE),
        ("dendrite", "data", DEFAULT_SOURCE),
        ("mitochondria", "paper", DEFAULT_SOURCE),
        ("membrane", "paper", DEFAULT_SOURCE),
    ],
)
def test_a_source_that_is_applied_suits_the_structure(structure, protocol, source):
    assert source_as_it_is(METHODS["unadapted"], structure, protocol) == source
    assert source.partition(":")[2] in SYNAPSENET


@pytest.mark.parametrize(
    ("given", "protocol", "asked"),
    [
        ("auto", "data", "synapsenet:mitochondria"),
        ("auto", "paper", DEFAULT_SOURCE),
        ("vesicles=x.pt", "data", "synapsenet:mitochondria"),
        ("x.pt", "data", "x.pt"),
    ],
)
def test_an_evaluation_takes_it_where_none_is_named(pipeline, monkeypatch, given, protocol, asked):
    def resolve(store, name, **others):
        raise BenchError(name)

    monkeypatch.setattr(evaluation_subject, "resolve_source", resolve)
    config = EvaluateConfig(method="unadapted", structure="mito", source=given, protocol=protocol)
    with pytest.raises(BenchError, match=f"^{asked}$"):
        find_subject(config, PreparedDataset.open(pipeline.dataset), pipeline.store)


@pytest.fixture
def subject_of(pipeline, tmp_path):
    """Finds what is evaluated of a method and a network that is applied as it is."""
    arguments = {"in_channels": 1, "out_channels": 1, "depth": 1, "features": 2}

    def find(method, network):
        source = network
        if network in ("unet2d", "unet3d"):
            path = tmp_path / f"{network}.safetensors"
            info = ModelInfo(network, arguments, ("foreground",), "", None, "section", 32, 16)
            save_checkpoint(path, build_model(network, arguments), info)
            source = str(path)
        config = EvaluateConfig(method=method, structure="vesicles", source=source)
        return find_subject(config, PreparedDataset.open(pipeline.dataset), pipeline.store)

    return find


def test_a_source_is_of_sections_or_of_volumes_as_its_method(subject_of):
    for method, network in (("unadapted", "unet2d"), ("cryovesnet", "unet3d")):
        subject = subject_of(method, network)
        assert (subject.cell.method, subject.run_id) == (method, "")
        assert subject.source.endswith(f"{network}.safetensors")


@pytest.mark.parametrize(
    ("method", "network", "message"),
    [
        ("unadapted", "unet3d", "applies a unet2d as it is, .* of volumes: .* method=cryovesnet"),
        ("cryovesnet", "unet2d", "applies a unet3d as it is, .* of sections: .* method=unadapted"),
        ("cryovesnet", "auto", "none by default: give source=cryovesnet:FILE, .*/CryoVesNet"),
        (
            "cryovesnet",
            "cryovesnet:none.h5",
            "put cryovesnet/weights/weights.h5 .*SHA-256 495748b",
        ),
        ("cryovesnet", "random", "evaluates a trained model, received source=random"),
    ],
)
def test_what_a_method_cannot_apply_is_refused(subject_of, method, network, message):
    with pytest.raises(BenchError, match=message):
        subject_of(method, network)


@pytest.fixture
def warnings_at(pipeline):
    """What is said of patches of the tiny dataset, 5 nm, whose mitochondria are 110 nm across."""

    class Said(list):
        add_warning = list.append

    def warn(fed_nm, patch_px, structure="mitochondria"):
        said = Said()
        dataset = PreparedDataset.open(pipeline.dataset)
        data = TrainingData.choose(dataset, structure, labelled=None, seed=0, fed_nm=fed_nm)
        warn_of_patches(said, data, patch_px)
        return said

    return warn


def test_a_patch_that_shows_hardly_an_instance_is_said(warnings_at):
    (warning,) = warnings_at(1.35, 64)
    assert "a patch of 64 px at 1.35 nm, as the source was trained, shows 86 nm" in warning
    assert "mitochondria are 110 nm across (median): give rescale=false" in warning
    assert "shows 320 nm" in warning


@pytest.mark.parametrize(("fed_nm", "patch_px"), [(1.35, 256), (5.0, 16), (None, 16)])
def test_other_patches_are_not(warnings_at, fed_nm, patch_px):
    assert warnings_at(fed_nm, patch_px) == []
