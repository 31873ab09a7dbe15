"""YOLO (Redmon et al. 2016) as ultralytics builds it, with its loss, as a detector of ours.

The package is AGPL-3.0 and optional: bench.models.outside.ultralytics imports it. Its trainer, data
sets, settings and downloads are not used.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from torchvision.ops import box_convert, clip_boxes_to_image, nms

from bench.errors import BenchError
from bench.models.detection.detector import LEAST_BOX_SCORE, MOST_BOXES, SAME_BOX_IOU, Detector
from bench.models.outside.ultralytics import Ultralytics, import_ultralytics
from bench.models.pickles import attributes_of, read_inert

# The grey image is repeated, so that tensors have the shapes of published ones.
_CHANNELS = 3
# The coarsest map has one place for so many px along a side.
_STRIDE = 32


class _Yolo(Detector):
    """YOLO of one kind of object, for grey images that are standardised before, of any size.

    Attributes:
        network: The network, whose tensors have the names of a published one.
    """

    def __init__(self, package: Ultralytics, family: str, scale: str) -> None:
        """Builds it with random weights.

        Args:
            package: What builds it.
            family: Description of the network, such as ``11/yolo11``.
            scale: How deep and wide it is.
        """
        super().__init__()
        described = {**package.describe(family, scale), "nc": 1}
        self.network = package.detection_model(described, ch=_CHANNELS, verbose=False)
        self.network.args = package.gains
        self._package = package

    def measure(
        self, images: torch.Tensor, boxes: Sequence[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The losses of a batch: where the sides are, twice, and whether there is an object.

        Args and result are those of ``Detector``.

        Raises:
            BenchError: If there is nothing to normalise over: one patch of one place.
        """
        fed = _pad(images)
        rows, columns = fed.shape[2:]
        if len(fed) * rows * columns <= _STRIDE**2:
            raise BenchError(
                f"yolo normalises over more than one patch of {_STRIDE} px, received a batch of "
                f"{len(fed)} of {rows} x {columns} px: raise batch_size or patch_px"
            )
        predicted = self._predict(fed)
        numbers = [torch.full((len(each),), n) for n, each in enumerate(boxes)]
        corners, size = torch.cat(list(boxes)).float(), fed.new_tensor([columns, rows])
        given = {
            "batch_idx": torch.cat(numbers).to(fed.device),
            "cls": torch.zeros(len(corners), device=fed.device),
            "bboxes": box_convert(corners, "xyxy", "cxcywh") / size.repeat(2),
        }
        loss = self._package.detection_loss(self.network)
        with torch.autocast(fed.device.type, enabled=False):
            # It is multiplied by the patches of a batch, which ours is not.
            parts = loss(predicted, given)[0] / len(fed)
        names = [name.removesuffix("_loss") for name in loss.loss_names]
        return dict(zip(names, parts, strict=True))

    def find(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Boxes (n, 4) and scores (n) of every standardised image of (batch, 1, y, x)."""
        predicted = self._predict(_pad(images))
        loss = self._package.detection_loss(self.network)
        with torch.autocast(images.device.type, enabled=False):
            points, strides = self._package.make_anchors(predicted["feats"], loss.stride, 0.5)
            boxes = loss.bbox_decode(points, predicted["boxes"].transpose(1, 2).contiguous())
            scores = predicted["scores"][:, 0].sigmoid()
            sides = (images.shape[2], images.shape[3])
            return [
                _choose(clip_boxes_to_image(of_image, sides), sure)
                for of_image, sure in zip(boxes * strides, scores, strict=True)
            ]

    @staticmethod
    def read_published(path: Path) -> dict[str, torch.Tensor]:
        """Reads the tensors of a file (.pt) of ultralytics, which is a pickle; none of it is run.

        Raises:
            BenchError: If it is no such file.
        """
        content = read_inert(path)
        kept = content if isinstance(content, dict) else {}
        tensors = dict(_collect(kept.get("ema") or kept.get("model"), "network."))
        if not tensors:
            raise BenchError(
                f"{path} must hold a network of ultralytics as model or ema, received something "
                "else: give a file that it publishes or trained"
            )
        return tensors

    def _predict(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the network gives before it is decoded, in fp32: a place does not fit into bf16."""
        found = self.network(images.expand(-1, _CHANNELS, -1, -1))
        raw = found if self.training else found[1]
        return {
            "boxes": raw["boxes"].float(),
            "scores": raw["scores"].float(),
            "feats": [each.float() for each in raw["feats"]],
        }


def _pad(images: torch.Tensor) -> torch.Tensor:
    """Adds to images, below and to the right, what they are smaller than whole strides."""
    rows, columns = (-side % _STRIDE for side in images.shape[2:])
    return functional.pad(images, (0, columns, 0, rows))


def _choose(boxes: torch.Tensor, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Those of a score, of those that overlap the best, the best first."""
    sure = scores > LEAST_BOX_SCORE
    boxes, scores = boxes[sure], scores[sure]
    kept = nms(boxes, scores, SAME_BOX_IOU)[:MOST_BOXES]
    return boxes[kept], scores[kept]


def _collect(module: Any, prefix: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a module that a pickle describes, by name, in fp32."""
    inside = attributes_of(module)
    for name, tensor in {**inside.get("_parameters", {}), **inside.get("_buffers", {})}.items():
        if isinstance(tensor, torch.Tensor):
            yield f"{prefix}{name}", tensor.float() if tensor.is_floating_point() else tensor
    for name, child in inside.get("_modules", {}).items():
        yield from _collect(child, f"{prefix}{name}.")


def build_yolo(*, family: str, scale: str) -> _Yolo:
    """A YOLO of one kind of object with random weights.

    Args:
        family: Description of the network, such as ``11/yolo11``.
        scale: How deep and wide it is: ``n``, ``s``.
    """
    return _Yolo(import_ultralytics(), family, scale)
