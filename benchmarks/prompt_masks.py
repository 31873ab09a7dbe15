"""Masks for 1,000 boxes on one section: ours beside micro_sam's batched_inference.

The embedding is there on both sides, and the masks end as one label image. The network is of SAM's
size in all that decodes prompts (1024 px, tokens of 64 x 64); its image encoder is small, as it is
not timed. Weights are random: their masks cover half of the section and more, so what ours saves
on small masks does not show. Agreement: masks of both, pixel by pixel, for the first prompts.

    PYTHONPATH=src python benchmarks/prompt_masks.py [--prompts 1000]
"""

import argparse

import numpy as np
import torch
from measuring import Line, report, time_in_turns
from micro_sam.inference import batched_inference
from segment_anything import SamPredictor

from bench.inference.sam.embeddings import embed_window
from bench.inference.sam.prompts import Prompts, paint_prompted, prompt_window
from bench.models.sam import build_sam

EDGE, COMPARED = 1024, 24
# As micro_sam's own evaluation does.
PEERS_BATCH = 32


def make_network():
    """SAM's prompt encoder and mask decoder, and one block of its image encoder."""
    torch.manual_seed(0)
    return build_sam(
        image_px=EDGE,
        patch_px=16,
        depth=1,
        embed_dim=768,
        heads=12,
        mlp_dim=768,
        window=14,
        global_blocks=[],
        masks=3,
        decoder_features=0,
        transposed=False,
    ).eval()


def draw_boxes(count: int) -> np.ndarray:
    """Boxes of 20 to 80 px anywhere in the section."""
    random = np.random.default_rng(0)
    sides = random.uniform(20, 80, (count, 2))
    corners = random.uniform(0, EDGE - sides)
    return np.concatenate([corners, corners + sides], axis=1)


def compare_masks(network, predictor, embedding, boxes) -> str:
    """Tells how many pixels of the masks of both differ."""
    ours = prompt_window(network, embedding, Prompts(boxes))
    theirs = batched_inference(
        predictor, None, PEERS_BATCH, boxes, return_instance_segmentation=False
    )
    apart = lit = 0
    for mask, other in zip(ours, theirs, strict=True):
        whole = np.zeros((EDGE, EDGE), dtype=bool)
        whole[mask.box.slices] = mask.pixels()
        wanted = other["segmentation"].numpy()
        apart += np.count_nonzero(whole != wanted)
        lit += np.count_nonzero(wanted)
    return f"masks of {len(boxes)} prompts: {apart} of {lit} pixels differ"


def main() -> None:
    """Measures one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    network = make_network()
    predictor = SamPredictor(network.sam)
    image = np.random.default_rng(0).integers(0, 255, (EDGE, EDGE)).astype(np.uint8)
    with torch.inference_mode():
        embedding = embed_window(predictor, image)
    boxes = draw_boxes(options.prompts)
    agreement = compare_masks(network, predictor, embedding, boxes[:COMPARED])
    ways = {
        "ours": lambda: paint_prompted(
            prompt_window(network, embedding, Prompts(boxes)), (EDGE, EDGE)
        ),
        "peer": lambda: batched_inference(predictor, None, PEERS_BATCH, boxes),
    }
    seconds, _ = time_in_turns(ways, repeats=options.repeats, warm_up=False)
    line = Line(
        path="masks for prompts",
        size=f"{EDGE} x {EDGE}, {options.prompts:,} boxes",
        ours_s=seconds["ours"],
        peer="micro_sam batched_inference",
        peer_s=seconds["peer"],
        goal=1.5,
        agreement=agreement,
        limit=f"{1000 * seconds['ours'] / options.prompts:.3g} ms a prompt",
    )
    report(__file__, [line])


if __name__ == "__main__":
    main()
