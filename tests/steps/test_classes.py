"""One network that learns several structures, from its training to the images it segments."""

import csv
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import pytest
import tifffile
import torch

from bench.config.data import PrepareConfig
from bench.config.running import BenchmarkConfig, SegmentConfig
from bench.config.scoring import CompareConfig, EvaluateConfig, OptimizeConfig, PromoteConfig
from bench.config.training import DomainAdaptConfig, FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.inference.prediction import foreground_channel
from bench.inference.prediction_file import read_classes
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.models.checkpoint import load_checkpoint, load_info
from bench.steps.benchmark import benchmark
from bench.steps.compare import compare
from bench.steps.domain_adapt import domain_adapt
from bench.steps.evaluate import evaluate
from bench.steps.finetune import finetune
from bench.steps.grid.estimate import Workload
from bench.steps.grid.graph import grid_tasks
from bench.steps.grid.grid import make_grid
from bench.steps.optimize import optimize
from bench.steps.promote import promote
from bench.steps.segment import segment
from bench.steps.table.trainings import read_training
from bench.steps.training.finetune_task import identify_finetune, resolve_finetune
from bench.steps.training.source import fetch_checkpoint
from bench.tracking.queries import fetch_artifact, read_settings
from bench.tracking.store import Store
from bench.training import loop

NAMES = ("mitochondria", "vesicles")


@dataclass(frozen=True)
class Trained:
    """A model of two structures, evaluated for both on two splits.

    Attributes:
        store: Where its runs are.
        dataset: The prepared dataset.
        config: The settings of its training.
        run: The training.
        scored: The evaluations, by structure and split.
    """

    store: Store
    dataset: Path
    config: FinetuneConfig
    run: str
    scored: dict[tuple[str, str], str]

    def tags(self, run_id):
        return self.store.client.get_run(run_id).data.tags

    def metrics(self, run_id):
        return self.store.client.get_run(run_id).data.metrics


@pytest.fixture(scope="module")
def classes(make_store, write_tree, tiny, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("classes")
    tree = write_tree(folder / "tree")
    # Nine pixels of the second section are annotated twice.
    path = tree / "train/vesicles/s1.png"
    mask = imagecodecs.png_decode(path.read_bytes())
    mito = imagecodecs.png_decode((tree / "train/mitochondria/s1.png").read_bytes())
    y, x = np.argwhere(mito)[len(np.argwhere(mito)) // 2]
    mask[y - 1 : y + 2, x - 1 : x + 2] = 255
    path.write_bytes(imagecodecs.png_encode(mask))
    dataset, store = folder / "prepared", make_store(folder / "store")
    write_prepared(read_input(PrepareConfig(input=str(tree), pixel_size_nm=5.0)), dataset)
    longer = tiny | {"features": 8, "iterations": 80, "epoch_iterations": 40}
    config = FinetuneConfig(
        dataset=str(dataset), structures="all", method="scratch_classes", **longer
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
        run = finetune(config)
        common = {"dataset": str(dataset), "device": "cpu"}
        last = evaluate(EvaluateConfig(run_id=run, **common))
        evaluate(EvaluateConfig(method="scratch_classes", structure="all", split="test", **common))
    scored = {
        (each.data.tags["bench.structure"], each.data.tags["bench.split"]): each.info.run_id
        for each in store.client.search_runs([store.experiment_id])
        if each.data.tags["bench.step"] == "evaluate"
    }
    assert last == scored["vesicles", "val"]
    return Trained(store, dataset, config, run, scored)


@pytest.fixture
def use_classes(classes, use_store):
    use_store(classes.store)
    return classes


def test_one_training_learns_both(classes):
    assert set(classes.scored) == {(name, split) for name in NAMES for split in ("val", "test")}
    tags, metrics = classes.tags(classes.run), classes.metrics(classes.run)
    assert tags["bench.structure"] == "mitochondria+vesicles"
    assert tags["bench.versions"].startswith("augmentation 1, classes 1, ")
    curves = [metrics[f"val/dice_{name}"] for name in NAMES]
    assert metrics["val/dice"] == pytest.approx(np.mean(curves))
    for (name, split), run in classes.scored.items():
        assert classes.metrics(run)[f"{split}/dice"] > 0.75, (name, split)
        assert classes.tags(run)["bench.trained_run"] == classes.run


def test_weights_and_overlaps_are_said(classes):
    dataset = PreparedDataset.open(classes.dataset)
    labels = [
        [dataset.read_labels(name, each) != 0 for each in NAMES]
        for name in dataset.sections("train")
    ]
    shared = sum(int((first & second).sum()) for first, second in labels)
    assert shared > 0
    assert classes.tags(classes.run)["bench.warning"].startswith(
        f"{shared} px of the training sections are annotated as mitochondria and as vesicles"
    )
    counts = np.array(
        [
            sum((~(first | second)).sum() for first, second in labels),
            sum(first.sum() for first, _ in labels),
            sum((second & ~first).sum() for first, second in labels),
        ]
    )
    settings = read_settings(classes.store, classes.run)
    wanted = np.sqrt(counts.max() / counts).round(2)
    np.testing.assert_allclose([float(x) for x in settings["class_weights"].split(",")], wanted)
    assert settings["class_weights_origin"].startswith("From the frequencies in 3 training")
    assert settings["loss"] == "ce_dice"


def test_what_is_scored_is_the_softmax(classes):
    weights = fetch_checkpoint(classes.store, classes.run)
    network, info = load_checkpoint(weights)
    assert info.outputs == ("background", *NAMES)
    dataset = PreparedDataset.open(classes.dataset)
    name = dataset.sections("val")[0]
    raw = dataset.read_raw(name).astype(np.float32)
    padded = np.pad((raw - raw.mean()) / raw.std(), 16, mode="reflect")
    stored = {}
    for structure in NAMES:
        path = fetch_artifact(classes.store, classes.scored[structure, "val"], "predictions.h5")
        with h5py.File(path) as file:
            stored[structure] = np.asarray(file[f"{name}/identity"])
            levels = np.asarray(file[f"{name}/identity.classes"])
        chosen = read_classes(path, name, ["identity"])
    tile, halo = info.tile_px, info.halo_px
    assert (tile, halo) == (32, 16)
    expected = np.zeros((3, 64, 64), np.float32)
    with torch.inference_mode(), choose_compute("cpu", "auto").autocast():
        for y in (0, 32):
            for x in (0, 32):
                window = torch.from_numpy(padded[None, None, y : y + 64, x : x + 64])
                found = network.eval()(window).float().softmax(1)[0, :, 16:48, 16:48]
                expected[:, y : y + 32, x : x + 32] = found
    for number, structure in enumerate(NAMES, start=1):
        # In bf16, where the CPU has it.
        assert np.abs(stored[structure] - 255 * expected[number]).max() <= 4
        np.testing.assert_array_equal(stored[structure], levels[number])
    np.testing.assert_array_equal(chosen, levels.argmax(0))
    assert np.mean(chosen == expected.argmax(0)) > 0.99


def test_all_structures_are_scored_together(classes):
    dataset, pairs = PreparedDataset.open(classes.dataset), []
    path = fetch_artifact(classes.store, classes.scored["vesicles", "test"], "predictions.h5")
    for name in dataset.sections("test"):
        truth = dataset.read_labels(name, "mitochondria") != 0
        truth = truth + 2 * (~truth & (dataset.read_labels(name, "vesicles") != 0))
        pairs.append((truth, read_classes(path, name, ["identity"])))
    truth, found = map(np.concatenate, zip(*pairs, strict=True))
    ious = [
        ((truth == k) & (found == k)).sum() / ((truth == k) | (found == k)).sum() for k in (1, 2)
    ]
    for name in NAMES:
        run = classes.scored[name, "test"]
        assert classes.metrics(run)["test/mean_iou"] == pytest.approx(np.mean(ious))
        with fetch_artifact(classes.store, run, "classes.csv").open() as file:
            rows = list(csv.reader(file))
        assert rows[0][1:] == ["background", *NAMES, "iou"]
        assert [float(row[-1]) for row in rows[2:]] == pytest.approx(ious)
        assert [int(row[3]) for row in rows[1:]] == [
            int(((truth == k) & (found == 2)).sum()) for k in range(3)
        ]


def test_the_network_is_applied_once_for_all_its_structures(classes):
    for split in ("val", "test"):
        first, second = (classes.tags(classes.scored[name, split]) for name in NAMES)
        assert "bench.predict.seconds" in first
        assert "bench.predict.seconds" not in second
    files = [
        h5py.File(fetch_artifact(classes.store, classes.scored[name, "val"], "predictions.h5"))
        for name in NAMES
    ]
    assert [file.attrs["structure"] for file in files] == list(NAMES)
    for section in files[0]:
        first, second = (np.asarray(file[f"{section}/identity.classes"]) for file in files)
        np.testing.assert_array_equal(first, second)


def test_it_is_found_by_method_and_any_of_its_structures(use_classes):
    found = evaluate(
        EvaluateConfig(
            dataset=str(use_classes.dataset),
            method="scratch_classes",
            structure="mito",
            split="test",
            device="cpu",
        )
    )
    assert found == use_classes.scored["mitochondria", "test"]


def test_its_row_stands_in_the_table_of_each_structure(use_classes, tmp_path):
    compare(CompareConfig(dataset=str(use_classes.dataset), output=str(tmp_path)))
    with (tmp_path / "benchmark.csv").open() as file:
        rows = {row["structure"]: row for row in csv.DictReader(file)}
    assert set(rows) == set(NAMES)
    for structure, row in rows.items():
        assert row["label"] == "From scratch, classes"
        assert (row["reason"], row["seeds"]) == ("", "0")
        scored = use_classes.metrics(use_classes.scored[structure, "test"])
        assert float(row["dice"]) == pytest.approx(scored["test/dice"])
        assert float(row["mean_iou"]) == pytest.approx(scored["test/mean_iou"])
    assert "Mean IoU" in (tmp_path / "benchmark.md").read_text()
    for name in NAMES:
        curve, _ = read_training(use_classes.store, use_classes.scored[name, "test"])
        assert list(curve.x) == [40, 80]
        best = use_classes.metrics(use_classes.run)[f"val/dice_{name}"]
        assert curve.y[-1] == pytest.approx(best)


@pytest.fixture(scope="module")
def promoted(classes, tmp_path_factory):
    """Vesicles of a champion that is the model of classes, and those of its training."""
    folder = tmp_path_factory.mktemp("promoted")
    images = folder / "tree"
    images.mkdir()
    dataset = PreparedDataset.open(classes.dataset)
    for name in dataset.sections("val"):
        tifffile.imwrite(images / f"{name}.tif", dataset.read_raw(name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", classes.store.uri)
        patch.setenv("MLFLOW_EXPERIMENT_ID", classes.store.experiment_id)
        search = optimize(
            OptimizeConfig(
                dataset=str(classes.dataset),
                structure="vesicles",
                min_areas_px="0",
                opening_radii_px="0",
                output=str(folder / "search"),
            )
        )
        promote(PromoteConfig(structure="vesicles", run_id=search))
        common = {"input": str(images), "pixel_size_nm": 5.0, "device": "cpu"}
        segment(SegmentConfig(structure="vesicles", output=str(folder / "champion"), **common))
        segment(
            SegmentConfig(
                run_id=classes.run, structure="vesicles", output=str(folder / "run"), **common
            )
        )
    return folder


def test_a_champion_of_classes_segments_its_structure(classes, promoted):
    dataset = PreparedDataset.open(classes.dataset)
    path = fetch_artifact(classes.store, classes.scored["vesicles", "val"], "predictions.h5")
    for output in ("champion", "run"):
        for name in dataset.sections("val"):
            probability = tifffile.imread(promoted / output / f"probability/{name}.tif")
            with h5py.File(path) as file:
                np.testing.assert_array_equal(probability, file[f"{name}/identity"])
            found = tifffile.imread(promoted / output / f"vesicles/{name}.tif") != 0
            truth = dataset.read_labels(name, "vesicles") != 0
            assert 2 * (found & truth).sum() > 0.7 * (found.sum() + truth.sum())


def test_an_interrupted_training_ends_as_the_undisturbed_one(classes, make_store, tmp_path):
    config = replace(classes.config, checkpoint_iterations=10)
    interrupted, steps, take = make_store(tmp_path / "interrupted"), [], loop.train_batch

    def stop(*arguments):
        steps.append(arguments[-1])
        if len(steps) == 46:
            raise KeyboardInterrupt
        return take(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "train_batch", stop)
        with pytest.raises(KeyboardInterrupt):
            finetune(config, interrupted)
        second = finetune(config, interrupted)
    assert len(steps) == 46 + 40, "it went on at iteration 40"
    assert len(interrupted.client.search_runs([interrupted.experiment_id])) == 1
    for name in ("best", "last"):
        pair = [
            fetch_artifact(store, run, f"checkpoint/{name}.safetensors").read_bytes()
            for store, run in ((classes.store, classes.run), (interrupted, second))
        ]
        assert pair[0] == pair[1]


def test_its_identity_says_the_classes_in_their_order_and_the_weights(use_classes):
    def identify(**changes):
        task = resolve_finetune(replace(use_classes.config, **changes), use_classes.store)
        return identify_finetune(task)

    first = identify()
    assert first.settings["outputs"] == ("background", *NAMES)
    assert first.fingerprint() == use_classes.tags(use_classes.run)["bench.fingerprint"]
    assert identify(structures="mito,vesicles").fingerprint() == first.fingerprint()
    assert identify(structures="auto").fingerprint() == first.fingerprint()
    assert identify(structures="vesicles,mito").fingerprint() != first.fingerprint()
    assert identify(class_weights="1,2,3").settings["class_weights"] == "1,2,3"
    alone = identify(structures="auto", method="scratch")
    assert "class_weights" not in alone.settings
    assert "structures" not in alone.settings


def test_a_model_of_classes_is_a_source(use_classes, tiny):
    short = tiny | {"iterations": 2, "epoch_iterations": 2}
    run = finetune(
        FinetuneConfig(
            dataset=str(use_classes.dataset), source=f"runs:/{use_classes.run}", **short
        ),
        use_classes.store,
    )
    tags = use_classes.tags(run)
    assert tags["bench.reinitialised"] == "out_conv.bias, out_conv.weight"
    assert tags["bench.method"] == "finetuned"
    with pytest.raises(BenchError, match="has the classes background, mitochondria, vesicles"):
        domain_adapt(
            DomainAdaptConfig(
                dataset=str(use_classes.dataset), source=f"runs:/{use_classes.run}", device="cpu"
            ),
            use_classes.store,
        )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"structures": "mito"}, "two structures or more, received structures=mito, which is mito"),
        (
            {"structures": "mito,golgi"},
            "unknown structure 'golgi': choose one of mitochondria",
        ),
        ({"method": "scratch"}, "scratch learns one structure, received structures=all: choose fi"),
        ({"loss": "dice"}, "learns classes, whose loss is ce_dice, received loss=dice: leave it"),
        ({"class_weights": "1,2"}, "must be 3 numbers, of background, mitochondria, vesicles, rec"),
        ({"class_weights": "1,0,2"}, "class_weights must be auto, or positive numbers .* '1,0,2'"),
        ({"class_weights": "1,x,2"}, "class_weights must be auto, or positive numbers .* '1,x,2'"),
        ({"foreground_weight": 3.0}, "foreground_weight is of one structure, received 3 for"),
        (
            {"method": "scratch", "structures": "auto", "class_weights": "1,2"},
            "class_weights=1,2 is of a method of classes, received method=scratch: leave it out",
        ),
        (
            {"method": "scratch", "structures": "auto", "loss": "ce_dice"},
            "loss=ce_dice is of a method of classes, received method=scratch: leave it out",
        ),
        ({"method": "unet3d"}, "unet3d learns one structure, received structures=all"),
    ],
)
def test_settings_that_do_not_fit_are_refused(use_classes, changes, said):
    with pytest.raises(BenchError, match=said):
        resolve_finetune(replace(use_classes.config, **changes), use_classes.store)


def test_what_the_model_lacks_is_said(use_classes):
    common = {"dataset": str(use_classes.dataset), "device": "cpu"}
    with pytest.raises(BenchError, match="trained mitochondria, vesicles, received structure=r"):
        evaluate(EvaluateConfig(run_id=use_classes.run, structure="ribbon", **common))
    info = load_info(fetch_checkpoint(use_classes.store, use_classes.run))
    with pytest.raises(BenchError, match="must have a channel 'ribbon', it has background, mitoch"):
        foreground_channel(info, "ribbon")
    with pytest.raises(BenchError, match="learned the classes mitochondria, vesicles, received st"):
        segment(SegmentConfig(run_id=use_classes.run, input=".", output="nowhere"))
    with pytest.raises(BenchError, match=r"no finished training has structure all, .*method"):
        evaluate(EvaluateConfig(method="scratch", structure="all", **common))


def test_a_benchmark_trains_once_for_all_structures(use_classes, tiny, tmp_path):
    config = BenchmarkConfig(
        dataset=str(use_classes.dataset),
        output=str(tmp_path / "out"),
        methods="scratch_classes",
        optimize=False,
        **tiny | {"features": 8, "iterations": 80, "epoch_iterations": 40},
    )
    before = {run.info.run_id for run in all_runs(use_classes)}
    benchmark(config)
    made = [run for run in all_runs(use_classes) if run.info.run_id not in before]
    # The training and the evaluations of the same settings are there.
    assert sorted(run.data.tags["bench.step"] for run in made) == ["benchmark", "compare"]
    with (tmp_path / "out/benchmark.csv").open() as file:
        assert {row["structure"] for row in csv.DictReader(file)} == set(NAMES)
    dataset = PreparedDataset.open(config.dataset)
    cells = make_grid(replace(config, methods="scratch,scratch_classes"), dataset)
    assert len(cells) == 4
    assert len(Workload(config, dataset, cells).trainings()) == 3
    tasks = {task.name: task.needs for task in grid_tasks(cells, config, use_classes.store, "p")}
    one = ("train scratch_classes mitochondria+vesicles seed 0",)
    assert [needs for name, needs in tasks.items() if name.startswith("evaluate scratch_cl")] == [
        one,
        one,
    ]
    assert sum(name.startswith("train") for name in tasks) == 3
    with pytest.raises(BenchError, match="two structures or more in one model, received structur"):
        benchmark(replace(config, structures="mito"))


def all_runs(classes):
    return classes.store.client.search_runs([classes.store.experiment_id])
