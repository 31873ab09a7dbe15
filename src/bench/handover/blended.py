"""The models of a recipe as one torch module, of nothing but operations that TorchScript has."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from bench.inference.blends import MAXIMUM, MEAN, Blend
from bench.inference.symmetries import IDENTITY

_Turn = Callable[[torch.Tensor], torch.Tensor]

_turn: _Turn = partial(torch.rot90, k=1, dims=(-2, -1))
_turn_back: _Turn = partial(torch.rot90, k=-1, dims=(-2, -1))


def _keep(image: torch.Tensor) -> torch.Tensor:
    return image


def _transpose(image: torch.Tensor) -> torch.Tensor:
    return image.transpose(-2, -1)


def _flip(image: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    return image.flip(dims)


def _antitranspose(image: torch.Tensor) -> torch.Tensor:
    return image.flip((-2, -1)).transpose(-2, -1)


_both, _y, _x = (partial(_flip, dims=dims) for dims in ((-2, -1), (-2,), (-1,)))
# Those of bench.inference.symmetries on tensors: there and back.
TENSOR_SYMMETRIES: dict[str, tuple[_Turn, _Turn]] = {
    IDENTITY: (_keep, _keep),
    "rot90": (_turn, _turn_back),
    "rot180": (_both, _both),
    "rot270": (_turn_back, _turn),
    "flip_y": (_y, _y),
    "flip_x": (_x, _x),
    "transpose": (_transpose, _transpose),
    "antitranspose": (_antitranspose, _antitranspose),
}


class BlendedNetwork(torch.nn.Module):
    """Models, averaged over symmetries and made one as a blend says.

    From normalised windows (batch, 1, y, x), which are square, to probabilities (batch, maps, y,
    x): the foreground, and the boundary where all models have one.
    """

    def __init__(
        self,
        networks: Sequence[torch.nn.Module],
        blend: Blend,
        *,
        foregrounds: Sequence[int],
        boundaries: Sequence[int] | None,
        classes: Sequence[bool],
    ) -> None:
        """Joins networks, which are kept as they are.

        Args:
            networks: From windows to logits.
            blend: How their maps become one.
            foregrounds: The channel of the structure, of each.
            boundaries: That of the boundary, of each; None where not all have one.
            classes: Whether a pixel is of one channel, of each: a softmax in place of a sigmoid.
        """
        super().__init__()
        self.networks = torch.nn.ModuleList(networks)
        self._blend = blend
        self._channels = [foregrounds] + ([] if boundaries is None else [boundaries])
        self._classes = classes

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Predicts windows."""
        means = [
            self._average(network, image, classes=classes)
            for network, classes in zip(self.networks, self._classes, strict=True)
        ]
        maps = [
            self._join([mean[:, c : c + 1] for mean, c in zip(means, channels, strict=True)], rule)
            for channels, rule in zip(self._channels, (self._blend.ensemble, MEAN), strict=False)
        ]
        return torch.cat(maps, dim=1)

    def _average(
        self, network: torch.nn.Module, image: torch.Tensor, *, classes: bool
    ) -> torch.Tensor:
        """The mean of a model's probabilities over the symmetries."""
        found = []
        for there, back in (TENSOR_SYMMETRIES[name] for name in self._blend.augmentations):
            logits = network(there(image)).float()
            found.append(back(logits.softmax(1) if classes else torch.sigmoid(logits)))
        return torch.stack(found).mean(0)

    def _join(self, maps: list[torch.Tensor], rule: str) -> torch.Tensor:
        stacked = torch.stack(maps)
        if rule == MEAN:
            weights = stacked.new_tensor(self._blend.weights).reshape(-1, 1, 1, 1, 1)
            return (stacked * weights).sum(0) / sum(self._blend.weights)
        if rule == MAXIMUM:
            return stacked.amax(0)
        return stacked.sort(0).values[(len(maps) - 1) // 2]
