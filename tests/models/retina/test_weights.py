"""Published weights, on files that are made here by their names and shapes."""

import numpy as np
import pytest
import torch
from torchvision.models import resnet50

from bench.errors import BenchError, MissingFileError
from bench.models.checkpoint import build_model, load_checkpoint, load_info, load_weights
from bench.models.retina.weights import convert_published

NORMS = [0.57287007, 0.12740536]
SMALL = {"out_channels": 1, "width": 48, "blocks": 2}


@pytest.fixture(scope="module")
def moco():
    """What the training of MoCo saves: two encoders, of which one is asked for, and a queue."""
    torch.manual_seed(0)
    network = resnet50()
    network.conv1 = torch.nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    asked = network.state_dict()
    state = {f"module.encoder_q.{n}": t for n, t in asked.items() if not n.startswith("fc.")}
    state |= {f"module.encoder_q.fc.{n}.weight": torch.zeros(2, 2) for n in (0, 2)}
    state |= {"module.encoder_k.conv1.weight": torch.zeros(3), "module.queue": torch.zeros(3)}
    return {"epoch": 200, "arch": "resnet50", "state_dict": state, "norms": NORMS}


@pytest.fixture(scope="module")
def retina():
    """What RETINA's pretraining saves: a head for images beside one that is never trained."""
    torch.manual_seed(0)
    state = build_model("transunet", SMALL).state_dict()
    return state | {
        "FinalDecoder.conv1.weight": torch.randn(1, 16, 3, 3),
        "FinalDecoder.conv1.bias": torch.randn(1),
    }


def convert(scheme, content, folder):
    torch.save(content, folder / "file.pt")
    return convert_published(f"{scheme}:{folder / 'file.pt'}", folder=folder / "converted")


def test_moco_is_renamed_bit_for_bit_and_brings_its_norms(moco, tmp_path):
    path = convert("moco", moco, tmp_path)
    info, weights = load_info(path), load_weights(path)
    assert (info.architecture, info.normalisation) == ("unet_resnet50", "fixed")
    assert info.grey_scale == tuple(NORMS)
    for name, tensor in moco["state_dict"].items():
        if name.startswith("module.encoder_q.") and ".fc." not in name:
            renamed = name.replace("module.encoder_q.", "encoder.")
            assert torch.equal(weights.pop(renamed), tensor), name
    assert weights == {}


def test_moco_of_colours_answers_a_grey_section_as_it_did(moco, tmp_path):
    colours = torch.randn(64, 3, 7, 7)
    state = moco["state_dict"] | {"module.encoder_q.conv1.weight": colours}
    path = convert("moco", moco | {"state_dict": state, "norms": [[0.5] * 3, [0.2] * 3]}, tmp_path)
    kernel, image = load_weights(path)["encoder.conv1.weight"], torch.randn(1, 1, 16, 16)
    expected = torch.conv2d(image.repeat(1, 3, 1, 1), colours)
    assert torch.allclose(torch.conv2d(image, kernel), expected, atol=1e-4)
    assert load_info(path).grey_scale == (0.5, 0.2)


def test_retina_is_read_whole_with_its_head_of_images(retina, tmp_path):
    network, info = load_checkpoint(path := convert("retina", retina, tmp_path))
    assert info.arguments == SMALL | {"grid": 14}
    assert (info.outputs, info.normalisation) == (("reconstruction",), "fixed")
    assert info.grey_scale == tuple(NORMS)
    weights = load_weights(path)
    assert torch.equal(weights["segmentation_head.0.weight"], retina["FinalDecoder.conv1.weight"])
    for name, tensor in weights.items():
        assert name.startswith("segmentation_head") or torch.equal(tensor, retina[name]), name
    assert network(torch.zeros(2, 1, 32, 32)).shape == (2, 1, 32, 32)


def test_a_finetuned_retina_segments(retina, tmp_path):
    state = {f"module.{n}": t for n, t in retina.items() if not n.startswith("FinalDecoder")}
    path = convert("retina", state, tmp_path)
    assert load_info(path).outputs == ("foreground",)
    head = load_weights(path)["segmentation_head.0.bias"]
    assert torch.equal(head, retina["segmentation_head.0.bias"])


@pytest.mark.parametrize(
    ("scheme", "file", "place"),
    [
        ("moco", "cem500k_mocov2_resnet50_200ep.pth.tar", "10.5281/zenodo.6453140"),
        ("retina", "pretrain_200.pt", "BaderLab/RETINA"),
    ],
)
def test_a_missing_file_says_where_it_is_and_that_no_licence_is_stated(
    scheme, file, place, tmp_path
):
    missing = tmp_path / "no.pt"
    with pytest.raises(MissingFileError, match="licence is not stated") as raised:
        convert_published(f"{scheme}:{missing}", folder=tmp_path)
    assert all(part in str(raised.value) for part in (file, place, str(missing)))


def without(content, *names):
    return {name: value for name, value in content.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda moco, _: ("moco", without(moco, "norms")), "has no state_dict and norms"),
        (lambda _, retina: ("moco", retina), "has no state_dict and norms"),
        (lambda moco, _: ("moco", moco | {"state_dict": {}}), "has no tensors named module.enc"),
        (lambda moco, _: ("moco", moco | {"norms": 0.5}), "is damaged"),
        (
            lambda moco, _: (
                "moco",
                moco
                | {"state_dict": without(moco["state_dict"], "module.encoder_q.layer1.0.bn1.bias")},
            ),
            r"has encoder.layer1.0.bn1.bias of shape None where it is \(64,\)",
        ),
        (lambda moco, _: ("retina", moco), "has no tensor transformer.embeddings.position_emb"),
        (lambda *_: ("retina", [1, 2]), "has no tensor transformer.embeddings.position_emb"),
        (
            lambda _, retina: (
                "retina",
                retina | {"transformer.embeddings.position_embeddings": torch.zeros(1, 196, 96)},
            ),
            r"of shape \(.*\) where it is",
        ),
        (
            lambda _, retina: ("retina", retina | {"decoder.blocks.9.weight": torch.zeros(2)}),
            r"has decoder.blocks.9.weight of shape \(2,\) where it is None",
        ),
        (
            lambda _, retina: (
                "retina",
                retina | {"FinalDecoder.conv1.bias": torch.tensor([np.nan])},
            ),
            "has numbers that are not finite",
        ),
    ],
)
def test_other_files_are_refused_in_one_line(moco, retina, change, reason, tmp_path):
    scheme, content = change(moco, retina)
    with pytest.raises(BenchError, match=reason) as raised:
        convert(scheme, content, tmp_path)
    assert f"{scheme}:FILE must be" in str(raised.value)
    assert not (tmp_path / "converted").exists()


def test_a_file_that_names_programs_is_not_run(tmp_path):
    class Run:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    with pytest.raises(BenchError, match="must name nothing but what a model is made of"):
        convert("retina", {"a": Run()}, tmp_path)
    assert not (tmp_path / "ran").exists()
