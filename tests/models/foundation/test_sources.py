"""Transformers of others as a source: found, converted, and what is said where they are not."""

import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from bench.errors import BenchError, MissingFileError
from bench.models.checkpoint import load_checkpoint
from bench.models.foundation.encoders import patch_tokens
from bench.models.foundation.sources import convert_foundation

NAME = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where converted models are kept, on a machine on which a hub's cache has nothing."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache" / "converted"


def test_a_model_of_timm_is_its_own_with_all_colours_alike(folder):
    torch.manual_seed(0)
    model = timm.create_model(NAME, pretrained=False).eval()
    file = folder.parent / "timm" / f"{NAME}.safetensors"
    file.parent.mkdir(parents=True)
    save_file(model.state_dict(), file)
    network, info = load_checkpoint(convert_foundation(f"timm:{NAME}", folder=folder))
    assert "apache-2.0" in info.training["encoder"]
    windows = torch.randn(1, 1, 224, 224)
    with torch.no_grad():
        found = patch_tokens(network.tokens.encoder.eval(), windows)
        expected = model.forward_features(windows.expand(-1, 3, -1, -1))[:, 1:]
    torch.testing.assert_close(found.flatten(1, 2), expected, atol=1e-5, rtol=1e-5)


def test_without_its_file_a_model_of_timm_says_what_to_put_where(folder):
    with pytest.raises(MissingFileError) as error:
        convert_foundation("timm:vit_small_patch16_dinov3.lvd1689m", folder=folder)
    place = folder.parent / "timm" / "vit_small_patch16_dinov3.lvd1689m.safetensors"
    said = str(error.value)
    assert "model.safetensors of timm/vit_small_patch16_dinov3.lvd1689m" in said
    assert "licence dinov3-license" in said
    assert str(place) in said
    assert "\n" not in said
    assert error.value.files[0][1] == str(place)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_smal_patch14_dinov2.lvd142m", "did you mean vit_small_patch14_dinov2.lvd142m"),
        ("no such", "must be a model of which timm knows published weights"),
    ],
)
def test_an_unknown_name_is_told_from_known_ones(folder, name, message):
    with pytest.raises(BenchError, match=message):
        convert_foundation(f"timm:{name}", folder=folder)


def test_a_network_of_another_kind_is_refused(folder):
    name = "resnet18.a1_in1k"
    file = folder.parent / "timm" / f"{name}.safetensors"
    file.parent.mkdir(parents=True)
    save_file({"fc.bias": torch.zeros(2)}, file)
    with pytest.raises(BenchError, match=r"must be a vision transformer, .* is a ResNet"):
        convert_foundation(f"timm:{name}", folder=folder)
    # Of another model than its name says.
    other = file.with_name(f"{NAME}.safetensors")
    save_file({"patch_embed.proj.weight": torch.zeros(192, 3, 16, 16)}, other)
    with pytest.raises(BenchError, match=r"must hold the weights of timm's .* it does not"):
        convert_foundation(f"timm:{NAME}", folder=folder)


def test_a_missing_file_of_dino_names_what_is_published_and_its_licence(folder):
    with pytest.raises(MissingFileError) as error:
        convert_foundation("dino:weights/dino.pth", folder=folder)
    said = str(error.value)
    assert re.search(r"dinov2_vits14_pretrain.pth .*Apache 2.0", said)
    assert "DINOv3 License" in said
    assert "backbone_emdino_v1.pt" in said


def test_a_file_of_another_network_is_refused_in_a_line(folder, tmp_path, write_dino):
    hub = {
        "embeddings.cls_token": torch.zeros(1, 1, 8),
        "encoder.layer.0.norm1.weight": torch.ones(8),
    }
    torch.save(hub, tmp_path / "hub.pth")
    with pytest.raises(
        BenchError, match=r"by the names of facebookresearch/dino, .* has no tensor"
    ):
        convert_foundation(f"dino:{tmp_path / 'hub.pth'}", folder=folder)
    file = write_dino(tmp_path / "dino.pth")
    state = torch.load(file, weights_only=True)
    torch.save(state | {"blocks.0.extra.weight": torch.zeros(2)}, file)
    with pytest.raises(BenchError, match="extra") as error:
        convert_foundation(f"dino:{file}", folder=folder)
    assert "\n" not in str(error.value)
    torch.save({**state, "norm.bias": torch.full((64,), torch.nan)}, file)
    with pytest.raises(BenchError, match="has numbers that are not finite"):
        convert_foundation(f"dino:{file}", folder=folder)
    assert list(Path(folder).glob("*.safetensors")) == []
