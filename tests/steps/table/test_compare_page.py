"""The page of compare from the runs of a real pipeline, and from runs that lost their files."""

import json
import re
from base64 import b64decode
from io import BytesIO

import h5py
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import precision_recall_curve

from bench.config.scoring import CompareConfig
from bench.dataset.prepared import PreparedDataset
from bench.steps.compare import compare
from bench.steps.table.report import read_precision_recall
from bench.steps.table.trainings import read_training
from bench.tracking.evaluations import metric_history
from bench.tracking.queries import fetch_artifact
from bench.tracking.runs import Identity

DATASET = "d" * 64
BLACK = Image.new("RGB", (90, 30))


@pytest.fixture
def evaluated(store):
    """Records an evaluation of sections with these Dice, and returns its id."""

    def make(dice, *, seed=0, trained="none", pictures=()):
        identity = Identity("evaluate", {}, {}, "scratch", "vesicles", DATASET, seed)
        tags = {"bench.split": "test", "bench.protocol": "data", "bench.trained_run": trained}
        tags |= identity.tags() | {"bench.dataset_name": "tiny"}
        run = store.client.create_run(store.experiment_id, tags=tags).info.run_id
        sections = {f"s{number}": {"dice": value} for number, value in enumerate(dice)}
        scores = {"pooled": {"dice": float(np.mean(dice))}, "sections": sections}
        store.client.log_text(run, json.dumps(scores), "scores.json")
        for name in pictures:
            store.client.log_image(run, BLACK, f"overlays/{name}.png")
        store.client.set_terminated(run)
        return run

    return make


@pytest.fixture
def page(store, tmp_path):
    """Compares, and returns the text of the page."""

    def write():
        run = compare(CompareConfig(output=str(tmp_path / "out")), store)
        text = (tmp_path / "out" / "benchmark.html").read_text()
        assert fetch_artifact(store, run, "benchmark.html").read_text() == text
        return text

    return write


def images(page):
    found = re.findall(r"data:image/webp;base64,([^\"]+)", page)
    return [Image.open(BytesIO(b64decode(text))) for text in found]


def test_a_pipeline_ends_with_a_page_of_its_pictures_and_curves(pipeline):
    page = (pipeline.output / "benchmark.html").read_text()
    kept = fetch_artifact(pipeline.store, pipeline.compared, "benchmark.html").read_text()
    assert kept == page
    assert (pipeline.output / "training_curves.png").stat().st_size > 10_000
    sections = json.loads(
        fetch_artifact(pipeline.store, pipeline.on_test, "scores.json").read_text()
    )
    # Annotation, prediction and errors of each section; and one picture of the verdict.
    shown = images(page)
    assert len(shown) == 3 * min(3, len(sections["sections"])) + 1
    # Sections of 64 px, enlarged four times.
    assert {image.size for image in shown} == {(256, 256)}
    assert page.count("enlarged 4 times") == 3
    assert "prepared (mitochondria; 5" in re.search("<title>(.*)</title>", page)[1]
    assert "on 3 annotated sections." in page
    assert "missing" not in re.sub("<style>.*?</style>", "", page, flags=re.DOTALL)
    assert re.findall('role="img" aria-label="([^"]+)"', page) == [
        "Bars of Dice of mitochondria, the numbers are in the table",
        "Precision against recall: mitochondria",
        "Validation Dice against iteration: mitochondria",
        "Seconds and validation Dice: mitochondria",
    ]


def test_precision_and_recall_are_those_of_the_stored_prediction(pipeline):
    dataset = PreparedDataset.open(str(pipeline.dataset))
    path = fetch_artifact(pipeline.store, pipeline.on_test, "predictions.h5")
    names = dataset.sections("test")
    truth = [dataset.read_labels(name, "mitochondria").ravel() > 0 for name in names]
    with h5py.File(path) as file:
        levels = [file[name]["identity"][:].ravel() for name in names]
    precision, recall, thresholds = precision_recall_curve(
        np.concatenate(truth), np.concatenate(levels)
    )
    file = fetch_artifact(pipeline.store, pipeline.on_test, "precision_recall.csv")
    sweep = np.genfromtxt(file, delimiter=",", names=True)
    assert list(sweep["level"]) == list(range(256))
    # Theirs has the levels that occur, and at the end a point at recall 0 beyond them all.
    assert len(thresholds) > 10
    assert sweep["precision"][thresholds] == pytest.approx(precision[:-1])
    assert sweep["recall"][thresholds] == pytest.approx(recall[:-1])
    curve = read_precision_recall(pipeline.store, pipeline.on_test)
    found = sweep["precision"] + sweep["recall"] > 0
    assert np.array_equal(curve.x, sweep["recall"][found])
    assert np.array_equal(curve.y, sweep["precision"][found])


def test_the_training_curve_is_the_history_of_the_run(pipeline):
    curve, by_second = read_training(pipeline.store, pipeline.on_test)
    client = pipeline.store.client
    history = client.get_metric_history(pipeline.trained, "val/dice")
    assert dict(zip(curve.x, curve.y, strict=True)) == {p.step: p.value for p in history}
    assert list(curve.x) == [20, 40]
    assert list(by_second.y) == list(curve.y)
    first, last = by_second.x
    (costs,) = [
        float(tag)
        for name, tag in client.get_run(pipeline.trained).data.tags.items()
        if name == "bench.train_seconds"
    ]
    assert 0 < first < last <= costs + 0.1


def test_the_worst_the_median_and_the_best_section_are_shown(evaluated, page):
    evaluated([0.5, 0.9, 0.1, 0.6, 0.7], pictures=["s0", "s1", "s2", "s3", "s4"])
    text = page()
    # Those of the runs of an earlier version, and the one of the verdict.
    assert [image.size for image in images(text)] == [(90, 30)] * 4
    captions = re.findall(r"<figcaption><b>(\w+)</b> (\w+): Dice ([\d.]+)</figcaption>", text)
    assert captions == [
        ("Worst", "s2", "0.100"),
        ("Median", "s3", "0.600"),
        ("Best", "s1", "0.900"),
    ]


def test_the_run_of_the_median_seed_is_shown(evaluated, page):
    evaluated([0.9], seed=0)
    middle = evaluated([0.5], seed=1)
    evaluated([0.1], seed=2)
    assert f"Seed 1 (of 0, 1, 2), run {middle}" in page()


def test_the_page_says_what_is_missing(store, evaluated, page):
    run = evaluated([0.5, 0.9], pictures=["s1"], trained="gone" * 8)
    (store_file,) = [fetch_artifact(store, run, "overlays/s1.png")]
    text = page()
    # The second time in the verdict.
    assert len(images(text)) == 2
    missing = f"Picture missing: run {run} has no readable overlays/s0.png (moved or cleaned?)"
    assert missing in text
    assert "no readable precision_recall.csv in the run" in text
    assert "the training run has no validation Dice in the store" in text
    # A file that is no picture is as good as none, and no path of this machine is on the page.
    store_file.write_text("no picture")
    text = page()
    assert not images(text)
    assert text.count("Picture missing") == 2
    assert str(store_file.parents[2]) not in text


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        ("level,precision\n1,0.5\n", "no readable"),
        ("level,precision,recall\n1,much,0.5\n", "no readable"),
        ("level,precision,recall\n1,0,0\n", "no pixel was found"),
    ],
)
def test_a_curve_that_cannot_be_drawn_says_why(store, evaluated, content, missing):
    run = evaluated([0.5])
    store.client.log_text(run, content, "precision_recall.csv")
    curve = read_precision_recall(store, run)
    assert missing in curve.missing
    assert not curve.x


def test_what_a_resumed_run_logged_again_counts_once(store, evaluated):
    run = evaluated([0.5])
    for step, value in ((20, 0.3), (10, 0.2), (20, 0.4)):
        store.client.log_metric(run, "val/dice", value, step=step)
    assert [step for step, _ in metric_history(store, run, "val/dice")] == [10, 20]
    assert metric_history(store, run, "never") == metric_history(store, "0" * 32, "val/dice") == []
