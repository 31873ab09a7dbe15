import pickle

import pooch
import pytest
import torch
from micro_sam.models.build_sam import sam_model_registry

from bench.errors import BenchError
from bench.models.checkpoint import ModelInfo, load_checkpoint, save_checkpoint
from bench.models.sam import (
    SAM,
    add_lora,
    build_sam,
    derive_arguments,
    load_sam,
    merge_lora,
    write_tiny_sam,
)
from bench.models.sam_weights import (
    PUBLISHED,
    PublishedFile,
    cache_folder,
    read_published,
    read_torch_file,
)

CLOSED = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "tiny.pt"
    write_tiny_sam(path, image_px=64)
    return path


@pytest.fixture
def offline(monkeypatch, tmp_path):
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, CLOSED)
    monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.mark.parametrize(
    ("name", "depth", "blocks"),
    [("vit_b", 12, [2, 5, 8, 11]), ("vit_l", 24, [5, 11, 17, 23]), ("vit_h", 32, [7, 15, 23, 31])],
)
def test_the_published_sizes_are_read_off_their_tensors(name, depth, blocks):
    with torch.device("meta"):
        theirs = {f"{SAM}{k}": t for k, t in sam_model_registry[name]().state_dict().items()}
        arguments = derive_arguments(theirs)
        ours = build_sam(**arguments)
    assert (arguments["depth"], arguments["global_blocks"]) == (depth, blocks)
    assert (arguments["image_px"], arguments["window"]) == (1024, 14)
    assert {k: t.shape for k, t in ours.state_dict().items()} == {
        k: t.shape for k, t in theirs.items()
    }
    for block, theirs_block in (
        zip(
            ours.sam.image_encoder.blocks,
            sam_model_registry[name]().image_encoder.blocks,
            strict=True,
        )
        if name == "vit_b"
        else ()
    ):
        assert block.window_size == theirs_block.window_size
        assert block.attn.num_heads == theirs_block.attn.num_heads


@pytest.mark.parametrize("features", [0, 16, 64])
def test_a_tiny_sam_comes_back_as_it_was_written(tmp_path, features):
    write_tiny_sam(tmp_path / "tiny.pt", 3, image_px=64, decoder_features=features)
    content = torch.load(tmp_path / "tiny.pt", weights_only=True)
    assert set(content) == {"model_state"} | ({"decoder_state"} if features else set())
    assert all(name.startswith("sam.") for name in content["model_state"])
    network, arguments = load_sam(read_torch_file(tmp_path / "tiny.pt", trust=False))
    assert (arguments["image_px"], arguments["decoder_features"]) == (64, features)
    assert (network.instance_decoder is None) == (features == 0)
    state = network.state_dict()
    for name, tensor in content["model_state"].items():
        assert torch.equal(state[name], tensor)
    for name, tensor in content.get("decoder_state", {}).items():
        assert torch.equal(state[f"instance_decoder.{name}"], tensor)


def test_micro_sam_takes_the_decoder_of_a_tiny_sam(tmp_path):
    from micro_sam.instance_segmentation import get_unetr

    write_tiny_sam(tmp_path / "tiny.pt", image_px=64, decoder_features=64)
    network, _ = load_sam(read_torch_file(tmp_path / "tiny.pt", trust=False))
    state = torch.load(tmp_path / "tiny.pt", weights_only=True)["decoder_state"]
    theirs = get_unetr(network.sam.image_encoder, state, device="cpu")
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.inference_mode():
        torch.testing.assert_close(network.unetr(image), theirs(image), atol=1e-5, rtol=1e-5)


def test_plain_state_dicts_of_segment_anything_are_read(tiny, tmp_path):
    weights = torch.load(tiny, weights_only=True)["model_state"]
    plain = {name.removeprefix("sam."): t for name, t in weights.items()}
    torch.save(plain, tmp_path / "plain.pth")
    read = read_torch_file(tmp_path / "plain.pth", trust=False)
    assert read.keys() == weights.keys()


def test_our_checkpoint_keeps_everything(tiny, tmp_path):
    network, arguments = load_sam(read_torch_file(tiny, trust=False))
    info = ModelInfo("sam", arguments, ("foreground",), "membrane", None, "section", 64, 0)
    save_checkpoint(tmp_path / "sam.safetensors", network, info)
    loaded, found = load_checkpoint(tmp_path / "sam.safetensors")
    assert found.arguments == arguments
    state = network.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(state[name], t) for name, t in loaded.state_dict().items())
    # The U-Net shares the encoder: it is on disk once.
    assert not any("unetr" in name for name in state)


def test_merged_updates_compute_what_the_updates_do(tiny):
    network, arguments = load_sam(read_torch_file(tiny, trust=False))
    add_lora(network, 2)
    for name, parameter in network.named_parameters():
        if ".w_b_linear_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    plain = build_sam(**arguments)
    plain.load_state_dict(merge_lora(network.state_dict()))
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected = network.sam.image_encoder(image)
        torch.testing.assert_close(plain.sam.image_encoder(image), expected, rtol=1e-4, atol=1e-4)
        before = load_sam(read_torch_file(tiny, trust=False))[0].sam.image_encoder(image)
    assert not torch.allclose(before, expected, atol=1e-3)


class Intruder:
    def __reduce__(self):
        return (print, ("run",))


def test_a_foreign_pickle_runs_only_if_trusted(tiny, tmp_path, capsys):
    path = tmp_path / "foreign.pt"
    content = torch.load(tiny, weights_only=True)
    torch.save(content | {"extra": Intruder()}, path)
    with pytest.raises(BenchError, match=r"foreign.pt names .*print.*trust_checkpoint=true"):
        read_torch_file(path, trust=False)
    assert capsys.readouterr().out == ""
    read_torch_file(path, trust=True)
    assert capsys.readouterr().out == "run\n"


@pytest.mark.parametrize("content", [{"weights": torch.zeros(2)}, {"a": 1}, [torch.zeros(2)]])
def test_a_file_without_a_sam(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(BenchError, match="must hold the tensors of an image_encoder"):
        read_torch_file(tmp_path / "other.pt", trust=False)


def test_a_damaged_file(tiny, tmp_path):
    (tmp_path / "half.pt").write_bytes(tiny.read_bytes()[: 10**6])
    with pytest.raises(BenchError, match=r"half.pt is not a whole checkpoint"):
        read_torch_file(tmp_path / "half.pt", trust=False)
    with pytest.raises(BenchError):
        read_torch_file_of(tmp_path / "text.pt", pickle.dumps("no tensors"))


def read_torch_file_of(path, content):
    path.write_bytes(content)
    return read_torch_file(path, trust=False)


def test_tensors_of_another_network(tiny):
    weights = read_torch_file(tiny, trust=False)
    del weights["sam.image_encoder.neck.0.weight"]
    with pytest.raises(BenchError, match=r"must have the tensors of Segment Anything's ViT.*neck"):
        load_sam(weights)
    del weights["sam.image_encoder.pos_embed"]
    with pytest.raises(BenchError, match="pos_embed"):
        load_sam(weights)


def test_mobile_sam_is_named(tiny):
    weights = read_torch_file(tiny, trust=False)
    weights["sam.image_encoder.patch_embed.seq.0.c.weight"] = torch.zeros(32, 3, 3, 3)
    with pytest.raises(BenchError, match=r"received ViT-T, which needs the package MobileSAM"):
        load_sam(weights)


@pytest.mark.parametrize("layout", ["segment_anything", "micro_sam"])
def test_a_file_of_vit_b_in_the_published_layouts(tmp_path, layout):
    """All tensors of ViT-B with its own shapes; one value each, as they are not computed with."""
    with torch.device("meta"):
        shapes = sam_model_registry["vit_b"]().state_dict()
    state = {name: torch.zeros(1).expand(tensor.shape) for name, tensor in shapes.items()}
    content = state
    if layout == "micro_sam":
        content = {"model_state": {f"sam.{name}": tensor for name, tensor in state.items()}}
    torch.save(content, tmp_path / "vit_b.pt")
    weights = read_torch_file(tmp_path / "vit_b.pt", trust=False)
    assert {name: tensor.shape for name, tensor in weights.items()} == {
        f"sam.{name}": tensor.shape for name, tensor in shapes.items()
    }
    # A tensor of ViT-L's in between: one line says so.
    weights["sam.image_encoder.blocks.3.norm1.weight"] = torch.zeros(1024)
    with pytest.raises(BenchError, match=r"received others \(size mismatch .*1024"):
        load_sam(weights)


def test_the_table_says_what_micro_sam_says(monkeypatch, tmp_path):
    from micro_sam.util import models

    monkeypatch.setenv("MICROSAM_CACHEDIR", str(tmp_path))
    theirs = models()
    assert cache_folder() == theirs.abspath
    for name, files in PUBLISHED.items():
        assert files[0].name == name
        assert (len(files) == 2) == (f"{name}_decoder" in theirs.registry)
        for file in files:
            assert theirs.registry[file.name] == f"xxh128:{file.digest}"
            assert theirs.urls[file.name] == file.address


def test_offline_the_file_and_its_place_are_named(offline):
    with pytest.raises(BenchError) as error:
        read_published("vit_b_em_organelles")
    message = str(error.value)
    assert "\n" not in message
    for part in (
        "vit_b_em_organelles",
        "noisy-ox/1.2/files/vit_b.pt",
        "f3bf2ed83d691456bae2c3f9a05fb438",
        f"put it at {offline / 'vit_b_em_organelles'}",
        "source=FILE",
    ):
        assert part in message
    assert not (offline / "vit_b_em_organelles").exists()


def test_a_file_in_the_cache_is_taken_and_not_fetched(tiny, offline):
    offline.mkdir(parents=True)
    (offline / "mine").write_bytes(tiny.read_bytes())
    digest = pooch.file_hash(str(tiny), alg="xxh128")
    table = {"mine": (PublishedFile("mine", CLOSED, digest),)}
    assert read_published("mine", table).keys() >= {"sam.image_encoder.pos_embed"}


def test_a_wrong_hash_is_named_and_the_file_stays(offline):
    offline.mkdir(parents=True)
    path = offline / "vit_b"
    path.write_bytes(b"other")
    found = pooch.file_hash(str(path), alg="xxh128")
    with pytest.raises(BenchError, match=f"xxh128 {PUBLISHED['vit_b'][0].digest}, it has {found}"):
        read_published("vit_b")
    assert path.read_bytes() == b"other"


@pytest.mark.parametrize(
    ("name", "message"),
    [("vit_t_em_organelles", "MobileSAM"), ("vit_x", "unknown SAM 'vit_x': choose one of vit_b,")],
)
def test_models_that_cannot_be_had(name, message):
    with pytest.raises(BenchError, match=message):
        read_published(name)
