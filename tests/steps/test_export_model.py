import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from bench.config.data import ExportModelConfig
from bench.config.running import SegmentConfig
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.inference.device import choose_compute
from bench.inference.prediction import open_predictor
from bench.recipe.recipe import read_recipe
from bench.steps.export_model import export_model
from bench.steps.serving.subject import find_segment_subject

WINDOW = 24 + 2 * 4


@pytest.fixture
def use_searched(searched, use_store):
    use_store(searched.store)
    return searched


def export_run(run_id, output, **settings):
    given = {"check": False} | settings
    config = ExportModelConfig(structure="mito", run_id=run_id, output=str(output), **given)
    return export_model(config)


@pytest.fixture
def package():
    """bioimageio.core; imported late, as it takes seconds."""
    return importlib.import_module("bioimageio.core")


@pytest.fixture
def predict_there(package):
    """Applies a model as bioimageio.core does, to an image of any size."""

    def predict(folder: Path, image: np.ndarray, weights_format: str) -> np.ndarray:
        core = package
        described = core.load_model_description(folder / "rdf.yaml")
        with core.create_prediction_pipeline(
            described, devices=["cpu"], weights_format=weights_format
        ) as pipeline:
            sample = core.Sample(
                members={"raw": core.Tensor(image[None, None], ("batch", "channel", "y", "x"))},
                stat={},
                id="image",
            )
            found = pipeline.predict_sample_with_blocking(sample)
        return np.asarray(found.members["probability"].data)[0]

    return predict


def test_one_model_is_written_with_all_that_goes_with_it(use_searched, tmp_path):
    output = tmp_path / "model"
    run_id = export_run(
        use_searched.single,
        output,
        authors="First Author (Somewhere); Second Author",
        cite="A work, doi 10.1234/abc.5",
        licence="CC-BY-4.0",
    )
    described = yaml.safe_load((output / "rdf.yaml").read_text())
    assert set(described["weights"]) == {"pytorch_state_dict", "torchscript"}
    assert [author["name"] for author in described["authors"]] == [
        "First Author",
        "Second Author",
    ]
    assert described["cite"][0] == {"text": "A work", "doi": "10.1234/abc.5"}
    assert described["license"] == "CC-BY-4.0"
    side = described["inputs"][0]["axes"][3]
    assert side == {"type": "space", "id": "x", "unit": "nanometer", "scale": 5, "size": WINDOW}
    assert described["outputs"][0]["axes"][3]["halo"] == 4
    assert described["outputs"][0]["axes"][1]["channel_names"] == ["mitochondria"]
    assert Image.open(output / "cover.png").size == (2 * WINDOW, WINDOW)
    recipe = read_recipe(output / "recipe.json")
    text = (output / "README.md").read_text()
    assert f"a probability of {recipe.threshold:.4f} on" in text
    assert f"fewer than {recipe.min_area_px} pixels" in text
    (info,) = json.loads((output / "models.json").read_text())
    assert info["architecture"] == "unet2d"
    run = use_searched.store.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["export_model/difference_torchscript"] < 1e-4


def test_those_who_receive_it_predict_what_we_do(use_searched, tmp_path, package, predict_there):
    output = tmp_path / "model"
    run_id = export_run(use_searched.single, output, check=True)
    measured = use_searched.store.client.get_run(run_id).data.metrics
    formats = ("pytorch_state_dict", "torchscript")
    assert max(measured[f"export_model/difference_{name}"] for name in formats) < 1e-4
    # Of a whole section, where no window reaches beyond it: there it is mirrored otherwise.
    dataset = PreparedDataset.open(use_searched.dataset)
    raw = dataset.read_raw(dataset.sections("test")[0])
    subject = find_segment_subject(
        SegmentConfig(structure="mito", run_id=use_searched.single), use_searched.store
    )
    predictor, _ = open_predictor(
        subject.weights[0], choose_compute("cpu", "fp32"), subject.recipe.structure
    )
    ours, inner = predictor(raw, 5.0).foreground, (slice(24, 40),) * 2
    for name in formats:
        theirs = predict_there(output, raw, name)[0]
        assert np.abs(theirs[inner] - ours[inner] / 255).max() <= 0.5 / 255 + 1e-4


def test_a_combination_is_one_model(use_searched, tmp_path):
    output = tmp_path / "model"
    run_id = export_run(use_searched.ensemble, output)
    measured = use_searched.store.client.get_run(run_id).data.metrics
    assert measured["export_model/difference_torchscript"] < 1e-4
    described = yaml.safe_load((output / "rdf.yaml").read_text())
    # What is within TorchScript only has no plain weights, and ends with probabilities.
    assert set(described["weights"]) == {"torchscript"}
    assert "postprocessing" not in described["outputs"][0]
    assert "averaged as probabilities" in (output / "README.md").read_text()
    members = read_recipe(output / "recipe.json").members
    assert len(members) == 2
    one = tmp_path / "one"
    export_run(use_searched.ensemble, one, member=members[1].name, augmentations="none")
    described = yaml.safe_load((one / "rdf.yaml").read_text())
    assert set(described["weights"]) == {"pytorch_state_dict", "torchscript"}


def test_a_model_that_differs_is_not_written(use_searched, tmp_path, monkeypatch):
    def other(*arguments):
        return np.full((1, WINDOW, WINDOW), 0.5, np.float32)

    monkeypatch.setattr("bench.handover.folder.predict_window", other)
    with pytest.raises(BenchError, match=r"must predict as ours does to 0\.0001, its weights as"):
        export_run(use_searched.single, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"authors": "a/b"}, r"authors must be NAME or NAME \(AFFILIATION\)"),
        ({"cite": "A work"}, "cite must have a DOI"),
        ({"input": "nothing.tif"}, "nothing.tif must be readable"),
        ({"member": "c"}, "member must be one of the recipe's models"),
    ],
)
def test_mistakes_leave_nothing(use_searched, tmp_path, settings, message):
    with pytest.raises(BenchError, match=message):
        export_run(use_searched.single, tmp_path / "model", **settings)
    assert list(tmp_path.iterdir()) == []


def test_what_the_package_refuses_is_not_written(use_searched, tmp_path, package):
    with pytest.raises(
        BenchError, match=r"must pass the test of bioimageio\.core, received failed"
    ):
        export_run(use_searched.single, tmp_path / "model", licence="MINE", check=True)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(use_searched, tmp_path):
    with pytest.raises(BenchError, match="output must be a new folder"):
        export_run(use_searched.single, tmp_path)
