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
from bench.errors import BenchError, unknown_name

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
        ndim: 2: takes sections. 3: takes volumes, see bench.models.unet3d.
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


_MODELS = (
    PublishedModel(
        name="vesicles_2d",
        address="https://owncloud.gwdg.de/index.php/s/d72QIvdX6LsgXip/download",
        sha256="eb0b74f7000a0e6a25b626078e76a9452019f2d1ea6cf2033073656f4f055df1",
        pixel_size_nm=1.35,
        ndim=2,
        outputs=FOREGROUND_BOUNDARY,
    ),
    PublishedModel(
        name="vesicles_2d_maus",
        address="https://owncloud.gwdg.de/index.php/s/sZ8woLr0zs5zOpv/download",
        sha256="01506895df6343fc33ffc9c9eb3f975bf42eb4eaaaf4848bac83b57f1b46e460",
        pixel_size_nm=1.35,
        ndim=2,
        outputs=FOREGROUND_BOUNDARY,
    ),
    PublishedModel(
        name="vesicles_3d",
        address="https://owncloud.gwdg.de/index.php/s/A425mkAOSqePDhx/download",
        sha256="b329ec1f57f305099c984fbb3d7f6ae4b0ff51ec2fa0fa586df52dad6b84cf29",
        pixel_size_nm=1.35,
        ndim=3,
        outputs=FOREGROUND_BOUNDARY,
    ),
    PublishedModel(
        name="vesicles_3d_endbulb",
        address="https://owncloud.gwdg.de/index.php/s/16tmnWrEDpYIMzU/download",
        sha256="8582c7e3e5f16ef2bf34d6f9e34644862ca3c76835c9e7d44475c9dd7891d228",
        pixel_size_nm=1.35,
        ndim=3,
        outputs=FOREGROUND_BOUNDARY,
    ),
    PublishedModel(
        name="vesicles_3d_innerear",
        address="https://owncloud.gwdg.de/index.php/s/UFUCYivsCxrqISX/download",
        sha256="924f0f7cfb648a3a6931c1d48d8b1fdc6c0c0d2cb3330fe2cae49d13e7c3b69d",
        pixel_size_nm=1.35,
        ndim=3,
        outputs=FOREGROUND_BOUNDARY,
    ),
    PublishedModel(
        name="vesicles_cryo",
        address="https://owncloud.gwdg.de/index.php/s/e2lVdxjCJuZkLJm/download",
        sha256="782f5a21c3cda82c4e4eaeccc754774d5aaed5929f8496eb018aad7daf91661b",
        pixel_size_nm=1.35,
        ndim=3,
        outputs=FOREGROUND_BOUNDARY,
    ),
    PublishedModel(
        name="mitochondria",
        address="https://owncloud.gwdg.de/index.php/s/1T542uvzfuruahD/download",
        sha256="24625018a5968b36f39fa9d73b121a32e8f66d0f2c0540d3df2e1e39b3d58186",
        pixel_size_nm=2.07,
        ndim=3,
        outputs=FOREGROUND_BOUNDARY,
    ),
    PublishedModel(
        name="mitochondria2",
        address="https://owncloud.gwdg.de/index.php/s/jivHzhpsqXN3PoH/download",
        sha256="0ec4c48fb67ebcdf1c2a86710e1d5e40519758b867e49a6999d155e8eb15d459",
        pixel_size_nm=2.87,
        ndim=3,
        outputs=FOREGROUND_BOUNDARY,
    ),
    PublishedModel(
        name="active_zone",
        address="https://owncloud.gwdg.de/index.php/s/wpea9FH9waG4zJd/download",
        sha256="c23652a8fe06daa113546af6d3200c4c1dcc79917056c6ed7357b8c93548372a",
        pixel_size_nm=1.38,
        ndim=3,
        outputs=("foreground", "distance"),
    ),
    PublishedModel(
        name="compartments",
        address="https://owncloud.gwdg.de/index.php/s/DnFDeTmDDmZrDDX/download",
        sha256="527983720f9eb215c45c4f4493851fd6551810361eda7b79f185a0d304274ee1",
        pixel_size_nm=3.47,
        ndim=3,
        outputs=("boundary", "distance"),
    ),
    PublishedModel(
        name="ribbon",
        address="https://owncloud.gwdg.de/index.php/s/S3b5l0liPP1XPYA/download",
        sha256="7c947f0ddfabe51a41d9d05c0a6ca7d6b238f43df2af8fffed5552d09bb075a9",
        pixel_size_nm=1.188,
        ndim=3,
        outputs=("ribbon", "presynaptic_density", "membrane"),
    ),
    # Their second channel is a segmentation of the mitochondria.
    PublishedModel(
        name="cristae",
        address="https://owncloud.gwdg.de/index.php/s/Df7OUOyQ1Kc2eEO/download",
        sha256="f96c90484f4ea92ac0515a06e389cc117580f02c2aacdc44b5828820cf38c3c3",
        pixel_size_nm=1.44,
        ndim=3,
        outputs=FOREGROUND_BOUNDARY,
        in_channels=2,
    ),
    PublishedModel(
        name="cristae2",
        address="https://owncloud.gwdg.de/index.php/s/qe0R5pRgH2m0pQ5/download",
        sha256="0864945698862df043adc51c0034289a579b0622a61164e5ebd00a24ee25d075",
        pixel_size_nm=1.44,
        ndim=3,
        outputs=FOREGROUND_BOUNDARY,
        in_channels=2,
    ),
    PublishedModel(
        name="cristae3",
        address="https://owncloud.gwdg.de/index.php/s/51X1et8d7pOfdhU/download",
        sha256="5cb8699487bd21204071cbfb784a7f5c2bb6ab5f347a9d02a913aa27ae70eca4",
        pixel_size_nm=1.44,
        ndim=3,
        outputs=FOREGROUND_BOUNDARY,
        in_channels=2,
    ),
    PublishedModel(
        name="cristae4",
        address="https://owncloud.gwdg.de/index.php/s/XoepbLjeT4csq1t/download",
        sha256="214bf0848c2c3c7459a576c5d46416750e1b9947002674545904f069ddc75066",
        pixel_size_nm=1.74,
        ndim=3,
        outputs=FOREGROUND_BOUNDARY,
        in_channels=2,
    ),
)
SYNAPSENET = {model.name: model for model in _MODELS}


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
        raise BenchError(
            f"{model.name} must be fetched from {model.address}, which cannot be reached "
            f"({type(error).__name__}): {_remedy_without_network(model, path)}"
        ) from error
    size_mb = path.stat().st_size / 1e6
    log.info("fetched %s: %.1f MB in %.0f s", model.name, size_mb, time.monotonic() - start)


def _remedy_without_network(model: PublishedModel, path: Path) -> str:
    """What a user without a connection can do, with all that is needed to do it."""
    return (
        f"fetch it elsewhere and put it at {path} (file name {model.name}, SHA-256 "
        f"{model.sha256}), or set source to random, runs:/ID or a file"
    )
