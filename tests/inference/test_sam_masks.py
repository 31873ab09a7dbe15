from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from bench.core.pixels import stretch_contrast
from bench.errors import BenchError
from bench.inference.device import Compute
from bench.inference.feeding import resize_section
from bench.inference.prediction import open_predictor
from bench.inference.sam.embeddings import KeptEncoder, embed_window
from bench.inference.sam.masks import (
    MaskSettings,
    choose_segmentation,
    find_by_decoder,
    find_by_points,
    make_generator,
    make_predictor,
    segment_part,
    segment_section,
)
from bench.inference.sam.windows import Box
from bench.models.checkpoint import ModelInfo, save_checkpoint
from bench.models.sam import build_sam, derive_arguments, load_sam, write_tiny_sam
from bench.models.sam_weights import read_torch_file

CPU = Compute(torch.device("cpu"), "fp32")
ALL = MaskSettings("amg", 3, 0.0, 0.0, 0.7, 0.5, 0.5, 0.5, 20, None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "tiny.pt"
    write_tiny_sam(path, 1, image_px=64)
    return load_sam(read_torch_file(path, trust=False))


@pytest.fixture(scope="module")
def raw():
    return np.random.default_rng(0).normal(1000, 300, (70, 90)).astype(np.float32)


def info_of(arguments, settings, **changes):
    info = ModelInfo("sam", arguments, ("foreground",), "mitochondria", None, "section", 48, 8)
    return replace(info, inference=asdict(settings), **changes)


@pytest.mark.parametrize("segmentation", ["amg", "ais"])
def test_a_section_larger_than_a_window_is_covered(tiny, raw, segmentation):
    network, arguments = tiny
    settings = replace(ALL, segmentation=segmentation)
    found = make_predictor(network, info_of(arguments, settings))(raw, None)
    assert found.instances.shape == found.foreground.shape == raw.shape
    assert found.instances.dtype == np.int32
    assert found.foreground.dtype == np.uint8
    assert found.instances.max() > 0
    # Whoever asks for a probability of one half gets every instance whole, and nothing else.
    assert np.array_equal(found.foreground >= 128, found.instances > 0)
    areas = np.bincount(found.instances.ravel())[1:]
    assert areas.min() >= 20
    for half in (found.instances[:, :45], found.instances[:, 45:]):
        assert half.any()


@pytest.mark.parametrize("size_nm", [None, 4.0])
def test_a_part_has_the_grey_values_that_it_has_in_the_whole(tiny, raw, size_nm, monkeypatch):
    """Cut out before, its own darkest and brightest pixels would be black and white."""
    network, arguments = tiny
    bright = raw.copy()
    bright[40:] += 3000
    info = info_of(arguments, replace(ALL, segmentation="ais"), input_pixel_size_nm=4.0)
    info = replace(info, tile_px=32, halo_px=0)
    encoder, seen = KeptEncoder(network, None), []
    original = encoder.embed
    monkeypatch.setattr(encoder, "embed", lambda image: seen.append(image) or original(image))
    part = Box(0, 10, 32, 74)
    found = segment_part(encoder, info, bright, size_nm, part)
    assert found.instances.shape == found.foreground.shape == part.shape
    expected = stretch_contrast(bright)[part.slices]
    assert np.array_equal(np.concatenate(seen, axis=1), expected)
    # Resampled, it is the same place of the resampled section.
    seen.clear()
    segment_part(encoder, info, bright, 2.0, part)
    expected = stretch_contrast(resize_section(bright, (35, 45)))[0:16, 5:37]
    assert np.array_equal(np.concatenate(seen, axis=1), expected)


@pytest.mark.parametrize("segmentation", ["amg", "ais"])
def test_the_area_filter(tiny, raw, segmentation):
    network, arguments = tiny
    settings = replace(ALL, segmentation=segmentation, min_area_px=0)
    found = make_predictor(network, info_of(arguments, settings))(raw, None)
    low, high = np.quantile(np.bincount(found.instances.ravel())[1:], [0.2, 0.8]).astype(int)
    settings = replace(settings, min_area_px=int(low) + 1, max_area_px=int(high) + 2000)
    found = make_predictor(network, info_of(arguments, settings))(raw, None)
    areas = np.bincount(found.instances.ravel())[1:]
    assert len(areas) > 0
    assert areas.min() > low
    assert areas.max() <= high + 2000


def test_ais_on_one_window_is_micro_sams(tiny, raw):
    """Without tiles and filter the instances are those of micro_sam's class, part by part."""
    from micro_sam.instance_segmentation import InstanceSegmentationWithDecoder
    from segment_anything import SamPredictor
    from skimage.measure import label

    network, _ = tiny
    settings = replace(ALL, segmentation="ais", min_area_px=0)
    with torch.inference_mode():
        ours, _ = segment_section(KeptEncoder(network, None), raw, settings, tile_px=200, halo_px=0)
        predictor = SamPredictor(network.sam)
        segmenter = InstanceSegmentationWithDecoder(predictor, network.instance_decoder)
        segmenter.initialize(raw, embed_window(predictor, stretch_contrast(raw)))
        theirs = label(segmenter.generate(), background=0, connectivity=1)
    assert ours.max() == theirs.max() > 1
    pairs = np.unique(np.stack([ours.ravel(), theirs.ravel()]), axis=1)
    assert pairs.shape[1] == ours.max() + 1


def test_amg_thresholds_and_scores_are_those_of_the_masks(tiny, raw):
    network, _ = tiny
    generator = make_generator(network, ALL, 64)
    assert generator._points_per_batch == 64
    assert make_generator(network, ALL, 4096)._points_per_batch == 1
    with torch.inference_mode():
        section = raw[:64, :64]
        labels, scores = segment_section(
            KeptEncoder(network, None), section, ALL, tile_px=64, halo_px=0
        )
        strict = replace(ALL, pred_iou_thresh=1.0)
        nothing, none = segment_section(
            KeptEncoder(network, None), section, strict, tile_px=64, halo_px=0
        )
    assert labels.any()
    assert not nothing.any()
    assert not none.any()
    assert len(np.unique(scores[labels > 0])) <= labels.max()


def test_nothing_is_lost_if_masks_cover_the_whole_image(tiny):
    """micro_sam's with_background would take the largest mask away."""
    network, _ = tiny
    blank = np.zeros((64, 64), np.uint8)
    with torch.inference_mode():
        labels, _ = segment_section(KeptEncoder(network, None), blank, ALL, tile_px=64, halo_px=0)
    masks = np.bincount(labels.ravel())
    assert masks[1:].max() == labels[labels > 0].size or masks.size > 2


def test_a_section_of_another_pixel_size_is_resampled_and_mapped_back(tiny, raw):
    network, arguments = tiny
    settings = replace(ALL, segmentation="ais", min_area_px=0)
    predict = make_predictor(network, info_of(arguments, settings, input_pixel_size_nm=10.0))
    found = predict(raw, 5.0)
    assert found.instances.shape == found.foreground.shape == raw.shape
    same = predict(raw, 10.0)
    assert not np.array_equal(found.instances, same.instances)


def test_a_checkpoint_opens_as_any_other_model(tiny, raw, tmp_path):
    network, arguments = tiny
    info = info_of(arguments, replace(ALL, segmentation="ais"))
    save_checkpoint(tmp_path / "sam.safetensors", network, info)
    predict, found = open_predictor(tmp_path / "sam.safetensors", CPU, "mitochondria")
    assert found == info
    expected = make_predictor(network, info)(raw, None)
    assert np.array_equal(predict(raw, None).instances, expected.instances)


@pytest.mark.parametrize(
    ("wanted", "decoder", "chosen"),
    [("auto", True, "ais"), ("auto", False, "amg"), ("amg", True, "amg"), ("ais", True, "ais")],
)
def test_the_segmentation_follows_the_decoder(wanted, decoder, chosen):
    assert choose_segmentation(wanted, decoder=decoder) == chosen


def test_ais_without_a_decoder():
    with pytest.raises(BenchError, match="needs a checkpoint with micro_sam's decoder"):
        choose_segmentation("ais", decoder=False)


def test_too_little_memory_names_what_to_lower(tiny, raw, monkeypatch):
    network, arguments = tiny

    class Full(torch.nn.Module):
        def forward(self, _):
            raise torch.OutOfMemoryError("CUDA out of memory")

    weights = network.state_dict()
    other = build_sam(**derive_arguments(weights))
    other.sam.image_encoder = Full()
    other.sam.image_encoder.img_size = 64
    with pytest.raises(BenchError, match=r"window of SAM must fit .* lower tile_px \(now 48\)"):
        make_predictor(other, info_of(arguments, ALL))(raw, None)


@pytest.mark.parametrize("segmentation", ["amg", "ais"])
def test_masks_are_whole_and_lie_where_the_window_lies(tiny, raw, segmentation):
    network, _ = tiny
    settings = replace(ALL, segmentation=segmentation)
    generator = make_generator(network, settings, 64)
    find = find_by_points if segmentation == "amg" else lambda *a: find_by_decoder(*a)[0]
    with torch.inference_mode():
        embedding = embed_window(generator._predictor, raw[:64, :64].astype(np.uint8))
        at_origin = find(generator, embedding, Box(0, 0, 64, 64), settings)
        moved = find(generator, embedding, Box(100, 30, 164, 94), settings)
        if segmentation == "amg":
            kept = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 0.7}
            found = generator.generate(**kept, output_mode="rle")
            assert [mask.area for mask in at_origin] == [m["area"] for m in found if m["area"]]
        else:
            assert sum(m.area for m in at_origin) == np.count_nonzero(generator.generate())
    assert len(at_origin) > 0
    for mask, other in zip(at_origin, moved, strict=True):
        assert (other.box.y0 - mask.box.y0, other.box.x0 - mask.box.x0) == (100, 30)
        assert np.array_equal(mask.pixels(), other.pixels())
