import numpy as np
import pytest

from bench.config.training import FinetuneConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.models.checkpoint import ModelInfo
from bench.steps.finetune import finetune
from bench.steps.training.data import TrainingData, fed_pixel_size
from bench.tracking.queries import read_settings


@pytest.fixture
def dataset(pipeline):
    return PreparedDataset.open(pipeline.dataset)


def choose(dataset, labelled, seed=0, fed_nm=5.0):
    return TrainingData.choose(dataset, "mitochondria", labelled=labelled, seed=seed, fed_nm=fed_nm)


def test_all_sections_unless_fewer_are_asked_for(dataset):
    assert choose(dataset, None).names == tuple(dataset.sections("train"))


def test_more_sections_keep_those_of_fewer(dataset):
    drawn = set()
    for seed in range(10):
        one, two, three = (choose(dataset, number, seed).names for number in (1, 2, 3))
        assert (len(one), len(two), len(three)) == (1, 2, 3)
        assert one == two[:1]
        assert two == three[:2]
        assert set(three) == set(dataset.sections("train"))
        drawn.add(one)
    assert len(drawn) == 3


def test_more_sections_than_there_are(dataset):
    with pytest.raises(BenchError, match="at most the 3 training sections there are, received 4"):
        choose(dataset, 4)


def test_training_sections_are_fed_at_the_scale_of_the_model(dataset):
    raw, labels = choose(dataset, None, fed_nm=2.5).train()[0]
    own, own_labels = choose(dataset, None).train()[0]
    assert raw.shape == labels.shape == (128, 128)
    assert labels.dtype == own_labels.dtype
    # Twice as large: every pixel became four.
    np.testing.assert_array_equal(labels, np.kron(own_labels, np.ones((2, 2), labels.dtype)))
    assert abs(raw.mean() - own.mean()) < 1
    assert next(iter(choose(dataset, None, fed_nm=2.5).validation().values()))[0].shape == (64, 64)


def test_specks_do_not_count_in_the_usual_diameter(dataset, monkeypatch):
    labels = np.zeros((100, 100), np.uint16)
    # Squares of 20 px, two to a section, and twenty specks of a pixel.
    labels[10:30, 10:30], labels[50:70, 50:70] = 1, 2
    labels[90, 0:80:4] = np.arange(3, 23)
    monkeypatch.setattr(PreparedDataset, "read_labels", lambda self, name, structure: labels)
    across = 2 * np.sqrt(400 / np.pi)
    assert choose(dataset, None).usual_diameter_px() == pytest.approx(across)
    assert choose(dataset, None, fed_nm=2.5).usual_diameter_px() == pytest.approx(2 * across)
    assert choose(dataset, None, fed_nm=None).usual_diameter_px() == pytest.approx(across)


def test_the_scale_is_the_sources_where_both_are_known(dataset):
    arguments = ("unet2d", {}, ("foreground",), "")
    known, unknown = (ModelInfo(*arguments, nm, "section", 32, 16) for nm in (1.35, None))
    assert fed_pixel_size(known, dataset, rescale=True) == 1.35
    assert fed_pixel_size(known, dataset, rescale=False) == 5.0
    assert fed_pixel_size(unknown, dataset, rescale=True) == 5.0
    assert fed_pixel_size(None, dataset, rescale=True) == 5.0


def test_a_training_on_few_sections_says_so(pipeline, tiny):
    short = tiny | {"iterations": 2, "epoch_iterations": 2}
    config = FinetuneConfig(dataset=str(pipeline.dataset), source="random", labelled=1, **short)
    run = pipeline.store.client.get_run(finetune(config, pipeline.store))
    assert run.data.tags["bench.labelled"] == "1"
    names = choose(PreparedDataset.open(pipeline.dataset), 1).names
    assert run.data.tags["bench.labelled_sections"] == names[0]
    assert read_settings(pipeline.store, run.info.run_id)["labelled"] == "1"


def test_a_training_that_learned_next_to_nothing_says_so(pipeline, tiny):
    """Cross-entropy to which foreground is worth nothing: all is background."""
    config = FinetuneConfig(
        **tiny | {"iterations": 20, "epoch_iterations": 20, "lr": 0.05},
        dataset=str(pipeline.dataset),
        source="random",
        loss="weighted_bce",
        foreground_weight=1e-6,
    )
    run_id = finetune(config, pipeline.store)
    run = pipeline.store.client.get_run(run_id)
    pipeline.store.client.delete_run(run_id)
    said = run.data.tags.get("bench.warning", "")
    assert run.data.metrics["best/dice"] < 0.1
    assert "next to nothing of the structure was learned in 20 iterations: train longer, or" in said
