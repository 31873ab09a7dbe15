import numpy as np
import pytest
import torch
import zarr
from micro_sam.inference import batched_tiled_inference
from micro_sam.util import precompute_image_embeddings
from segment_anything import SamPredictor

from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.tiles import embed_for_micro_sam
from bench.models.sam import load_sam, write_tiny_sam
from bench.models.sam_weights import read_torch_file


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "tiny.pt"
    write_tiny_sam(path, 1, image_px=64, decoder_features=0)
    return load_sam(read_torch_file(path, trust=False))[0].eval()


@torch.inference_mode()
def test_tiles_lie_where_micro_sams_do(network, tmp_path):
    """Its own tools take them, and tiles with the whole range of grey values are the same."""
    image = np.random.default_rng(0).integers(0, 256, (100, 150)).astype(np.uint8)
    # micro_sam stretches the contrast of every tile.
    image[::10, ::10], image[5::10, ::10] = 0, 255
    predictor = SamPredictor(network.sam)
    predictor.model_type = predictor.model_name = "vit_b"
    ours = embed_for_micro_sam(
        KeptEncoder(network, None), image, tmp_path / "ours", tile_px=40, halo_px=12
    )
    theirs = precompute_image_embeddings(
        predictor, image, ndim=2, tile_shape=(40, 40), halo=(12, 12), verbose=False
    )
    assert set(ours["features"].keys()) == set(theirs["features"].keys())
    for name, expected in dict(theirs["features"].members()).items():
        found = ours["features"][name]
        assert tuple(found.attrs["original_size"]) == tuple(expected.attrs["original_size"])
        assert tuple(found.attrs["input_size"]) == tuple(expected.attrs["input_size"])
        np.testing.assert_allclose(found[:], expected[:], atol=1e-3)
    boxes = np.array([[5, 5, 20, 20], [100, 60, 130, 90]])
    masks = [
        batched_tiled_inference(
            predictor, None, 2, given, boxes=boxes, return_instance_segmentation=False
        )
        for given in (ours, theirs)
    ]
    assert [mask["global_bbox"] for mask in masks[0]] == [m["global_bbox"] for m in masks[1]]


def test_what_fits_into_one_tile_is_one_image(network, tmp_path):
    image = np.zeros((50, 60), np.uint8)
    encoder = KeptEncoder(network, None)
    with torch.inference_mode():
        found = embed_for_micro_sam(encoder, image, tmp_path / "one", tile_px=40, halo_px=12)
    assert found["original_size"] == (50, 60)
    assert not (tmp_path / "one").exists()
    assert not isinstance(found["features"], zarr.Group)
