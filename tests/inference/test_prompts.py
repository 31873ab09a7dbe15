import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.inference.prompts.masks import prompt_objects
from bench.inference.prompts.objects import (
    PromptSettings,
    check_boxes,
    list_objects,
    refuse_without_truth,
)
from bench.inference.sam.embeddings import KeptEncoder
from bench.models.checkpoint import ModelInfo
from bench.models.sam import load_sam, write_tiny_sam
from bench.models.sam_weights import read_torch_file


def settings(prompts="box", distortions="0", points=3, multimask="auto", seed=0):
    return PromptSettings.read(prompts, distortions, points=points, multimask=multimask, seed=seed)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("sam") / "tiny.pt"
    write_tiny_sam(path, image_px=64, decoder_features=0)
    return load_sam(read_torch_file(path, trust=False))[0].eval()


@pytest.fixture
def section():
    labels = np.zeros((60, 90), np.uint16)
    labels[4:14, 70:85] = 7
    labels[20:40, 5:25] = 300
    labels[25:35, 10:20] = 0
    return np.random.default_rng(0).integers(0, 255, labels.shape).astype(np.uint8), labels


def test_boxes_are_x_y_with_the_end_excluded_and_points_lie_inside(section):
    _, labels = section
    first, second = list_objects(labels, settings(), section=0)
    assert (first.id, first.box) == (7, (70, 4, 85, 14))
    assert (second.id, second.box) == (300, (5, 20, 25, 40))
    for each in (first, second):
        assert each.points.shape == (3, 2)
        assert all(labels[y, x] == each.id for x, y in each.points)
    # The farthest from the border: in a ring not the middle, which is not of the object.
    x, y = first.points[0]
    assert 8 <= y <= 9
    assert 74 <= x <= 80


def test_distortions_are_of_one_seed_and_grow_together(section):
    _, labels = section
    (first, _), (again, _) = (list_objects(labels, settings(seed=3), section=1) for _ in range(2))
    (other, _) = list_objects(labels, settings(seed=3), section=2)
    assert (first.shifts == again.shifts).all()
    assert (first.shifts != other.shifts).any()
    assert (np.abs(first.shifts) <= 1).all()
    moved = [first.distorted_box(d, labels.shape) - np.array(first.box) for d in (0, 1, 2)]
    assert not moved[0].any()
    assert moved[2] == pytest.approx(2 * moved[1])
    # However far, a box stays in the section and keeps an area.
    boxes = np.stack([first.distorted_box(d, labels.shape) for d in (8, 50, 1000)])
    check_boxes(boxes)
    assert (boxes >= 0).all()
    assert (boxes <= (90, 60, 90, 60)).all()


def test_a_box_of_no_area_is_refused():
    boxes = np.array([[0, 0, 4, 4], [3.0, 2, 3, 8]])
    with pytest.raises(BenchError, match="must have an area, received x 3 to 3 and y 2 to 8"):
        check_boxes(boxes)


def test_rounds_begin_with_the_annotated_box():
    found = settings("point,box", "4,2")
    assert found.rounds == [("point", 0), ("box", 0), ("box", 2), ("box", 4)]
    assert [found.has_multimask(kind) for kind in ("point", "box")] == [True, False]
    assert settings(multimask="always").has_multimask("box")
    assert not settings(multimask="never").has_multimask("point")


def record_prompts(network, monkeypatch):
    """What reaches SAM's prompt encoder, in px of the edge to which it resizes."""
    encoder, seen = network.sam.prompt_encoder, []
    forward = type(encoder).forward

    def watch(self, points, boxes, masks):
        seen.append((points, boxes))
        return forward(self, points, boxes, masks)

    monkeypatch.setattr(type(encoder), "forward", watch)
    return seen


def run(network, section, chosen, tile_px=32, halo_px=8):
    raw, labels = section
    with torch.inference_mode():
        return list(
            prompt_objects(
                KeptEncoder(network, None),
                raw,
                labels,
                chosen,
                tile_px=tile_px,
                halo_px=halo_px,
                section=0,
            )
        )


def test_prompts_are_scaled_to_the_size_that_this_sam_takes(network, section, monkeypatch):
    seen = record_prompts(network, monkeypatch)
    masks = run(network, section, settings("box,points"))
    assert [(each.object_id, each.kind) for each in masks] == [
        *((7, "box"), (7, "points"), (300, "box"), (300, "points"))
    ]
    # Windows of 48 px, and a SAM of 64 px; the section ends at x = 90, y = 60.
    scale = 64 / 48
    boxes = [boxes for _, boxes in seen if boxes is not None]
    assert boxes[0].flatten().tolist() == pytest.approx(
        [(70 - 42) * scale, 4 * scale, (85 - 42) * scale, 14 * scale], abs=1e-4
    )
    assert boxes[1].flatten().tolist() == pytest.approx(
        [5 * scale, 20 * scale, 25 * scale, 40 * scale], abs=1e-4
    )
    assert all(coords[0].max() <= 64 for coords, _ in seen if coords is not None)


def test_a_mask_is_scored_against_its_own_object(network, section):
    _, labels = section
    masks = run(network, section, settings("box,point", "0,2"))
    assert [each.area_px for each in masks if each.object_id == 7] == [150] * 3
    painted = [each for each in masks if each.mask is not None]
    assert [(each.kind, each.distortion_px) for each in painted] == [("box", 0)] * 2
    for each in painted:
        own, whole = labels == each.object_id, np.zeros(labels.shape, bool)
        whole[each.mask.box.slices] = each.mask.pixels()
        expected = np.count_nonzero(own & whole) / np.count_nonzero(own | whole)
        assert each.iou == pytest.approx(expected)


def test_what_is_larger_than_a_window_has_one_of_its_own(network, section, monkeypatch):
    seen = record_prompts(network, monkeypatch)
    first, _ = run(network, section, settings(), tile_px=12, halo_px=2)
    assert first.area_px == 150
    width, height = (seen[0][1][0, 2:] - seen[0][1][0, :2]).tolist()
    # The object of 15 x 10 px fills most of the 64 px.
    assert width / height == pytest.approx(1.5)
    assert 45 < width < 60


def test_a_section_without_objects_has_no_masks(network, section):
    raw, labels = section
    assert run(network, (raw, np.zeros_like(labels)), settings()) == []


def test_a_prompted_model_finds_nothing_without_truth(tmp_path):
    prompts = {"kinds": ["box"], "distortions_px": [0.0], "points": 3, "multimask": "auto"}
    inference = {"prompts": prompts | {"seed": 0}}
    info = ModelInfo("sam", {}, ("foreground",), "mitochondria", 5.0, "", 32, 8, {}, inference)
    with pytest.raises(BenchError, match=r"\(oracle\) finds none by itself, .* mode=zero_shot"):
        refuse_without_truth(info, tmp_path / "best.safetensors")
