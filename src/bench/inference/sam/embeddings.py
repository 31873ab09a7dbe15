"""What SAM's image encoder makes of an image: computed once for every image and encoder.

The image encoder takes nearly all of SAM's time. What it makes depends on the image and the
encoder's weights alone: methods that share an encoder, such as SAM as it is and SAM trained with
a frozen encoder, share embeddings.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from bench.core.hashing import json_sha256
from bench.inference.sam.embedding_store import EmbeddingStore
from bench.models.sam import SamNetwork

# How an image becomes the encoder's input: inference resizes 8 bits, training resizes floats.
_RESIZED_8_BIT, RESIZED_FLOAT = "resized as 8 bits", "resized as floats"


def embed_window(predictor: Any, window: np.ndarray) -> dict[str, Any]:
    """Embeds a window (y, x) uint8 in the form that micro_sam takes.

    micro_sam's own function stretches the contrast of every window by its darkest and brightest
    pixel; in training it does not. Here both see the section's contrast.
    """
    predictor.set_image(np.repeat(window[..., None], 3, axis=2))
    return {
        "features": predictor.get_image_embedding(),
        "input_size": predictor.input_size,
        "original_size": predictor.original_size,
    }


class KeptEncoder:
    """The image encoder of a SAM with the embeddings that were kept of it.

    Its weights must not change as long as it is used.

    Attributes:
        network: The network, on its device.
    """

    def __init__(self, network: SamNetwork, store: EmbeddingStore | None) -> None:
        """Takes both; without a store all is computed."""
        self.network = network
        self._store = store
        self._digest = ""

    def embed(self, window: np.ndarray) -> dict[str, Any]:
        """Embeds a window (y, x) uint8 as ``embed_window`` does, or finds what that gave."""
        from segment_anything import SamPredictor

        predictor = SamPredictor(self.network.sam)
        scaled = predictor.transform.get_preprocess_shape(
            *window.shape, predictor.transform.target_length
        )
        features = self.find(
            window, _RESIZED_8_BIT, "fp32", lambda: embed_window(predictor, window)["features"]
        )
        return {"features": features, "input_size": scaled, "original_size": window.shape}

    def find(
        self, image: np.ndarray, how: str, precision: str, compute: Callable[[], torch.Tensor]
    ) -> torch.Tensor:
        """Finds the embedding of an image, or computes and keeps it.

        Args:
            image: Of any shape and type.
            how: How it becomes the encoder's input.
            precision: Of the computation.
            compute: Computes it.

        Returns:
            The embedding (1, channels, y, x) on the network's device.
        """
        if self._store is None:
            return compute()
        key = self._name(image, how, precision)
        found = self._store.read(key)
        if found is not None:
            return found.to(self.network.sam.device)
        features = compute()
        self._store.keep(key, features)
        return features

    def _name(self, image: np.ndarray, how: str, precision: str) -> str:
        """The hash of all that determines an embedding to the last bit, but the threads."""
        self._digest = self._digest or hash_encoder(self.network)
        device = self.network.sam.device
        pixels = hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
        return json_sha256(
            {
                "encoder": self._digest,
                "image": [pixels, list(image.shape), str(image.dtype)],
                "how": [how, precision, torch.__version__],
                "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            }
        )


def embedding_bytes(network: SamNetwork) -> int:
    """Bytes of an embedding in fp32, whatever the image."""
    channels, height, width = network.sam.prompt_encoder.get_dense_pe().shape[1:]
    return int(torch.float32.itemsize * channels * height * width)


def hash_encoder(network: SamNetwork) -> str:
    """SHA-256 of all tensors of the image encoder, and of what images are normalised by."""
    sam = network.sam
    digest = hashlib.sha256()
    tensors = sam.image_encoder.state_dict() | {"mean": sam.pixel_mean, "std": sam.pixel_std}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        # The numbers in their order, whatever the layout in memory.
        digest.update(tensor.detach().cpu().float().numpy().tobytes())
    # The shapes of attention windows are in no tensor.
    windows = [getattr(block, "window_size", None) for block in sam.image_encoder.blocks]
    digest.update(repr(windows).encode())
    return digest.hexdigest()
