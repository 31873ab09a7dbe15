"""detector_sam from its detector to pseudo-masks; and what it refuses."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import torch

from bench.config.data import PrepareConfig
from bench.config.detection import DetectConfig, PseudoConfig
from bench.config.running import BenchmarkConfig, SegmentConfig
from bench.config.scoring import EvaluateConfig
from bench.config.training import FinetuneConfig, MicrosamConfig
from bench.dataset.prepared import PreparedDataset
from bench.dataset.pseudo import is_pseudo
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.prediction import open_predictor
from bench.inference.sam import prompts
from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.windows import Mask
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.models.checkpoint import load_checkpoint, load_info, save_checkpoint
from bench.models.detection import fcos
from bench.models.sam import write_tiny_sam
from bench.steps import pseudo as pseudo_step
from bench.steps.benchmark import benchmark
from bench.steps.detect import detect
from bench.steps.detection.detector_sam import are_right, choose_sure
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.microsam import microsam
from bench.steps.pseudo import pseudo
from bench.steps.segment import segment
from bench.tracking.unlisted import find_pseudo

CPU = Compute(torch.device("cpu"), "fp32")
DETECTOR = {
    "features": 8,
    "patch_px": 64,
    "batch_size": 2,
    "tile_px": 48,
    "halo_px": 8,
    "iterations": 40,
    "epoch_iterations": 40,
    "lr": 5e-3,
    "device": "cpu",
}


@pytest.fixture(scope="module")
def own(make_store, tmp_path_factory):
    """A store for all of this file."""
    store = make_store(tmp_path_factory.mktemp("prompted") / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        yield store


@pytest.fixture(scope="module")
def folder(tiny_tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prompted")
    config = PrepareConfig(input=str(tiny_tree), pixel_size_nm=5.0)
    write_prepared(read_input(config), folder / "prepared")
    write_tiny_sam(folder / "tiny.pt", image_px=64, decoder_features=0)
    return folder


@pytest.fixture(scope="module")
def detector(own, folder):
    """Id of a training that learned something."""
    return detect(DetectConfig(dataset=str(folder / "prepared"), **DETECTOR), own)


@pytest.fixture(scope="module")
def base(folder):
    return MicrosamConfig(
        dataset=str(folder / "prepared"),
        source=str(folder / "tiny.pt"),
        mode="detector",
        tile_px=48,
        halo_px=8,
        min_area_px=1,
        max_area_px=10_000,
        sure_precision=0.0,
        device="cpu",
    )


@pytest.fixture(scope="module")
def made(own, base, detector):
    return microsam(base, own)


@pytest.fixture(scope="module")
def written(own, base, made, folder, tiny_tree):
    """Id of the run that made pseudo-masks of the test sections, and their folder."""
    config = PseudoConfig(
        run_id=made, input=str(tiny_tree / "test" / "raw"), pixel_size_nm=5.0,
        output=str(folder / "pseudo"), device="cpu",
    )  # fmt: skip
    return pseudo(config, own), config


@pytest.fixture
def opened(own, monkeypatch):
    """The store, as commands open it by themselves."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", own.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", own.experiment_id)
    return own


def checkpoint(store, run_id):
    return Path(store.client.get_run(run_id).info.artifact_uri) / "checkpoint"


def test_it_is_a_model_like_any_other(opened, base, made, detector, tmp_path, tiny_tree):
    own = opened
    run = own.client.get_run(made)
    assert run.data.tags["bench.method"] == "detector_sam"
    assert {"val/dice", "val/instance_f1", "best/dice"} <= run.data.metrics.keys()
    best = checkpoint(own, made) / "best.safetensors"
    info = load_info(best)
    assert info.architecture == "detector_sam"
    tried = pd.read_csv(Path(run.info.artifact_uri) / "thresholds.csv")
    chosen = tried.loc[tried.instance_f1.eq(tried.instance_f1.max())]
    thresholds = ["score_thresh", "nms_thresh", "iou_thresh"]
    assert tuple(info.inference[name] for name in thresholds) in {
        tuple(row) for row in chosen[thresholds].to_numpy().tolist()
    }
    # The best row is what the model then scores on the same sections.
    assert run.data.metrics["val/instance_f1"] == pytest.approx(tried.instance_f1.max())
    predict, _ = open_predictor(best, CPU, "mitochondria")
    raw = np.random.default_rng(0).integers(0, 255, (64, 80)).astype(np.uint8)
    assert predict(raw, 5.0).instances.shape == raw.shape
    assert predict(0 * raw, None).instances.shape == raw.shape
    # The newest detector was found; named, it is the same run.
    assert microsam(replace(base, detector=f"runs:/{detector}", iterations=9), own) == made
    scored = evaluate(
        EvaluateConfig(dataset=base.dataset, run_id=made, device="cpu", split="test"), own
    )
    assert "test/instance_f1" in own.client.get_run(scored).data.metrics
    segmented = SegmentConfig(
        input=str(tiny_tree / "test" / "raw"), structure="mito", run_id=scored,
        output=str(tmp_path / "segmented"), pixel_size_nm=5.0, device="cpu",
    )  # fmt: skip
    segment(segmented)
    assert any((tmp_path / "segmented").rglob("*.tif*"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A dataset whose sections are larger than a window of interest, and brighter outside of it."""
    folder = tmp_path_factory.mktemp("wide")
    root = folder / "tree"
    y, x = np.mgrid[:540, :600]
    for number, split in enumerate(("train", "val", "test")):
        rng = np.random.default_rng(number)
        discs = np.zeros(y.shape, bool)
        for row, column in rng.permutation([(r, c) for r in range(5) for c in range(6)])[:12]:
            discs |= (y - 90 * row - 40) ** 2 + (x - 80 * column - 40) ** 2 <= 11**2
        raw = 120 + rng.normal(0, 8, y.shape) - 70 * discs + 60 * (x > 500)
        for name, pixels in (("raw", raw.clip(0, 255)), ("mitochondria", 255 * discs)):
            (root / split / name).mkdir(parents=True)
            tifffile.imwrite(root / split / name / "s.tif", pixels.astype(np.uint8))
    config = PrepareConfig(input=str(root), pixel_size_nm=5.0)
    write_prepared(read_input(config), folder / "prepared")
    return folder / "prepared"


def test_validation_sees_and_scores_what_an_evaluation_does(
    own, base, detector, wide, tmp_path, monkeypatch
):
    """Every pixel that detector and SAM are fed, every prompt, and the scores that come of them."""
    network, info = load_checkpoint(checkpoint(own, detector) / "best.safetensors")
    boxes = tmp_path / "detector.safetensors"
    save_checkpoint(boxes, network, replace(info, tile_px=200, halo_px=30))
    seen = {"detector": set(), "encoder": set(), "prompts": set()}

    def digest(array):
        return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()

    def watch(where, name, kind, take):
        original = getattr(where, name)

        def watched(*arguments, **named):
            seen[kind].add(digest(take(*arguments, **named)))
            return original(*arguments, **named)

        monkeypatch.setattr(where, name, watched)

    watch(fcos.Fcos, "find", "detector", lambda self, images: images.numpy())
    watch(KeptEncoder, "embed", "encoder", lambda self, window: window)
    config = replace(base, dataset=str(wide), detector=str(boxes), tile_px=180, halo_px=38)
    config = replace(config, min_area_px=None, max_area_px=None)
    original = prompts.prompt_window

    def prompt(network, embedding, given, **others):
        seen["prompts"] |= {digest(box) for box in given.boxes}
        return original(network, embedding, given, **others)

    monkeypatch.setattr(prompts, "prompt_window", prompt)
    made = microsam(config, own)
    while_made = {kind: set(of_kind) for kind, of_kind in seen.items()}
    for of_kind in seen.values():
        of_kind.clear()
    scored = evaluate(EvaluateConfig(dataset=str(wide), run_id=made, device="cpu"), own)
    assert len(seen["prompts"]) > 5
    assert seen["detector"] == while_made["detector"]
    assert seen["encoder"] <= while_made["encoder"]
    assert seen["prompts"] <= while_made["prompts"]
    ours, theirs = (own.client.get_run(run).data.metrics for run in (made, scored))
    for metric in ("val/dice", "val/instance_f1"):
        assert ours[metric] == theirs[metric]


def test_a_benchmark_trains_the_detector_and_has_both_rows(opened, base, folder):
    config = BenchmarkConfig(
        dataset=base.dataset,
        methods="detector_sam,microsam_zero_shot",
        structures="mito",
        detect=",".join(f"{k}={v}" for k, v in DETECTOR.items() if k != "device"),
        microsam=f"source={base.source},tile_px=48,halo_px=8,min_area_px=1,points_per_side=2",
        output=str(folder / "results"),
        optimize=False,
        device="cpu",
    )
    run_id = benchmark(config)
    metrics = opened.client.get_run(run_id).data.metrics
    assert metrics["work/cells_failed"] == 0
    text = (folder / "results" / "benchmark.md").read_text()
    assert "Detector + micro-SAM" in text
    assert "micro-SAM zero-shot" in text


def test_a_mask_is_right_once():
    truth = np.zeros((20, 20), int)
    truth[2:8, 2:8], truth[10:18, 10:18] = 1, 2
    places = [(2, 2, 6, 6), (3, 2, 6, 6), (10, 10, 8, 3), (10, 10, 8, 5)]
    masks = [Mask.pack(np.ones((h, w), bool), y, x, 0.9) for y, x, h, w in places]
    # The second is the first object again, the third less than half of the other one.
    assert are_right(masks, truth).tolist() == [True, False, False, True]


def test_the_most_objects_of_the_precision_are_sure():
    scores, expected = np.array([0.9, 0.8, 0.6, 0.5]), np.array([0.9, 0.9, 0.5, 0.9])
    right = np.array([True, True, False, True])
    chosen = choose_sure(scores, expected, right, 1.0)
    kept = (scores >= chosen["sure_score_thresh"]) & (expected >= chosen["sure_iou_thresh"])
    assert kept.tolist() == [True, True, False, True]
    assert chosen["sure_precision"] == 1
    assert choose_sure(scores, expected, right, 0.7)["sure_precision"] == 0.75
    # Where no thresholds are enough, the best there are.
    assert choose_sure(scores, expected, ~right, 0.9)["sure_precision"] < 0.9
    assert choose_sure(scores[:0], expected[:0], right[:0], 0.9)["sure_score_thresh"] == 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"detector": "nowhere.safetensors"}, r"detector must be runs:/ID .*'nowhere"),
        ({"structure": "vesicles"}, r"boxes of vesicles are found by a detector, the store has no"),
        ({"mode": "zero_shot", "detector": "x"}, r"with mode=detector, received mode=zero_shot"),
        ({"method": "microsam_zero_shot"}, r"made with mode=zero_shot, received mode=detector"),
    ],
)
def test_what_does_not_fit_is_one_line(own, base, detector, changed, message):
    with pytest.raises(BenchError, match=message) as raised:
        microsam(replace(base, **changed), own)
    assert "\n" not in str(raised.value)


def test_other_models_are_no_detectors(own, base, made, two_models, detector):
    with pytest.raises(BenchError, match=r"boxes are found by a detector, detector .* a unet2d"):
        microsam(replace(base, detector=str(two_models[0])), own)
    other = replace(base, structure="vesicles", detector=f"runs:/{detector}")
    with pytest.raises(BenchError, match=r"finds mitochondria, received structure=vesicles"):
        microsam(other, own)
    # Nor is a detector a model that segments, or a detector with a SAM a SAM.
    boxes = str(checkpoint(own, detector) / "best.safetensors")
    with pytest.raises(BenchError, match=r"a model must segment, fcos_small finds boxes"):
        open_predictor(Path(boxes), CPU, "mitochondria")
    with pytest.raises(BenchError, match=r"microsam starts from a SAM, source .* a detector_sam"):
        microsam(replace(base, mode="zero_shot", source=f"runs:/{made}"), own)


def test_pseudo_masks_are_a_dataset_to_train_on(own, written, made, base):
    run_id, config = written
    dataset = PreparedDataset.open(config.output)
    dataset.verify()
    assert is_pseudo(dataset)
    origin = dataset.manifest["pseudo"]
    assert dataset.manifest["origin"] == "pseudo"
    assert (origin["model_run"], origin["structure"]) == (made, "mitochondria")
    assert origin["dataset"] == PreparedDataset.open(base.dataset).content_hash
    assert 0 < origin["kept"] <= origin["found"]
    metrics = own.client.get_run(run_id).data.metrics
    assert metrics["pseudo/kept"] == origin["kept"]
    assert find_pseudo(own, run_id) == (Path(config.output).absolute(), dataset.content_hash)
    objects = pd.read_csv(Path(config.output) / "objects.csv")
    assert (len(objects), objects.kept.sum()) == (origin["found"], origin["kept"])
    sure = objects[objects.kept]
    assert (sure.score >= origin["score_thresh"] - 1e-3).all()
    assert (sure.predicted_iou >= origin["iou_thresh"] - 1e-3).all()
    for name in dataset.sections("train"):
        labels = dataset.read_labels(name, "mitochondria")
        ignore = dataset.read(name, "ignore/mitochondria")
        assert set(np.unique(labels)) - {0} == set(sure[sure.section == name].id)
        assert not (ignore.astype(bool) & (labels > 0)).any()
    # The same command does nothing.
    assert pseudo(config, own) == run_id


def test_pseudo_masks_are_neither_validation_nor_test(own, written, tiny_tree):
    _, config = written
    dataset = PreparedDataset.open(config.output)
    for split in ("val", "test"):
        with pytest.raises(BenchError, match=rf"nothing is chosen or scored by them.*{split}"):
            dataset.sections(split)
    with pytest.raises(BenchError, match=r"received the pseudo-masks .*pseudo"):
        finetune(FinetuneConfig(dataset=config.output, source="random", device="cpu"), own)


class StopError(Exception):
    pass


def test_stopped_pseudo_masks_go_on_and_leave_nothing_half(own, written, tmp_path, monkeypatch):
    _, finished = written
    config = replace(finished, output=str(tmp_path / "again"))
    original, calls = pseudo_step.find_sure_objects, []

    def stop(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise StopError
        return original(*arguments)

    monkeypatch.setattr(pseudo_step, "find_sure_objects", stop)
    with pytest.raises(StopError):
        pseudo(config, own)
    assert not (tmp_path / "again").exists()
    calls[:] = [1] * 5
    run_id = pseudo(config, own)
    # One of three images was there.
    assert len(calls) == 5 + 2
    again, before = (PreparedDataset.open(each.output) for each in (config, finished))
    assert again.content_hash == before.content_hash
    assert find_pseudo(own, run_id)[0] == Path(config.output)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]
    with pytest.raises(BenchError, match=r"output must be free, received .*again"):
        pseudo(replace(config, pixel_size_nm=5.5), own)


def test_what_pseudo_refuses(own, written, detector, base, tmp_path):
    _, config = written
    config = replace(config, output=str(tmp_path / "other"))
    with pytest.raises(BenchError, match=r"made by a model, received none: give run_id"):
        pseudo(replace(config, run_id="auto"), own)
    with pytest.raises(BenchError, match=r"the run must have trained a model, .* is detect"):
        pseudo(replace(config, run_id=detector), own)
    with pytest.raises(BenchError, match=r"images without labels, .* has none: give input"):
        pseudo(replace(config, input="none", dataset=base.dataset), own)
    assert list(tmp_path.iterdir()) == []
