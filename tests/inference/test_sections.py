import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from bench.inference.device import Compute
from bench.inference.prediction import model_shape, predict_all_at_model_scale
from bench.inference.tiles import predict_sections
from bench.models.checkpoint import ModelInfo

CPU = Compute(torch.device("cpu"), "fp32")


class Brightness(torch.nn.Module):
    """Two channels: probability rises with brightness, and falls."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def forward(self, image):
        self.shapes.append(tuple(image.shape[-2:]))
        return torch.cat([image, -image], dim=1)


def info(input_pixel_size_nm):
    return ModelInfo(
        architecture="unet2d",
        arguments={},
        outputs=("foreground", "boundary"),
        structure="mitochondria",
        input_pixel_size_nm=input_pixel_size_nm,
        normalisation="section",
        tile_px=64,
        halo_px=16,
    )


def smooth_section(shape=(120, 91)):
    noise = np.random.default_rng(0).standard_normal(shape)
    smooth = gaussian_filter(noise, 6)
    return (127 + 60 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def predict(raw, model_nm, section_nm):
    network = Brightness()
    (probability,) = predict_all_at_model_scale(
        network, [raw], info=info(model_nm), pixel_size_nm=section_nm, compute=CPU
    )
    return probability


@pytest.mark.parametrize(
    ("model_nm", "section_nm"), [(None, None), (5.0, None), (None, 5.0), (5.0, 5.0), (5.0, 5.04)]
)
def test_unknown_or_equal_pixel_sizes_leave_the_section_as_it_is(model_nm, section_nm):
    raw = smooth_section()
    (expected,) = predict_sections(Brightness(), [raw], tile_px=64, halo_px=16, compute=CPU)
    np.testing.assert_array_equal(predict(raw, model_nm, section_nm), expected)


@pytest.mark.parametrize(("model_nm", "section_nm"), [(10.0, 5.0), (5.0, 10.0), (7.0, 5.0)])
def test_other_pixel_sizes_are_mapped_there_and_back(model_nm, section_nm):
    raw = smooth_section()
    same = predict(raw, 5.0, 5.0).astype(int)
    mapped = predict(raw, model_nm, section_nm)
    assert mapped.dtype == np.uint8
    assert mapped.shape == (2, 120, 91)
    # Structures wider than both pixels come out where they were.
    difference = np.abs(mapped - same)
    assert difference.mean() < 5
    assert np.corrcoef(mapped[0].ravel(), same[0].ravel())[0, 1] > 0.99
    shifted = np.roll(same, 3, axis=2)
    assert difference[..., 5:-5].mean() < 0.5 * np.abs(mapped - shifted)[..., 5:-5].mean()


@pytest.mark.parametrize(
    ("shape", "model_nm", "section_nm", "expected"),
    [
        ((100, 60), 10.0, 5.0, (50, 30)),
        ((100, 60), 2.5, 5.0, (200, 120)),
        ((101, 61), 1.35, 5.0, (374, 226)),
        ((1, 1), 100.0, 1.0, (1, 1)),
        ((100, 60), 5.0, 5.049, (100, 60)),
        ((100, 60), 5.0, 5.051, (101, 61)),
    ],
)
def test_shape_at_the_models_pixel_size(shape, model_nm, section_nm, expected):
    assert model_shape(shape, model_nm, section_nm) == expected
