"""The models that SynapseNet publishes: what they are, and their files.

The facts are those of synapse_net's own registry, and the files lie in its own cache: a model
that synapse_net has fetched is not fetched again, and the other way round.
"""

import importlib.util
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core.hashing import file_sha256
from bench.errors import BenchError, MissingFileError, unknown_name

log = logging.getLogger(__name__)

# Seconds to wait for a connection, and for an answer.
TIMEOUT_S = (5, 10)
FOREGROUND_BOUNDARY = ("foreground", "boundary")
# Edge of a tile without halo, and its halo, of 2D and 3D models. synapse_net's 2D tile of 768 px
# includes the halo; its 3D tile follows the memory of the GPU, ours is the same everywhere.
TILES = {2: (512, 128), 3: (256, 64)}


@dataclass(frozen=True)
class PublishedModel:
    """A published model.

    Attributes:
        name: As synapse_net calls it, and its file.
        address: Where the file is fetched from.
        sha256: Of the file.
        pixel_size_nm: Pixel size in x and y that it was trained at.
        ndim: 2: takes sections. 3: takes volumes, see bench.models.unet3d_torch_em.
        outputs: Meaning of the output channels; the file may have fewer, the first ones.
        in_channels: Channels that it takes; one is the image.
    """

    name: str
    address: str
    sha256: str
    pixel_size_nm: float
    ndim: int
    outputs: tuple[str, ...]
    in_channels: int = 1

    @property
    def tile_px(self) -> int:
        """Edge of the tile that it is applied to, without halo."""
        return TILES[self.ndim][0]

    @property
    def halo_px(self) -> int:
        """Width of the halo around a tile."""
        return TILES[self.ndim][1]


_SHA256 = {
    "vesicles_2d": "eb0b74f7000a0e6a25b626078e76a9452019f2d1ea6cf2033073656f4f055df1",
    "vesicles_2d_maus": "01506895df6343fc33ffc9c9eb3f975bf42eb4eaaaf4848bac83b57f1b46e460",
    "vesicles_3d": "b329ec1f57f305099c984fbb3d7f6ae4b0ff51ec2fa0fa586df52dad6b84cf29",
    "vesicles_3d_endbulb": "8582c7e3e5f16ef2bf34d6f9e34644862ca3c76835c9e7d44475c9dd7891d228",
    "vesicles_3d_innerear": "924f0f7cfb648a3a6931c1d48d8b1fdc6c0c0d2cb3330fe2cae49d13e7c3b69d",
    "vesicles_cryo": "782f5a21c3cda82c4e4eaeccc754774d5aaed5929f8496eb018aad7daf91661b",
    "mitochondria": "24625018a5968b36f39fa9d73b121a32e8f66d0f2c0540d3df2e1e39b3d58186",
    "mitochondria2": "0ec4c48fb67ebcdf1c2a86710e1d5e40519758b867e49a6999d155e8eb15d459",
    "active_zone": "c23652a8fe06daa113546af6d3200c4c1dcc79917056c6ed7357b8c93548372a",
    "compartments": "527983720f9eb215c45c4f4493851fd6551810361eda7b79f185a0d304274ee1",
    "ribbon": "7c947f0ddfabe51a41d9d05c0a6ca7d6b238f43df2af8fffed5552d09bb075a9",
    "cristae": "f96c90484f4ea92ac0515a06e389cc117580f02c2aacdc44b5828820cf38c3c3",
    "cristae2": "0864945698862df043adc51c0034289a579b0622a61164e5ebd00a24ee25d075",
    "cristae3": "5cb8699487bd21204071cbfb784a7f5c2bb6ab5f347a9d02a913aa27ae70eca4",
    "cristae4": "214bf0848c2c3c7459a576c5d46416750e1b9947002674545904f069ddc75066",
}


def _row(
    name: str,
    share: str,
    pixel_size_nm: float,
    ndim: int,
    outputs: tuple[str, ...] = FOREGROUND_BOUNDARY,
    in_channels: int = 1,
) -> PublishedModel:
    """A model by the name of its share in the cloud of its authors."""
    address = f"https://owncloud.gwdg.de/index.php/s/{share}/download"
    return PublishedModel(name, address, _SHA256[name], pixel_size_nm, ndim, outputs, in_channels)


SYNAPSENET = {
    row.name: row
    for row in (
        _row("vesicles_2d", "d72QIvdX6LsgXip", 1.35, 2),
        _row("vesicles_2d_maus", "sZ8woLr0zs5zOpv", 1.35, 2),
        _row("vesicles_3d", "A425mkAOSqePDhx", 1.35, 3),
        _row("vesicles_3d_endbulb", "16tmnWrEDpYIMzU", 1.35, 3),
        _row("vesicles_3d_innerear", "UFUCYivsCxrqISX", 1.35, 3),
        _row("vesicles_cryo", "e2lVdxjCJuZkLJm", 1.35, 3),
        _row("mitochondria", "1T542uvzfuruahD", 2.07, 3),
        _row("mitochondria2", "jivHzhpsqXN3PoH", 2.87, 3),
        _row("active_zone", "wpea9FH9waG4zJd", 1.38, 3, ("foreground", "distance")),
        _row("compartments", "DnFDeTmDDmZrDDX", 3.47, 3, ("boundary", "distance")),
        _row("ribbon", "S3b5l0liPP1XPYA", 1.188, 3, ("ribbon", "presynaptic_density", "membrane")),
        # Their second channel is a segmentation of the mitochondria.
        _row("cristae", "Df7OUOyQ1Kc2eEO", 1.44, 3, in_channels=2),
        _row("cristae2", "qe0R5pRgH2m0pQ5", 1.44, 3, in_channels=2),
        _row("cristae3", "51X1et8d7pOfdhU", 1.44, 3, in_channels=2),
        _row("cristae4", "XoepbLjeT4csq1t", 1.74, 3, in_channels=2),
    )
}


def fetch_synapsenet(name: str, table: Mapping[str, PublishedModel] = SYNAPSENET) -> Path:
    """Returns the file of a published model, which is fetched if the cache does not have it.

    Raises:
        BenchError: If the table has no such model, the model does not take an image alone, the
            file cannot be fetched or stored, or another file lies in its place.
    """
    if name not in table:
        raise unknown_name("SynapseNet model", name, table)
    model = table[name]
    if model.in_channels != 1:
        raise BenchError(
            f"a source takes one channel, the image; {name} takes {model.in_channels}: "
            "choose another model"
        )
    path = _cache_folder() / name
    try:
        if path.exists():
            _check_cached(path, model)
        else:
            _download(model, path)
    except OSError as error:
        raise BenchError(
            f"{path} must be a file that can be read and written, received: {error}; set "
            "XDG_CACHE_HOME to a folder of yours"
        ) from error
    return path


def fetch_by_package(name: str) -> tuple[Path, PublishedModel]:
    """Fetches a model that the table lacks through synapse_net, which may know newer ones.

    Raises:
        BenchError: If the package is not installed, or does not know it either.
    """
    if importlib.util.find_spec("synapse_net") is None:
        raise unknown_name("SynapseNet model", name, SYNAPSENET)
    from synapse_net.inference import inference

    names = inference.get_available_models()
    if name not in names:
        raise unknown_name("SynapseNet model", name, names)
    size_nm = inference.get_model_training_resolution(name)
    path = Path(inference.get_model_path(name))
    model = PublishedModel(
        name, "", file_sha256(path), size_nm["x"], len(size_nm), FOREGROUND_BOUNDARY
    )
    return path, model


def _cache_folder() -> Path:
    """Where synapse_net keeps models; XDG_CACHE_HOME moves it."""
    import pooch

    return Path(pooch.os_cache("synapse-net")) / "models"


def _check_cached(path: Path, model: PublishedModel) -> None:
    """Refuses a file that is not the model's; it may be the user's own, so it is left there."""
    received = file_sha256(path)
    if received != model.sha256:
        raise BenchError(
            f"{path} must have the SHA-256 {model.sha256} of {model.name}, received {received}: "
            f"move it away and it is fetched anew, or use it under its own path as source"
        )


def _download(model: PublishedModel, path: Path) -> None:
    """Fetches a model's file to a path; it appears there only whole and with the right hash."""
    import pooch
    from requests.exceptions import RequestException

    def fetch(address: str, temporary: str, _: Any) -> None:
        pooch.HTTPDownloader(timeout=TIMEOUT_S)(address, temporary, None)
        received = file_sha256(Path(temporary))
        if received != model.sha256:
            raise BenchError(
                f"{model.name} must have the SHA-256 {model.sha256}, {address} gave a file with "
                f"{received}: {_remedy_without_network(model, path)}"
            )

    pooch.get_logger().setLevel(logging.WARNING)
    log.info("fetching %s from %s to %s", model.name, model.address, path)
    start = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pooch.retrieve(
            model.address, model.sha256, fname=path.name, path=path.parent, downloader=fetch
        )
    except RequestException as error:
        raise MissingFileError(
            f"{model.name} must be fetched from {model.address}, which cannot be reached "
            f"({type(error).__name__}): {_remedy_without_network(model, path)}",
            model=model.name,
            files=((model.address, str(path)),),
        ) from error
    size_mb = path.stat().st_size / 1e6
    log.info("fetched %s: %.1f MB in %.0f s", model.name, size_mb, time.monotonic() - start)


def _remedy_without_network(model: PublishedModel, path: Path) -> str:
    return (
        f"fetch it elsewhere and put it at {path} (file name {model.name}, SHA-256 "
        f"{model.sha256}), or set source to random, runs:/ID or a file"
    )
