import json
import shutil

import pytest
import torch

from bench.core.hashing import file_sha256
from bench.errors import BenchError
from bench.models.checkpoint import (
    ModelInfo,
    build_model,
    load_checkpoint,
    load_info,
    load_weights,
    save_checkpoint,
)
from bench.words import OurNetworks

ARGUMENTS = {"in_channels": 1, "out_channels": 2, "depth": 3, "features": 4}
INFO = ModelInfo(
    architecture="unet2d",
    arguments=ARGUMENTS,
    outputs=("foreground", "boundary"),
    structure="mitochondria",
    input_pixel_size_nm=4.5,
    normalisation="section",
    tile_px=64,
    halo_px=16,
    training={"method": "scratch", "iteration": 7, "val_dice": None},
)


def save_random(path, seed=0):
    torch.manual_seed(seed)
    network = build_model("unet2d", ARGUMENTS)
    save_checkpoint(path, network, INFO)
    return network


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model" / "best.safetensors"
    save_random(path)
    return path


def edit(path, **changes):
    """Changes a checkpoint's description; None removes the key."""
    description = path.with_suffix(".json")
    content = {**json.loads(description.read_text()), **changes}
    description.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def test_round_trip(tmp_path):
    path = tmp_path / "new" / "folder" / "last.safetensors"
    network = save_random(path)
    loaded, info = load_checkpoint(path)
    assert info == INFO
    assert list(loaded.state_dict()) == list(network.state_dict())
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    image = torch.randn(1, 1, 32, 32)
    assert torch.equal(loaded(image), network(image))
    assert sorted(p.name for p in path.parent.iterdir()) == ["last.json", "last.safetensors"]


def test_weights_in_channels_last_are_the_same_file(checkpoint, tmp_path):
    network, _ = load_checkpoint(checkpoint)
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, network.to(memory_format=torch.channels_last), INFO)
    assert other.read_bytes() == checkpoint.read_bytes()


def test_nothing_is_pickled(checkpoint):
    """The file is a safetensors header, JSON after eight bytes of length, and plain tensors."""
    content = checkpoint.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    sizes = [end - start for start, end in (row["data_offsets"] for row in header.values())]
    assert len(content) == 8 + length + sum(sizes)
    assert {row["dtype"] for row in header.values()} == {"F32"}


# As version 1.0 of this suite wrote it.
WRITTEN_BEFORE = """{
  "architecture": "unet2d",
  "arguments": {
    "depth": 3,
    "features": 4,
    "in_channels": 1,
    "out_channels": 2
  },
  "format": "synapse-bench-checkpoint",
  "halo_px": 16,
  "inference": {},
  "input_pixel_size_nm": 4.5,
  "normalisation": "section",
  "outputs": [
    "foreground",
    "boundary"
  ],
  "structure": "mitochondria",
  "tile_px": 64,
  "training": {
    "dataset": "0123",
    "iteration": 7,
    "method": "finetuned_boundary",
    "val_dice": 0.5
  },
  "version": 1,
  "weights_sha256": "SHA256"
}
"""


def test_what_was_written_before_is_read(checkpoint):
    weights = load_weights(checkpoint)
    description = WRITTEN_BEFORE.replace("SHA256", file_sha256(checkpoint))
    checkpoint.with_suffix(".json").write_text(description)
    network, info = load_checkpoint(checkpoint)
    assert info.architecture == OurNetworks.UNET2D
    assert (info.outputs, info.tile_px, info.halo_px) == (INFO.outputs, 64, 16)
    assert all(torch.equal(weights[name], t) for name, t in network.state_dict().items())
    # What is written now says it in the same words.
    save_checkpoint(checkpoint, network, info)
    assert checkpoint.with_suffix(".json").read_text() == description


def test_output_is_logits(checkpoint):
    network, _ = load_checkpoint(checkpoint)
    with torch.no_grad():
        logits = network(10 * torch.randn(2, 1, 32, 32))
    assert logits.shape == (2, 2, 32, 32)
    assert logits.min() < 0


@pytest.mark.parametrize("lacking", [".json", ".safetensors"])
def test_half_of_a_pair_is_refused(checkpoint, lacking):
    checkpoint.with_suffix(lacking).unlink()
    with pytest.raises(BenchError, match=rf"best\{lacking} is missing: copy both"):
        load_checkpoint(checkpoint)


def test_swapped_weights_are_noticed(checkpoint, tmp_path):
    other = tmp_path / "other.safetensors"
    save_random(other, seed=1)
    shutil.copy(other, checkpoint)
    with pytest.raises(BenchError, match=r"is not the weights file that .*best\.json describes"):
        load_checkpoint(checkpoint)


@pytest.mark.parametrize("left", [0, 5, 1000, -1])
def test_truncated_weights_are_noticed(checkpoint, left):
    checkpoint.write_bytes(checkpoint.read_bytes()[:left])
    with pytest.raises(BenchError, match="is not the weights file"):
        load_checkpoint(checkpoint)
    with pytest.raises(BenchError, match="is not a whole safetensors file"):
        load_weights(checkpoint)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "version 1, received 'synapse-bench-checkpoint' version 2"),
        ({"format": "nnunet"}, "received 'nnunet' version 1"),
        ({"format": None}, "received None version 1"),
        ({"weights_sha256": None}, "copy it again"),
        ({"outputs": None}, "copy it again"),
        ({"tile_px": None}, "tile_px.*copy it again"),
        ({"strides": [1]}, "strides.*copy it again"),
    ],
)
def test_descriptions_of_another_kind_are_refused(checkpoint, changes, message):
    edit(checkpoint, **changes)
    with pytest.raises(BenchError, match=message) as caught:
        load_info(checkpoint)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "\xff\xfe"])
def test_descriptions_that_are_no_json_object_are_refused(checkpoint, content):
    checkpoint.with_suffix(".json").write_text(content, encoding="latin-1")
    with pytest.raises(BenchError, match=r"best\.json"):
        load_info(checkpoint)


def test_weights_of_another_shape_are_refused(checkpoint):
    edit(checkpoint, arguments={**ARGUMENTS, "features": 8})
    with pytest.raises(BenchError, match="does not fit its own description") as caught:
        load_checkpoint(checkpoint)
    assert "\n" not in str(caught.value)


def test_unknown_architecture_lists_the_known(checkpoint):
    edit(checkpoint, architecture="unet4d")
    with pytest.raises(
        BenchError, match="unknown network 'unet4d': choose one of detector_sam, fcos_"
    ):
        load_checkpoint(checkpoint)
