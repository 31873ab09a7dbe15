import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from bench.errors import BenchError
from bench.handover.checking import compare_script
from bench.handover.contents import HandoverModel
from bench.handover.folder import FILES
from bench.handover.weights import SCRIPT_FILE, write_weights
from bench.inference.device import Compute
from bench.inference.feeding import Moments
from bench.inference.tiles import predict_sections
from bench.models.checkpoint import ModelInfo, build_model, load_checkpoint, save_checkpoint
from bench.models.pixels.filters import context_maps, filter_maps
from bench.models.pixels.pixel_classifier import HALO_PX, PixelClassifier, fit_tile
from bench.models.pixels.trees import export_trees
from bench.recipe.recipe import Recipe, RecipeMember

CPU = Compute(torch.device("cpu"), "fp32")


def fit_noise(columns, seed):
    """Trees that ask of all columns."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(1500, columns)).astype(np.float32)
    truth = features @ random.normal(size=columns) > 0
    fitted = HistGradientBoostingClassifier(max_iter=20, early_stopping=False).fit(features, truth)
    return export_trees(fitted)


@pytest.fixture(scope="module")
def classifier():
    filters = len(filter_maps(torch.zeros(1, 1, 96, 96)))
    both = filters + len(context_maps(torch.zeros(1, 1, 48, 48)))
    found = PixelClassifier([fit_noise(filters, 0), fit_noise(filters, 1)], fit_noise(both, 2))
    found.shift.fill_(0.25)
    return found


def predict(network, section, tile_px):
    (found,) = predict_sections(network, [section], tile_px=tile_px, halo_px=HALO_PX, compute=CPU)
    return found


def test_a_prediction_does_not_depend_on_the_tile(classifier):
    section = np.random.default_rng(0).integers(0, 255, (128, 160), dtype=np.uint8)
    whole, cut = (predict(classifier, section, tile_px) for tile_px in (160, 64))
    assert len(np.unique(whole)) > 50
    # A value at a threshold may go either way, as convolutions add up in another order.
    different = whole.astype(int) != cut
    assert different.mean() < 0.001


def test_it_is_called_in_any_precision(classifier):
    image = torch.randn(1, 1, 32 + 2 * HALO_PX, 32 + 2 * HALO_PX)
    with torch.inference_mode():
        plain = classifier(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(classifier(image), plain)
    assert plain.shape == image.shape
    assert not plain[..., :HALO_PX].any()


def test_a_file_has_all_of_it(classifier, tmp_path):
    arguments = {"out_channels": 1} | classifier.sizes
    info = ModelInfo(
        "pixel_classifier", arguments, ("foreground",), "vesicles", 5.0, "section", 64, HALO_PX
    )
    save_checkpoint(tmp_path / "best.safetensors", classifier, info)
    loaded, _ = load_checkpoint(tmp_path / "best.safetensors")
    section = np.random.default_rng(1).integers(0, 255, (64, 64), dtype=np.uint8)
    assert np.array_equal(predict(loaded, section, 64), predict(classifier, section, 64))


@pytest.fixture
def handed_over(classifier, tmp_path):
    """What a classifier is as a model of bioimage.io, whose weights are written."""
    arguments = {"out_channels": 1} | classifier.sizes
    info = ModelInfo(
        "pixel_classifier", arguments, ("foreground",), "vesicles", 5.0, "section", 32, HALO_PX
    )
    member = RecipeMember("m", "pixel_classifier", 0, "run", "", "", "hash")
    recipe = Recipe("vesicles", "data", 5.0, True, (member,), 128, 0, 0, None)
    model = HandoverModel(recipe, (info,), (tmp_path / "best.safetensors",))
    assert set(write_weights(tmp_path, model, [classifier])) == {"torchscript"}
    return model


def test_it_is_handed_over_as_torchscript(classifier, handed_over, tmp_path):
    """What was traced for a single image predicts two others as the classifier does."""
    side = handed_over.window_px
    images = torch.randn(2, 1, side, side)
    with torch.inference_mode():
        theirs = torch.jit.load(str(tmp_path / SCRIPT_FILE))(images)
        ours = classifier(images)
    assert len(ours.unique()) > 50
    # As above: a value at a threshold may go either way.
    assert ((theirs - ours).abs() > 1e-4).float().mean() < 0.001


def test_one_value_in_ten_thousand_may_step(classifier, handed_over, tmp_path):
    side = handed_over.window_px
    window = np.random.default_rng(0).integers(0, 255, (side, side), dtype=np.uint8)
    np.save(tmp_path / FILES.test_input, window[None, None])
    fed = torch.from_numpy(Moments.of(window).apply(window)[None, None])
    with torch.inference_mode():
        ours = classifier(fed).sigmoid().numpy()
    few = side**2 // 10_000
    ours[0, 0, 0, :few] += 0.1
    np.save(tmp_path / FILES.test_output, ours)
    assert compare_script(tmp_path, handed_over)["torchscript"] < 1e-4
    ours[0, 0, 1, :5] += 0.1
    np.save(tmp_path / FILES.test_output, ours)
    with pytest.raises(BenchError, match=r"its weights as torchscript differ by 0\.1"):
        compare_script(tmp_path, handed_over)


def test_it_has_one_output():
    with pytest.raises(BenchError, match="out_channels must be 1, received 2"):
        build_model("pixel_classifier", {"out_channels": 2, "first": [], "second": (0, 0)})


def test_a_tile_is_no_larger_than_sections_need():
    assert fit_tile([100, 250], 1024) == 256
    assert fit_tile([64, 5000], 1024) == 1024
