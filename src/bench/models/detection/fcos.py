"""FCOS, a detector without anchors (Tian et al. 2019), of torchvision: small, and as published."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.fcos import FCOS, FCOSHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from bench.errors import BenchError
from bench.models.detection.detector import LEAST_BOX_SCORE, MOST_BOXES, SAME_BOX_IOU, Detector

# Strides of the small network's levels.
_SMALL_STRIDES = (8, 16, 32)
# How far the sides of a box are from its middle at first, in strides.
_START_DISTANCE = 2.0
# Its head has fewer convolutions than the published four.
_SMALL_CONVS = 2
# Channels are normalised in groups of so many.
_GROUP = 8
# torchvision's head normalises in 32 groups.
_PYRAMID_CHANNELS = 64
_RESNET_CHANNELS = 256


class _AsItIs(GeneralizedRCNNTransform):  # type: ignore[misc]
    """Batches images and leaves them as they are."""

    def resize(self, image: torch.Tensor, target: Any = None) -> tuple[torch.Tensor, Any]:
        """Resizes nothing, neither in training nor later: an image is at its pixel size."""
        return image, target


class Fcos(Detector, FCOS):  # type: ignore[misc]
    """FCOS of one kind of object, for grey images that are standardised before, of any size.

    torchvision's own would scale every image to 800 px, shift it by ImageNet's mean, and find no
    more than 100 objects.

    Attributes:
        channels: How often the grey image is repeated.
    """

    def __init__(
        self, backbone: nn.Module, *, channels: int, strides: Sequence[int], head: FCOSHead
    ) -> None:
        """Takes a backbone that gives one map per stride."""
        sizes = tuple((stride,) for stride in strides)
        super().__init__(
            backbone,
            num_classes=1,
            anchor_generator=AnchorGenerator(sizes, ((1.0,),) * len(sizes)),
            head=head,
            score_thresh=LEAST_BOX_SCORE,
            nms_thresh=SAME_BOX_IOU,
            detections_per_img=MOST_BOXES,
            topk_candidates=2 * MOST_BOXES,
        )
        self.transform = _AsItIs(1, 1, [0.0] * channels, [1.0] * channels)
        self.channels = channels
        # torchvision starts at a distance of 0, below which its ReLU has no gradient: half of the
        # places would not learn at all for a while.
        nn.init.constant_(head.regression_head.bbox_reg.bias, _START_DISTANCE)

    def measure(
        self, images: torch.Tensor, boxes: Sequence[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """The losses of a batch: whether there is an object, where its sides are, where its middle.

        Args and result are those of ``Detector``.
        """
        targets = [
            {"boxes": each, "labels": torch.zeros(len(each), dtype=torch.int64, device=each.device)}
            for each in boxes
        ]
        losses: dict[str, torch.Tensor] = self(list(self._repeat(images)), targets)
        return losses

    def find(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Boxes (n, 4) and scores (n) of every standardised image of (batch, 1, y, x)."""
        return [(each["boxes"], each["scores"]) for each in self(list(self._repeat(images)))]

    @staticmethod
    def read_published(path: Path) -> dict[str, torch.Tensor]:
        """Reads the tensors of torchvision's file of a detector; no code in it is run.

        Raises:
            BenchError: If it is no such file.
        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise BenchError(
                f"{path} must be a file of tensors by name, as torchvision publishes weights, it "
                f"does not read ({str(error).splitlines()[0][:120]}): give such a file"
            ) from error
        tensors = content if isinstance(content, dict) else {}
        if not tensors or not all(isinstance(t, torch.Tensor) for t in tensors.values()):
            raise BenchError(f"{path} must hold tensors by name, received something else")
        return tensors

    def _repeat(self, images: torch.Tensor) -> torch.Tensor:
        return images.expand(-1, self.channels, -1, -1)


class _SmallBackbone(nn.Module):
    """Convolutions that halve the image five times, and a pyramid over the last three."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.out_channels = _PYRAMID_CHANNELS
        widths = [features * factor for factor in (1, 2, 3, 4)]
        self.stem = _block(1, features)
        self.stages = nn.ModuleList(
            _block(before, after)
            for before, after in zip([features, *widths[:-1]], widths, strict=True)
        )
        self.pyramid = FeaturePyramidNetwork(widths[1:], _PYRAMID_CHANNELS)

    def forward(self, image: torch.Tensor) -> OrderedDict[str, torch.Tensor]:
        """Maps of all strides, the finest first."""
        maps, seen = OrderedDict(), self.stem(image)
        for number, stage in enumerate(self.stages):
            seen = stage(seen)
            if number:
                maps[str(number)] = seen
        pyramid: OrderedDict[str, torch.Tensor] = self.pyramid(maps)
        return pyramid


def _block(before: int, after: int) -> nn.Sequential:
    """Two convolutions, of which the first halves the sides."""
    layers: list[nn.Module] = []
    for channels, stride in ((before, 2), (after, 1)):
        layers += [
            nn.Conv2d(channels, after, 3, stride=stride, padding=1, bias=False),
            nn.GroupNorm(after // _GROUP, after),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def build_fcos_small(*, features: int) -> Fcos:
    """A detector that learns on a CPU in minutes.

    Args:
        features: Of the first level, a multiple of 8; the fourth has four times as many.

    Raises:
        ValueError: If it is no multiple of 8.
    """
    if features % _GROUP:
        raise ValueError(f"features must be a multiple of {_GROUP}, received {features}")
    head = FCOSHead(_PYRAMID_CHANNELS, 1, 1, _SMALL_CONVS)
    return Fcos(_SmallBackbone(features), channels=1, strides=_SMALL_STRIDES, head=head)


def build_fcos_resnet50() -> Fcos:
    """Torchvision's ``fcos_resnet50_fpn`` by shape and names of tensors, with random weights."""
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        trainable_layers=5,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(_RESNET_CHANNELS, _RESNET_CHANNELS),
        norm_layer=nn.BatchNorm2d,
    )
    head = FCOSHead(_RESNET_CHANNELS, 1, 1)
    return Fcos(backbone, channels=3, strides=(8, 16, 32, 64, 128), head=head)
