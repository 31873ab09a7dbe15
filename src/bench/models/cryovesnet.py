"""The weights that CryoVesNet publishes: Keras's HDF5, read by h5py and converted to a checkpoint.

Neither TensorFlow nor anything that the file says is run: layers and their order come from its
JSON, tensors from its arrays, and what is not the network of bench.models.unet3d is refused.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from bench.core.files import describe_absence
from bench.core.hashing import file_sha256
from bench.errors import BenchError, MissingFileError
from bench.models.checkpoint import ModelInfo, build_model
from bench.models.foreign import convert_once
from bench.models.unet3d import NORM_EPS
from bench.words import OurNetworks

_REPOSITORY = "Zuber-group/CryoVesNet"
_FILE = "cryovesnet/weights/weights.h5"
_SHA256 = "495748b7ad5daaa0f8895b49497798a9331a70ce84b3a227c7e387a930f15f37"
_LICENCE = (
    "its LICENSE is GPL-3, while setup.py says MIT and asks to confirm that, so that it is not "
    "brought along here"
)
# What the weights were trained on and are applied with: voxels, smoothing, window and halo.
_VOXEL_NM = 2.2
_SMOOTHING_PX = 1.0
_TILE_PX, _HALO_PX = 64, 20
# Arrays of a layer by the class that Keras names, in the order of ours.
_ARRAYS = {
    "Conv3D": {"kernel": "weight", "bias": "bias"},
    "BatchNormalization": {
        "gamma": "weight",
        "beta": "bias",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
    },
}
# What the settings of a layer must be where they are not read off the arrays.
_SETTINGS: dict[str, dict[str, Any]] = {
    "Conv3D": {"strides": [1, 1, 1], "dilation_rate": [1, 1, 1], "groups": 1},
    "BatchNormalization": {"epsilon": NORM_EPS, "axis": [4]},
    "Activation": {"activation": "relu"},
    "MaxPooling3D": {"pool_size": [2, 2, 2], "strides": [2, 2, 2]},
    "UpSampling3D": {"size": [2, 2, 2]},
    "Concatenate": {"axis": -1},
}
# From (z, y, x, in, out) to (out, in, z, y, x).
_KERNEL_AXES = (4, 3, 0, 1, 2)
# Without effect on a prediction.
_SILENT = ("InputLayer", "Dropout")


def convert_cryovesnet(path: Path, *, folder: Path) -> Path:
    """Converts a file of weights to our checkpoint, once; the next time it is only found.

    Args:
        path: The HDF5 file.
        folder: Where converted models are kept.

    Returns:
        Path of the checkpoint's weights.

    Raises:
        BenchError: If the file is missing, damaged or of another network.
    """
    if not path.is_file():
        raise _missing(path)
    sha256 = file_sha256(path)

    def convert() -> tuple[torch.nn.Module, ModelInfo]:
        arguments, weights = read_cryovesnet(path)
        network = build_model(OurNetworks.UNET3D, arguments)
        network.load_state_dict(weights)
        return network, _describe(arguments, sha256)

    return convert_once(folder / f"{sha256}-cryovesnet.safetensors", path, convert)


def _describe(arguments: dict[str, Any], sha256: str) -> ModelInfo:
    return ModelInfo(
        architecture=OurNetworks.UNET3D,
        arguments=arguments,
        outputs=("foreground",),
        structure="vesicles",
        input_pixel_size_nm=_VOXEL_NM,
        normalisation="volume",
        tile_px=_TILE_PX,
        halo_px=_HALO_PX,
        training={"source_sha256": sha256},
        inference={"smoothing_px": _SMOOTHING_PX},
        tile_planes=_TILE_PX,
        halo_planes=_HALO_PX,
        input_section_nm=_VOXEL_NM,
    )


def _missing(path: Path) -> MissingFileError:
    return MissingFileError(
        f"cryovesnet:FILE must name the weights of CryoVesNet, received {path}, "
        f"{describe_absence(path)}: put {_FILE} of the repository {_REPOSITORY} there (SHA-256 "
        f"{_SHA256}); {_LICENCE}",
        model="CryoVesNet",
        files=((f"{_REPOSITORY}: {_FILE}", str(path)),),
    )


def read_cryovesnet(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Reads the network of a file: its builder's arguments, and its tensors by our names.

    Raises:
        BenchError: If the file is damaged, or of another network.
    """
    try:
        with h5py.File(path) as file:
            return _read(path, file)
    except BenchError:
        raise
    except OSError as error:
        raise _refuse(path, "is not HDF5, or cannot be read") from error
    except Exception as error:  # Whatever a damaged or malicious file leads to.
        raise _refuse(path, f"is damaged ({type(error).__name__}: {error})") from error


def _refuse(path: Path, reason: str) -> BenchError:
    return BenchError(
        f"cryovesnet:FILE must be a 3D U-Net as CryoVesNet publishes it, in the HDF5 of Keras 2; "
        f"{path} {reason}: take {_FILE} of {_REPOSITORY} (SHA-256 {_SHA256})"
    )


def _read(path: Path, file: h5py.File) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    for needed, place in (("model_weights", file), ("model_config", file.attrs)):
        if needed not in place:
            raise _refuse(path, f"has no {needed}")
    layers = json.loads(file.attrs["model_config"])["config"]["layers"]
    everything = layers
    layers = [layer for layer in layers if layer["class_name"] not in _SILENT]
    depth = sum(layer["class_name"] == "MaxPooling3D" for layer in layers)
    _check_kinds(path, layers, depth)
    _check_joints(path, everything)
    for layer in layers:
        _check_settings(path, layer, last=layer is layers[-1])
    arrays = [
        _find_arrays(path, file["model_weights"], layer)
        for layer in layers
        if layer["class_name"] in _ARRAYS
    ]
    features = int(arrays[0]["weight"].shape[-1])
    arguments = {"in_channels": 1, "out_channels": 1, "depth": depth, "features": features}
    return arguments, dict(_convert(path, arrays, arguments))


def _check_joints(path: Path, layers: list[dict[str, Any]]) -> None:
    """Refuses layers of which one takes another input than the layer before it.

    Two levels are joined in the order of ours: the coarser one, then the finer one as pooled.
    """
    pooled = []
    for before, layer in itertools.pairwise(layers):
        (inputs,) = layer["inbound_nodes"]
        names = [each[0] for each in inputs]
        expected = [before["config"]["name"]]
        if layer["class_name"] == "MaxPooling3D":
            pooled += expected
        if layer["class_name"] == "Concatenate":
            expected.append(pooled.pop())
        if names != expected:
            raise _refuse(path, f"joins {', '.join(names)} in {layer['config']['name']}")


def _check_kinds(path: Path, layers: list[dict[str, Any]], depth: int) -> None:
    """Refuses other layers than those of our network, or in another order."""
    block = ["Conv3D", "BatchNormalization", "Activation"] * 2
    up = ["UpSampling3D", "Concatenate", *block]
    expected = [*[*block, "MaxPooling3D"] * depth, *block, *up * depth, "Conv3D"]
    kinds = [layer["class_name"] for layer in layers]
    if not depth or kinds != expected:
        raise _refuse(path, f"has other layers ({', '.join(kinds)[:99]})")


def _check_settings(path: Path, layer: dict[str, Any], *, last: bool) -> None:
    """Refuses a layer that would be computed otherwise with the same arrays."""
    settings, wanted = layer["config"], dict(_SETTINGS[layer["class_name"]])
    if layer["class_name"] == "Conv3D":
        wanted["activation"] = "sigmoid" if last else "linear"
        wanted["kernel_size"] = [1, 1, 1] if last else [3, 3, 3]
        if not last:
            wanted["padding"] = "same"
    for key, value in wanted.items():
        if settings.get(key, value) != value:
            raise _refuse(path, f"has {key}={settings[key]} in the layer {settings['name']}")


def _find_arrays(path: Path, group: h5py.Group, layer: dict[str, Any]) -> dict[str, h5py.Dataset]:
    """The arrays of a layer by the names of ours; none is read yet."""
    name, names = layer["config"]["name"], _ARRAYS[layer["class_name"]]
    found: dict[str, h5py.Dataset] = {}

    def collect(place: str, item: h5py.Dataset | h5py.Group) -> None:
        # down_level_0_no_0/kernel:0
        kind = place.rpartition("/")[2].partition(":")[0]
        if isinstance(item, h5py.Dataset) and kind in names:
            found[names[kind]] = item

    group[name].visititems(collect)
    if missing := set(names.values()) - set(found):
        raise _refuse(path, f"lacks {', '.join(sorted(missing))} in the layer {name}")
    return found


def _convert(
    path: Path, arrays: list[dict[str, h5py.Dataset]], arguments: dict[str, Any]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yields the tensors of the network, whose layers have the order of the file's."""
    with torch.device("meta"):
        expected = build_model(OurNetworks.UNET3D, arguments).state_dict()
    layers = iter(arrays)
    current: dict[str, h5py.Dataset] = {}
    for name, tensor in expected.items():
        kind = name.rpartition(".")[2]
        if kind == "num_batches_tracked":
            yield name, torch.zeros((), dtype=tensor.dtype)
            continue
        # The first tensor of a layer.
        if kind == "weight":
            current = next(layers)
        array, axes = current[kind], tuple(range(tensor.ndim))
        if tensor.ndim == 5:
            axes = _KERNEL_AXES
        shape = tuple(array.shape[axis] for axis in axes) if array.ndim == tensor.ndim else ()
        if shape != tuple(tensor.shape):
            raise _refuse(path, f"has {array.name} of the shape {array.shape} for {name}")
        values = np.asarray(array[()], dtype=np.float32).transpose(axes)
        if not np.isfinite(values).all():
            raise _refuse(path, f"has numbers that are not finite in {array.name}")
        yield name, torch.from_numpy(np.ascontiguousarray(values))
