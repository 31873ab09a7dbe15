import numpy as np
import pytest
import torch
from segment_anything import SamPredictor

from bench.core.pixels import stretch_contrast
from bench.errors import BenchError
from bench.inference.sam.decoder import PromptDecoder
from bench.inference.sam.embeddings import KeptEncoder, embed_window
from bench.inference.sam.prompts import Prompts, paint_prompted, prompt_section, prompt_window
from bench.inference.sam.windows import place_windows, windows_around
from bench.models.sam import load_sam, write_tiny_sam
from bench.models.sam_weights import read_torch_file

# Pixels whose logits are 0 to the last bits may fall on either side.
MOST_APART = 1e-4


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "tiny.pt"
    write_tiny_sam(path, 1, image_px=128, decoder_features=0)
    return load_sam(read_torch_file(path, trust=False))[0].eval()


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).integers(0, 255, (100, 160)).astype(np.uint8)


@pytest.fixture(scope="module")
def prompts():
    rng = np.random.default_rng(1)
    corner, side = rng.uniform(5, 70, (11, 2)), rng.uniform(5, 30, (11, 2))
    boxes = np.concatenate([corner, corner + side], axis=1)
    points = rng.uniform(5, 95, (11, 2, 2))
    return boxes, points, rng.integers(0, 2, (11, 2))


def draw(mask, shape):
    whole = np.zeros(shape, dtype=bool)
    whole[mask.box.slices] = mask.pixels()
    return whole


@pytest.mark.parametrize("kind", ["boxes", "points", "both"])
@pytest.mark.parametrize("multimask", [False, True])
def test_masks_are_those_of_segment_anything(network, image, prompts, kind, multimask):
    """One prompt at a time through its own predictor, which knows the model's size."""
    boxes, points, labels = prompts
    given = Prompts(
        boxes if kind != "points" else None,
        *((points, labels) if kind != "boxes" else (None, None)),
    )
    predictor = SamPredictor(network.sam)
    embedding = embed_window(predictor, image)
    found = prompt_window(network, embedding, given, multimask=multimask)
    assert len(found) == len(given) == 11
    apart = lit = 0
    for index, mask in enumerate(found):
        masks, scores, _ = predictor.predict(
            None if kind == "boxes" else points[index],
            None if kind == "boxes" else labels[index],
            boxes[index] if kind != "points" else None,
            multimask_output=multimask,
        )
        best = int(scores.argmax())
        assert mask.score == pytest.approx(float(scores[best]), abs=1e-5)
        apart += np.count_nonzero(draw(mask, image.shape) != masks[best])
        lit += np.count_nonzero(masks[best])
        if mask.area:
            pixels = mask.pixels()
            assert pixels.any(axis=1)[[0, -1]].all()
            assert pixels.any(axis=0)[[0, -1]].all()
    assert lit > 1000
    assert apart <= MOST_APART * lit


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_all_masks_are_those_of_segment_anything(network, multimask, masked):
    sam = network.sam
    torch.manual_seed(0)
    features = torch.randn(1, 256, 8, 8)
    low = torch.randn(3, 1, 32, 32) if masked else None
    points = torch.rand(3, 4, 2) * 128, torch.ones(3, 4)
    sparse, dense = sam.prompt_encoder(points=points, boxes=None, masks=low)
    wanted, scores = sam.mask_decoder(
        image_embeddings=features,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )
    decoder = PromptDecoder(sam, features)
    found, expected = decoder.decode_all(sparse, dense if masked else None, multimask=multimask)
    assert found.shape == wanted.shape == (3, 3 if multimask else 1, 32, 32)
    assert torch.allclose(found, wanted, atol=1e-5)
    assert torch.allclose(expected, scores, atol=1e-5)


def test_prompts_follow_the_models_own_size(network, image, prompts):
    """micro_sam scales to 1024 px whatever the model is: of one of 128 px it gives other masks."""
    from micro_sam.inference import batched_inference

    predictor = SamPredictor(network.sam)
    embedding = embed_window(predictor, image)
    boxes = prompts[0]
    ours = prompt_window(network, embedding, Prompts(boxes))
    theirs = batched_inference(predictor, None, 4, boxes, return_instance_segmentation=False)
    right, _, _ = predictor.predict(box=boxes[0], multimask_output=False)
    assert np.count_nonzero(draw(ours[0], image.shape) != right[0]) <= 2
    assert np.count_nonzero(theirs[0]["segmentation"].numpy() != right[0]) > 100


def test_a_section_is_prompted_in_the_windows_that_see_the_prompts(network, prompts):
    raw = np.random.default_rng(2).normal(1000, 300, (100, 160)).astype(np.float32)
    encoder = KeptEncoder(network, None)
    given = Prompts(prompts[0])
    whole = prompt_section(encoder, raw, given, tile_px=200, halo_px=0)
    embedding = encoder.embed(stretch_contrast(raw))
    direct = prompt_window(network, embedding, given)
    assert [mask.area for mask in whole] == [mask.area for mask in direct]
    # Of two windows, the second from column 60 on, or one of its own around what neither holds.
    windows = place_windows(raw.shape, tile_px=60, halo_px=20)
    tiled = prompt_section(encoder, raw, given, tile_px=60, halo_px=20)
    for mask, window in zip(tiled, windows_around(given.boxes, windows, raw.shape), strict=True):
        if mask.area:
            assert window.overlap(mask.box) == mask.box


def test_a_box_is_prompted_as_large_as_it_is(network, monkeypatch):
    """The window whose middle is nearest would cut 10 px of 80."""
    encoder, seen = network.sam.prompt_encoder, []
    forward = type(encoder).forward

    def watch(self, points, boxes, masks):
        seen.append(boxes[0].numpy() * 100 / 128)
        return forward(self, points, boxes, masks)

    monkeypatch.setattr(type(encoder), "forward", watch)
    raw = np.random.default_rng(0).integers(0, 255, (100, 300)).astype(np.uint8)
    box = np.array([[50.0, 10, 130, 40]])
    prompt_section(KeptEncoder(network, None), raw, Prompts(box), tile_px=60, halo_px=20)
    assert seen[0][2:] - seen[0][:2] == pytest.approx([80, 30], abs=1e-3)


def test_windows_without_prompts_are_not_embedded(network, monkeypatch):
    encoder = KeptEncoder(network, None)
    seen = []
    original = encoder.embed
    monkeypatch.setattr(encoder, "embed", lambda window: seen.append(1) or original(window))
    raw = np.zeros((300, 300), np.uint8)
    prompts = Prompts(points=np.array([[[290.0, 290.0]]]), point_labels=np.array([[1]]))
    (mask,) = prompt_section(encoder, raw, prompts, tile_px=60, halo_px=20, multimask=True)
    assert len(seen) == 1
    assert mask.area == 0 or mask.box.y0 >= 200
    assert prompt_section(encoder, raw, Prompts(np.zeros((0, 4))), tile_px=60, halo_px=20) == []


def test_a_mask_without_pixels_has_no_area(network, image, monkeypatch):
    monkeypatch.setattr(network.sam, "mask_threshold", 1e9)
    embedding = embed_window(SamPredictor(network.sam), image)
    (mask,) = prompt_window(network, embedding, Prompts(np.array([[10.0, 10, 20, 20]])))
    assert mask.area == 0
    assert not paint_prompted([mask], image.shape).any()


def test_small_masks_are_painted_over_large_ones(network, image, prompts):
    embedding = embed_window(SamPredictor(network.sam), image)
    masks = prompt_window(network, embedding, Prompts(prompts[0]))
    painted = paint_prompted(masks, image.shape)
    smallest = min((m.area, -i) for i, m in enumerate(masks) if m.area)
    index = -smallest[1]
    assert np.count_nonzero(painted == index + 1) == smallest[0]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"boxes": np.zeros((2, 3))},
        {"points": np.zeros((2, 1, 2))},
        {"points": np.zeros((2, 2)), "point_labels": np.zeros(2)},
        {"points": np.zeros((2, 1, 2)), "point_labels": np.zeros((2, 2))},
        {
            "boxes": np.zeros((3, 4)),
            "points": np.zeros((2, 1, 2)),
            "point_labels": np.zeros((2, 1)),
        },
    ],
)
def test_prompts_that_do_not_fit_together(arguments):
    with pytest.raises(BenchError, match=r"prompts must be boxes \(n, 4\), points"):
        Prompts(**arguments)
