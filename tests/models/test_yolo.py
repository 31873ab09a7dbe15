"""YOLO of ultralytics behind our interface: losses, boxes, files, and what its import leaves alone.

CI does not have ultralytics, which is AGPL-3.0: install it as requirements-yolo.txt says.
"""

import importlib.metadata
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.inference.detection.boxes import detect_boxes
from bench.inference.device import Compute
from bench.metrics.detection import box_precision, label_boxes
from bench.models.checkpoint import ModelInfo, build_model, load_checkpoint, save_checkpoint
from bench.models.networks import NETWORKS
from bench.models.outside.packages import has_packages
from bench.training.augment import Augmentation
from bench.training.box_patches import BoxPatchFeed, detecting
from bench.training.loop import LoopSettings, make_trainee, train_batch
from bench.training.patches import PatchSettings

NEEDS_YOLO = pytest.mark.skipif(
    not has_packages(NETWORKS["yolo11n"]),
    reason="ultralytics is not installed, as in CI: pip install --no-deps -r requirements-yolo.txt",
)
CPU = Compute(torch.device("cpu"), "fp32")
NANO = {"family": "11/yolo11", "scale": "n"}
INFO = ModelInfo("yolo11n", NANO, ("boxes",), "", None, "section", 64, 32)


def draw_squares(seed):
    """A section (128, 128) with bright squares, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((128, 128), np.uint8)
    for number in range(1, 7):
        y, x, side = *rng.integers(0, 100, 2), rng.integers(14, 28)
        if not labels[y : y + side, x : x + side].any():
            labels[y : y + side, x : x + side] = number
    return rng.normal(100, 5, labels.shape) + 80 * (labels > 0), labels


@pytest.fixture(scope="module")
def learned():
    """A network that learned squares, and the losses of its training."""
    torch.manual_seed(0)
    network = build_model("yolo11n", NANO)
    settings = LoopSettings(150, 150, 150, 3e-3, "cosine", 0.5, 10, "adamw")
    trainee = make_trainee(network, settings, CPU)
    patches = PatchSettings(96, 4, 0.8, Augmentation(True, True, 0.0, 0.0), 0)
    feed = BoxPatchFeed([draw_squares(seed) for seed in range(8)], patches)
    objective = detecting(network, feed, CPU)
    losses = [train_batch(trainee, objective, settings, n)["loss"] for n in range(150)]
    return network.eval(), losses


@NEEDS_YOLO
def test_it_learns_to_find_bright_squares(learned):
    network, losses = learned
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    # Of sections that it has not seen, in windows.
    sections = [draw_squares(seed) for seed in (8, 9)]
    found = [detect_boxes(network, INFO, raw, None, CPU) for raw, _ in sections]
    truth = [label_boxes(labels) for _, labels in sections]
    assert box_precision(list(zip(found, truth, strict=True)), 0.5) > 0.8


@NEEDS_YOLO
@pytest.mark.parametrize("shape", [(96, 128), (90, 70), (32, 32)])
def test_boxes_and_scores_are_those_of_ultralytics(learned, shape):
    from ultralytics.utils.nms import non_max_suppression

    network, _ = learned
    raw, _ = draw_squares(11)
    image = torch.from_numpy((raw - raw.mean()) / raw.std()).float()[None, None]
    image = image[..., : shape[0], : shape[1]]
    rows, columns = (-side % 32 for side in shape)
    padded = torch.nn.functional.pad(image, (0, columns, 0, rows))
    with torch.inference_mode():
        ((boxes, scores),) = network.find(image)
        decoded = network.network(padded.expand(-1, 3, -1, -1))
    (theirs,) = non_max_suppression(decoded, 0.05, 0.6, max_det=500, nc=1)
    assert len(boxes) == len(theirs)
    limits = torch.tensor([shape[1], shape[0]] * 2)
    inside = theirs[:, :4].clamp(min=0).minimum(limits)
    torch.testing.assert_close(scores, theirs[:, 4])
    torch.testing.assert_close(boxes, inside, atol=1e-3, rtol=0)


@NEEDS_YOLO
def test_the_losses_are_those_of_ultralytics():
    """Of a batch in which one patch has no object; theirs is multiplied by the patches."""
    network = build_model("yolo11n", NANO).train()
    images = torch.randn(2, 1, 64, 96, generator=torch.Generator().manual_seed(0))
    boxes = [torch.tensor([[10.0, 20, 50, 44], [4, 4, 20, 20]]), torch.zeros(0, 4)]
    ours = network.measure(images, boxes)
    batch = {
        "batch_idx": torch.zeros(2),
        "cls": torch.zeros(2),
        "bboxes": torch.tensor(
            [[30 / 96, 32 / 64, 40 / 96, 24 / 64], [0.125, 0.1875, 1 / 6, 0.25]]
        ),
        "img": images.expand(-1, 3, -1, -1),
    }
    theirs, _ = network.network.loss(batch)
    assert list(ours) == ["box", "cls", "dfl"]
    torch.testing.assert_close(2 * torch.stack(list(ours.values())), theirs)


@NEEDS_YOLO
def test_bf16_finds_the_same_places(learned):
    network, _ = learned
    raw, _ = draw_squares(8)
    fp32, bf16 = (
        detect_boxes(network, INFO, raw, None, replace(CPU, precision=precision))
        for precision in ("fp32", "bf16")
    )
    sure = fp32.take(fp32.scores > 0.7)
    assert len(sure.boxes)
    for box in sure.boxes:
        assert np.abs(bf16.boxes - box).max(axis=1).min() < 1.5


@NEEDS_YOLO
def test_a_checkpoint_is_tensors_by_name(learned, tmp_path):
    network, _ = learned
    save_checkpoint(tmp_path / "yolo.safetensors", network, INFO)
    again, _ = load_checkpoint(tmp_path / "yolo.safetensors")
    raw, _ = draw_squares(8)
    ours, theirs = (detect_boxes(each, INFO, raw, None, CPU).boxes for each in (network, again))
    # Convolutions differ in the last digits by the layout of their weights.
    np.testing.assert_allclose(ours, theirs, atol=0.01)


@NEEDS_YOLO
def test_all_rows_build():
    sizes = {"yolov8n": 3.0, "yolov8s": 11.1, "yolo11n": 2.6, "yolo11s": 9.4}
    for name, millions in sizes.items():
        network = build_model(name, NETWORKS[name].arguments(None))
        count = sum(parameter.numel() for parameter in network.parameters())
        assert count / 1e6 == pytest.approx(millions, abs=0.06)


@NEEDS_YOLO
def test_one_patch_of_one_place_is_one_line():
    network = build_model("yolo11n", NANO).train()
    with pytest.raises(BenchError, match=r"received a batch of 1 of 32 x 32 px: raise batch_size"):
        network.measure(torch.zeros(1, 1, 32, 32), [torch.zeros(0, 4)])


@NEEDS_YOLO
def test_a_published_file_is_read_and_not_run(tmp_path):
    """As ultralytics writes it: the network itself, pickled in fp16, of 80 classes."""
    from bench.models.outside.ultralytics import import_ultralytics

    package = import_ultralytics()
    theirs = package.detection_model(package.describe("11/yolo11", "n"), ch=3, verbose=False)
    path = tmp_path / "yolo11n.pt"
    torch.save({"model": theirs.half(), "ema": None, "train_args": {"lr0": 0.01}}, path)
    network = build_model("yolo11n", NANO)
    given, ours = network.read_published(path), network.state_dict()
    assert given.keys() == ours.keys()
    others = {name for name, tensor in given.items() if tensor.shape != ours[name].shape}
    assert {".".join(name.split(".")[:4]) for name in others} == {"network.model.23.cv3"}
    first = "network.model.0.conv.weight"
    assert torch.equal(given[first], theirs.state_dict()["model.0.conv.weight"].float())
    torch.save({"model": print}, path)
    with pytest.raises(BenchError, match=r"names builtins.print: do not use it"):
        network.read_published(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(BenchError, match=r"must hold a network of ultralytics"):
        network.read_published(path)


ALONE = """
import os, socket, warnings
import numpy as np, torch, torchvision

def refuse(*arguments, **named):
    raise AssertionError(f"the network was touched: {arguments}")

socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
socket.socket.connect = socket.socket.sendto = refuse
from bench.models.checkpoint import build_model
def state():
    return dict(os.environ), np.get_printoptions(), str(warnings.filters), torch.save
before = state()
network = build_model("yolo11n", {"family": "11/yolo11", "scale": "n"}).train()
sum(network.measure(torch.zeros(2, 1, 64, 64), 2 * [torch.zeros(0, 4)]).values()).backward()
network.eval().find(torch.zeros(1, 1, 64, 64))
assert state() == before
print("done")
"""


@NEEDS_YOLO
def test_nothing_is_written_fetched_or_changed(python_environment, tmp_path):
    home, place = tmp_path / "home", tmp_path / "place"
    home.mkdir()
    place.mkdir()
    hidden = ("OMP_NUM_THREADS", "YOLO_OFFLINE", "YOLO_CONFIG_DIR", "XDG_CONFIG_HOME")
    environment = {k: v for k, v in python_environment.items() if k not in hidden}
    package = importlib.metadata.distribution("ultralytics").locate_file("")
    environment["PYTHONPATH"] += f"{os.pathsep}{package}"
    ended = subprocess.run(
        [sys.executable, "-c", ALONE],
        env={**environment, "HOME": str(home)},
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
    assert [*home.rglob("*"), *place.rglob("*")] == []


def test_without_the_package_a_line_says_how_to_get_it(without_package):
    without_package("ultralytics")
    message = (
        r"needs the package ultralytics, .* \(pip install --no-deps -r requirements-yolo.txt; its "
        r"licence is AGPL-3.0\)"
    )
    with pytest.raises(BenchError, match=message) as raised:
        build_model("yolo11n", NANO)
    assert "\n" not in str(raised.value)


def test_without_what_the_package_needs_a_line_says_so(monkeypatch):
    from bench.models.outside import ultralytics

    monkeypatch.setitem(sys.modules, "ultralytics", None)
    ultralytics.import_ultralytics.cache_clear()
    with pytest.raises(BenchError, match=r"cannot be imported \(.*ultralytics.*\): pip install"):
        ultralytics.import_ultralytics()
    ultralytics.import_ultralytics.cache_clear()
