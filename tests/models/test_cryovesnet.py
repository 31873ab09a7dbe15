"""CryoVesNet's weights in Keras's HDF5, against an interpreter of that file in numpy."""

import itertools
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from bench.core.hashing import file_sha256
from bench.errors import BenchError, MissingFileError
from bench.models.checkpoint import load_checkpoint
from bench.models.cryovesnet import convert_cryovesnet, read_cryovesnet

SHARED = Path(__file__).parents[3] / "shared" / "data" / "cryovesnet"

PUBLISHED_LAYERS = ("Conv3D", "BatchNormalization", "Activation", "Dropout")


POSITIVE = ("gamma", "moving_variance")


class Graph:
    """Layers as ``model_config`` lists them: the shape of CryoVesNet's own network."""

    def __init__(self, depth, features, dropout=True):
        self.layers, self.shapes = [], {}
        self.kinds = PUBLISHED_LAYERS if dropout else PUBLISHED_LAYERS[:3]
        last = self.add("InputLayer", None)
        skips, channels = [], 1
        for level in range(depth):
            wide = features * 2**level
            last = self.block(last, channels, wide, wide)
            channels = wide
            skips.append(last)
            last = self.add("MaxPooling3D", [last], pool_size=[2, 2, 2], strides=[2, 2, 2])
        last = self.block(last, channels, features * 2**depth, features * 2 ** (depth - 1))
        for level in reversed(range(depth)):
            wide = features * 2**level
            up = self.add("UpSampling3D", [last], size=[2, 2, 2])
            last = self.add("Concatenate", [up, skips.pop()], axis=-1)
            last = self.block(last, 2 * wide, wide, wide // 2 if level else wide)
        self.convolve(last, features, 1, 1, "sigmoid")

    def add(self, kind, inputs, **config):
        name = f"layer_{len(self.layers)}"
        nodes = [[[each, 0, 0, {}] for each in inputs]] if inputs else []
        config = {"name": name, **config}
        self.layers.append({"class_name": kind, "config": config, "inbound_nodes": nodes})
        return name

    def convolve(self, last, before, after, edge, activation="linear"):
        name = self.add(
            *("Conv3D", [last]),
            **{"kernel_size": [edge] * 3, "padding": "same", "activation": activation},
            **{"strides": [1, 1, 1], "dilation_rate": [1, 1, 1]},
        )
        self.shapes[name] = {"kernel": (edge, edge, edge, before, after), "bias": (after,)}
        return name

    def block(self, last, *channels):
        for before, after in itertools.pairwise(channels):
            last = self.convolve(last, before, after, 3)
            last = self.add("BatchNormalization", [last], epsilon=1e-3, axis=[4])
            names = ("gamma", "beta", "moving_mean", "moving_variance")
            self.shapes[last] = dict.fromkeys(names, (after,))
            last = self.add("Activation", [last], activation="relu")
            if "Dropout" in self.kinds:
                last = self.add("Dropout", [last], rate=0.2)
        return last

    def write(self, path, seed=0):
        random = np.random.default_rng(seed)
        with h5py.File(path, "w") as file:
            config = {"class_name": "Functional", "config": {"layers": self.layers}}
            file.attrs["model_config"] = json.dumps(config)
            for name, shapes in self.shapes.items():
                for kind, shape in shapes.items():
                    values = random.normal(0, 1.5 / np.sqrt(np.prod(shape[:-1])), shape)
                    if kind != "kernel":
                        values = random.uniform(0.5, 1, shape) if kind in POSITIVE else 0.1 * values
                    key = f"model_weights/{name}/{name}/{kind}:0"
                    file[key] = values.astype(np.float32)
        return path


def run_keras(path, volume):
    """Interprets a file layer by layer: probabilities of a normalised volume (z, y, x)."""
    with h5py.File(path) as file:
        layers = json.loads(file.attrs["model_config"])["config"]["layers"]
        arrays = {}
        for name, group in file["model_weights"].items():
            found = arrays.setdefault(name, {})

            def collect(place, item, found=found):
                if isinstance(item, h5py.Dataset):
                    found[place.split("/")[-1].split(":")[0]] = item[()].astype(np.float64)

            group.visititems(collect)
    results = {}
    for layer in layers:
        name = layer["config"]["name"]
        given = [results[node[0]] for nodes in layer["inbound_nodes"] for node in nodes]
        results[name] = run_layer(layer, given or [volume[..., None]], arrays.get(name, {}))
    return results[layers[-1]["config"]["name"]][..., 0]


def run_layer(layer, given, arrays):
    """One layer of images (z, y, x, channels)."""
    kind, config, image = layer["class_name"], layer["config"], given[0]
    if kind == "Conv3D":
        kernel = arrays["kernel"]
        margin = [(edge // 2, edge // 2) for edge in kernel.shape[:3]]
        padded, (depth, height, width) = np.pad(image, [*margin, (0, 0)]), image.shape[:3]
        image = arrays["bias"] + sum(
            padded[z : z + depth, y : y + height, x : x + width] @ kernel[z, y, x]
            for z, y, x in np.ndindex(kernel.shape[:3])
        )
        return 1 / (1 + np.exp(-image)) if config["activation"] == "sigmoid" else image
    if kind == "BatchNormalization":
        scale = arrays["gamma"] / np.sqrt(arrays["moving_variance"] + config["epsilon"])
        return (image - arrays["moving_mean"]) * scale + arrays["beta"]
    if kind == "Activation":
        return np.maximum(image, 0)
    if kind == "MaxPooling3D":
        z, y, x, channels = image.shape
        blocks = image.reshape(z // 2, 2, y // 2, 2, x // 2, 2, channels)
        return blocks.max(axis=(1, 3, 5))
    if kind == "UpSampling3D":
        return image.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    if kind == "Concatenate":
        return np.concatenate(given, axis=-1)
    return image


@pytest.fixture(scope="module")
def volume():
    return np.random.default_rng(1).normal(size=(8, 8, 16)).astype(np.float32)


def probability(checkpoint, volume):
    network, _ = load_checkpoint(checkpoint)
    with torch.no_grad():
        return torch.sigmoid(network.eval()(torch.from_numpy(volume)[None, None]))[0, 0].numpy()


@pytest.mark.parametrize(
    ("depth", "features", "dropout"), [(1, 4, True), (2, 4, False), (3, 2, True)]
)
def test_a_file_predicts_what_keras_does(tmp_path, volume, depth, features, dropout):
    path = Graph(depth, features, dropout).write(tmp_path / "weights.h5")
    arguments, _ = read_cryovesnet(path)
    assert arguments == {"in_channels": 1, "out_channels": 1, "depth": depth, "features": features}
    found = probability(convert_cryovesnet(path, folder=tmp_path / "converted"), volume)
    expected = run_keras(path, volume)
    assert expected.std() > 1e-3
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("name", ["weights.h5", "weights_v1.h5"])
def test_the_published_weights_predict_what_keras_does(tmp_path, volume, name):
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"needs {name} of Zuber-group/CryoVesNet in ../shared/data/cryovesnet")
    checkpoint = convert_cryovesnet(path, folder=tmp_path)
    network, info = load_checkpoint(checkpoint)
    assert sum(part.numel() for part in network.parameters()) == 250_097
    assert (info.architecture, info.normalisation, info.structure) == (
        *("unet3d", "volume", "vesicles"),
    )
    assert (info.input_section_nm, info.input_pixel_size_nm) == (2.2, 2.2)
    assert (info.tile_px, info.halo_px, info.tile_planes, info.halo_planes) == (64, 20, 64, 20)
    assert info.inference == {"smoothing_px": 1.0}
    assert info.training == {"source_sha256": file_sha256(path)}
    # A vesicle: a dark membrane around what is brighter.
    radius = np.linalg.norm(np.mgrid[:24, :24, :24] - 11.5, axis=0)
    ball = np.where(abs(radius - 8) < 1.5, -2.5, 0.4).astype(np.float32)
    expected = run_keras(path, ball)
    assert expected[11, 11, 11] > 0.9 > 0.2 > expected[0, 0, 0]
    assert np.abs(probability(checkpoint, ball) - expected).max() < 1e-5


def test_a_file_is_converted_once(tmp_path, monkeypatch):
    path = Graph(1, 2).write(tmp_path / "weights.h5")
    first = convert_cryovesnet(path, folder=tmp_path / "converted")
    monkeypatch.setattr("bench.models.cryovesnet.read_cryovesnet", None)
    assert convert_cryovesnet(path, folder=tmp_path / "converted") == first


def test_a_missing_file_is_said_with_what_to_fetch(tmp_path):
    wanted = tmp_path / "weights.h5"
    with pytest.raises(MissingFileError) as error:
        convert_cryovesnet(wanted, folder=tmp_path)
    message = str(error.value)
    assert "\n" not in message
    for part in (
        *("Zuber-group/CryoVesNet", "cryovesnet/weights/weights.h5", "GPL-3", "MIT", str(wanted)),
        "495748b7ad5daaa0f8895b49497798a9331a70ce84b3a227c7e387a930f15f37",
    ):
        assert part in message
    assert error.value.files[0][1] == str(wanted)


def refuses(path, message):
    with pytest.raises(BenchError, match=message) as error:
        read_cryovesnet(path)
    assert "\n" not in str(error.value)
    assert "take cryovesnet/weights/weights.h5 of Zuber-group/CryoVesNet" in str(error.value)


def test_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "weights.h5"
    path.write_bytes(b"no HDF5 at all" * 99)
    refuses(path, "is not HDF5, or cannot be read")
    with h5py.File(path, "w") as file:
        file["raw"] = np.zeros(3)
    refuses(path, "has no model_weights")
    with h5py.File(path, "w") as file:
        file.create_group("model_weights")
    refuses(path, "has no model_config")
    with h5py.File(path, "w") as file:
        file.create_group("model_weights")
        file.attrs["model_config"] = "{no JSON"
    refuses(path, "is damaged")


def change(path, edit):
    """Changes the layers of a file."""
    with h5py.File(path, "a") as file:
        config = json.loads(file.attrs["model_config"])
        edit(config["config"]["layers"])
        file.attrs["model_config"] = json.dumps(config)


def first_of(layers, kind):
    return next(layer for layer in layers if layer["class_name"] == kind)


def set_of(kind, **settings):
    return lambda layers: first_of(layers, kind)["config"].update(settings)


def swap_joined(layers):
    (nodes,) = first_of(layers, "Concatenate")["inbound_nodes"]
    nodes.reverse()


def rename(layers):
    first_of(layers, "MaxPooling3D")["class_name"] = "AveragePooling3D"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (set_of("BatchNormalization", epsilon=1e-5), "has epsilon=1e-05 in the layer layer_2"),
        (set_of("Conv3D", activation="relu"), "has activation=relu in the layer layer_1"),
        (set_of("Conv3D", padding="valid"), "has padding=valid"),
        (set_of("Conv3D", dilation_rate=[2, 2, 2]), "has dilation_rate="),
        (set_of("Activation", activation="elu"), "has activation=elu"),
        (set_of("UpSampling3D", size=[1, 2, 2]), "has size="),
        (swap_joined, "joins .* in layer_"),
        (rename, "has other layers"),
        (lambda layers: layers.pop(), "has other layers"),
    ],
)
def test_what_would_be_computed_otherwise_is_refused(tmp_path, edit, message):
    path = Graph(1, 2).write(tmp_path / "weights.h5")
    change(path, edit)
    refuses(path, message)


def replace_array(path, key, values):
    with h5py.File(path, "a") as file:
        del file[key]
        if values is not None:
            file[key] = values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 3, 3, 2, 2), np.float32), r"has .* of the shape \(3, 3, 3, 2, 2\)"),
        (np.zeros(3, np.float32), r"has .* of the shape \(3,\)"),
        (np.full((3, 3, 3, 1, 2), np.nan, np.float32), "numbers that are not finite"),
        (None, "lacks weight in the layer layer_1"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, values, message):
    path = Graph(1, 2).write(tmp_path / "weights.h5")
    replace_array(path, "model_weights/layer_1/layer_1/kernel:0", values)
    refuses(path, message)
