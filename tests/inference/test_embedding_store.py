import errno
import os
import subprocess
import sys
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.inference.sam import embedding_store
from bench.inference.sam.embedding_store import EmbeddingStore, open_embeddings
from bench.inference.sam.embeddings import RESIZED_FLOAT, KeptEncoder, hash_encoder
from bench.inference.sam.masks import MaskSettings, segment_section
from bench.models.sam import load_sam, write_tiny_sam
from bench.models.sam_weights import read_torch_file

AMG = MaskSettings("amg", 3, 0.0, 0.0, 0.7, 0.5, 0.5, 0.5, 20, None)
# Keeps entries without end, as a second process does beside this one.
WRITER = """
import sys, torch
from pathlib import Path
from bench.inference.sam.embedding_store import EmbeddingStore
store = EmbeddingStore(Path(sys.argv[1]), 10**6)
print("ready", flush=True)
for index in range(int(sys.argv[2])):
    store.keep(f"key{index % 40}", torch.full((1, 256, 10, 10), float(index % 40)))
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "tiny.pt"
    write_tiny_sam(path, 1, image_px=64, decoder_features=8)
    return path


@pytest.fixture
def network(file):
    return load_sam(read_torch_file(file, trust=False))[0].eval()


@pytest.fixture(scope="module")
def raw():
    return np.random.default_rng(0).normal(1000, 300, (70, 90)).astype(np.float32)


def tensor(value, edge=10):
    return torch.full((1, 256, edge, edge), float(value))


@pytest.mark.parametrize("segmentation", ["amg", "ais"])
def test_results_with_and_without_are_the_same_bits(tmp_path, network, raw, segmentation):
    settings = replace(AMG, segmentation=segmentation)
    computed = []
    handle = network.sam.image_encoder.register_forward_hook(lambda *_: computed.append(1))
    store = EmbeddingStore(tmp_path / "kept", 10**9)
    results = []
    with torch.inference_mode():
        for kept in (None, store, store):
            encoder = KeptEncoder(network, kept)
            results.append(segment_section(encoder, raw, settings, tile_px=48, halo_px=8))
            results.append(len(computed))
    handle.remove()
    (plain, first, filling, second, filled, third) = results
    assert plain[0].any()
    for other in (filling, filled):
        assert all(np.array_equal(a, b) for a, b in zip(plain, other, strict=True))
    # Four windows, embedded by the first two and found by the third.
    assert (first, second, third) == (4, 8, 8)
    assert len(list((tmp_path / "kept").iterdir())) == 4


@pytest.mark.parametrize("segmentation", ["amg", "ais"])
def test_embeddings_of_a_large_section_are_not_all_in_memory(tmp_path, network, segmentation):
    """The one that is decoded, and the one before it, which micro_sam's generator still holds."""
    raw = np.random.default_rng(0).normal(1000, 300, (90, 90)).astype(np.float32)
    settings = replace(AMG, segmentation=segmentation, points_per_side=1)
    encoder = KeptEncoder(network, EmbeddingStore(tmp_path, 10**9))
    made: list[weakref.ref] = []
    most = 0
    original = encoder.embed

    def embed(window):
        nonlocal most
        most = max(most, sum(each() is not None for each in made))
        found = original(window)
        made.append(weakref.ref(found["features"]))
        return found

    encoder.embed = embed
    with torch.inference_mode():
        segment_section(encoder, raw, settings, tile_px=24, halo_px=4)
    assert len(made) == 16
    assert most <= 2


def test_what_shares_an_encoder_shares_embeddings(tmp_path, network, file):
    store = EmbeddingStore(tmp_path, 10**9)
    window = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    KeptEncoder(network, store).embed(window)
    trained, _ = load_sam(read_torch_file(file, trust=False))
    with torch.no_grad():
        trained.sam.mask_decoder.iou_token.weight.add_(1)
    trained.to(memory_format=torch.channels_last)
    assert hash_encoder(trained) == hash_encoder(network)
    KeptEncoder(trained, store).embed(window)
    assert len(list(tmp_path.iterdir())) == 1
    with torch.no_grad():
        trained.sam.image_encoder.neck[0].weight.add_(1)
    assert hash_encoder(trained) != hash_encoder(network)
    KeptEncoder(trained, store).embed(window)
    KeptEncoder(network, store).embed(window[::-1])
    KeptEncoder(network, store).find(window, RESIZED_FLOAT, "fp32", lambda: tensor(1))
    KeptEncoder(network, store).find(window, RESIZED_FLOAT, "bf16", lambda: tensor(2).bfloat16())
    assert len(list(tmp_path.iterdir())) == 5
    found = KeptEncoder(network, store).find(window, RESIZED_FLOAT, "bf16", lambda: tensor(3))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, tensor(2).bfloat16())


def test_the_oldest_used_go_first(tmp_path):
    store = EmbeddingStore(tmp_path, 350_000)
    for index in range(3):
        store.keep(f"key{index}", tensor(index))
        os.utime(tmp_path / f"key{index}.safetensors", (index, index))
    assert torch.equal(store.read("key0"), tensor(0))
    store.keep("key3", tensor(3))
    kept = {path.stem for path in tmp_path.iterdir()}
    assert kept == {"key0", "key2", "key3"}
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 350_000
    store.keep("large", tensor(0, 20))
    assert store.read("large") is None
    assert {path.stem for path in tmp_path.iterdir()} == kept


def test_leftovers_of_killed_writers_are_no_entries_and_go(tmp_path):
    store = EmbeddingStore(tmp_path, 10**6)
    fresh, old = (tmp_path / f".key{n}.safetensors.{n}.tmp" for n in (1, 2))
    for path in (fresh, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    assert store.read("key1") is None
    store.keep("key3", tensor(3))
    assert fresh.exists()
    assert not old.exists()


def test_a_writer_killed_at_any_moment_leaves_whole_entries(tmp_path, python_environment):
    """And two processes on one store do not disturb each other."""
    command = [sys.executable, "-c", WRITER, str(tmp_path), "100000"]
    writer = subprocess.Popen(command, env=python_environment, stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "ready\n"
    store = EmbeddingStore(tmp_path, 10**6)
    deadline = time.monotonic() + 120
    read = 0
    while read < 100 and time.monotonic() < deadline:
        for index in range(40):
            found = store.read(f"key{index}")
            if found is not None:
                read += 1
                assert torch.equal(found, tensor(index))
            elif index % 3 == 0:
                store.keep(f"key{index}", tensor(index))
    writer.kill()
    writer.wait()
    writer.stdout.close()
    assert read >= 100
    for path in tmp_path.glob("*.safetensors"):
        assert torch.equal(store.read(path.stem), tensor(int(path.stem.removeprefix("key"))))
    assert sum(path.stat().st_size for path in tmp_path.glob("key*")) <= 1.2 * 10**6


def test_a_full_disk_is_said_once_and_changes_nothing(tmp_path, network, raw, monkeypatch, caplog):
    def full(tensors, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(embedding_store, "save_file", full)
    store = EmbeddingStore(tmp_path / "kept", 10**9)
    with torch.inference_mode():
        found = segment_section(KeptEncoder(network, store), raw, AMG, tile_px=48, halo_px=8)
        plain = segment_section(KeptEncoder(network, None), raw, AMG, tile_px=48, halo_px=8)
    assert np.array_equal(found[0], plain[0])
    assert list((tmp_path / "kept").iterdir()) == []
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "cannot keep them" in warnings[0]
    assert "none is left" in warnings[0]


def test_a_damaged_entry_is_made_anew(tmp_path, network, caplog):
    store = EmbeddingStore(tmp_path, 10**9)
    window = np.zeros((64, 64), np.uint8)
    expected = KeptEncoder(network, store).embed(window)["features"]
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:1000])
    found = KeptEncoder(network, store).embed(window)["features"]
    assert torch.equal(found, expected)
    assert f"{entry} cannot be read" in caplog.text
    assert torch.equal(store.read(entry.stem), expected)


def test_the_stores_place_and_limit(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BENCH_EMBEDDINGS_GB", raising=False)
    store = open_embeddings()
    assert store.folder == tmp_path / "synapse-bench" / "embeddings"
    assert store.limit_bytes == 10**10
    assert not store.folder.exists()
    monkeypatch.setenv("BENCH_EMBEDDINGS_GB", "0.5")
    assert open_embeddings().limit_bytes == 5 * 10**8
    monkeypatch.setenv("BENCH_EMBEDDINGS_GB", "0")
    assert open_embeddings() is None
    for wrong in ("-1", "many", "nan"):
        monkeypatch.setenv("BENCH_EMBEDDINGS_GB", wrong)
        with pytest.raises(BenchError, match=f"must be the space .* received '{wrong}'"):
            open_embeddings()
