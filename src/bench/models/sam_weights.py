"""Weights of Segment Anything and micro_sam: the published models, and files of any origin.

Names, addresses and hashes are those of micro_sam's own registry (release 1.8.14), the files lie
in its own cache: what one of both fetched the other finds.
"""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.errors import BenchError, MissingFileError, unknown_name
from bench.models.pickles import read_inert, read_trusted
from bench.models.sam import DECODER, SAM, merge_lora

log = logging.getLogger(__name__)

_META = "https://dl.fbaipublicfiles.com/segment_anything"
_BIOIMAGE = "https://uk1s3.embassy.ebi.ac.uk/public-datasets/bioimage.io"


@dataclass(frozen=True)
class PublishedFile:
    """A file that is published.

    Attributes:
        name: Its name in the cache.
        address: Where it is fetched from.
        digest: Its xxh128, the hash that micro_sam's registry states.
    """

    name: str
    address: str
    digest: str


_XXH128 = {
    "vit_b_em_organelles": "f3bf2ed83d691456bae2c3f9a05fb438",
    "vit_b_em_organelles_decoder": "bb6398956a6b0132c26b631c14f95ce2",
    "vit_l_em_organelles": "810b084b6e51acdbf760a993d8619f2d",
    "vit_l_em_organelles_decoder": "334877640bfdaaabce533e3252a17294",
    "vit_b_lm": "fe9252a29f3f4ea53c15a06de471e186",
    "vit_b_lm_decoder": "708b15ac620e235f90bb38612c4929ba",
    "vit_l_lm": "017f20677997d628426dec80a8018f9d",
    "vit_l_lm_decoder": "2faeafa03819dfe03e7c46a44aaac64a",
    "vit_b": "6923c33df3637b6a922d7682bfc9a86b",
    "vit_l": "a82beb3c660661e3dd38d999cc860e9a",
    "vit_h": "97698fac30bd929c2e6d8d8cc15933c2",
}


def _of_micro_sam(name: str, folder: str) -> tuple[PublishedFile, ...]:
    """The image encoder and mask decoder, then the decoder for automatic segmentation."""
    address = f"{_BIOIMAGE}/{folder}/1.2/files/{name[:5]}"
    decoder = f"{name}_decoder"
    return (
        PublishedFile(name, f"{address}.pt", _XXH128[name]),
        PublishedFile(decoder, f"{address}_decoder.pt", _XXH128[decoder]),
    )


def _of_meta(name: str, file: str) -> tuple[PublishedFile, ...]:
    return (PublishedFile(name, f"{_META}/{file}", _XXH128[name]),)


PUBLISHED: dict[str, tuple[PublishedFile, ...]] = {
    files[0].name: files
    for files in (
        _of_micro_sam("vit_b_em_organelles", "noisy-ox"),
        _of_micro_sam("vit_l_em_organelles", "humorous-crab"),
        _of_micro_sam("vit_b_lm", "diplomatic-bug"),
        _of_micro_sam("vit_l_lm", "idealistic-rat"),
        _of_meta("vit_b", "sam_vit_b_01ec64.pth"),
        _of_meta("vit_l", "sam_vit_l_0b3195.pth"),
        _of_meta("vit_h", "sam_vit_h_4b8939.pth"),
    )
}


def cache_folder() -> Path:
    """The folder in which micro_sam keeps models; MICROSAM_CACHEDIR moves it."""
    import pooch

    return Path(os.environ.get("MICROSAM_CACHEDIR") or pooch.os_cache("micro_sam")) / "models"


def read_published(name: str, table: Mapping[str, Any] = PUBLISHED) -> dict[str, torch.Tensor]:
    """Reads a published model, fetching it if it is not there yet.

    Returns:
        Tensors named as in SamNetwork.

    Raises:
        BenchError: If there is none of this name, or it cannot be had.
    """
    paths = fetch_published(name, table)
    content = read_inert(paths[0])
    content = dict(content) if "model_state" in content else {"model_state": content}
    if len(paths) > 1:
        content["decoder_state"] = read_inert(paths[1])
    return _name_tensors(paths[0], content)


def fetch_published(name: str, table: Mapping[str, Any] = PUBLISHED) -> list[Path]:
    """Returns the paths of a published model's files, each fetched if it is not there yet.

    Raises:
        BenchError: If there is none of this name, or it cannot be had.
    """
    if name.startswith("vit_t"):
        raise BenchError(
            f"source {name} has an image encoder of MobileSAM, which is not on the package index: "
            "choose vit_b_em_organelles or another vit_b, vit_l or vit_h model"
        )
    if name not in table:
        raise unknown_name("SAM", name, table)
    return [_fetch_file(name, file, cache_folder()) for file in table[name]]


def _fetch_file(model: str, file: PublishedFile, folder: Path) -> Path:
    """Returns the path of a published file; one of other content may be the user's: it stays."""
    import pooch

    path = folder / file.name
    if path.exists():
        if (found := pooch.file_hash(str(path), alg="xxh128")) != file.digest:
            raise BenchError(
                f"{path} must be the published file of {model}, xxh128 {file.digest}, it has "
                f"{found}: remove it to fetch it again, or use it as it is with source={path}"
            )
        return path
    log.info("fetching %s from %s", file.name, file.address)
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            file.address, f"xxh128:{file.digest}", fname=file.name, path=folder, progressbar=False
        )
    # requests' exceptions are OSErrors; a wrong hash is a ValueError.
    except (OSError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:160]
        others = (one for one in PUBLISHED.get(model, ()) if not (folder / one.name).exists())
        raise MissingFileError(
            f"model {model} needs the file {file.address} (xxh128 {file.digest}), which cannot be "
            f"fetched ({reason}): put it at {path}, or give source=FILE of a SAM checkpoint",
            model=model,
            files=tuple((one.address, str(folder / one.name)) for one in others),
        ) from error
    return path


def read_torch_file(path: Path, *, trust: bool) -> dict[str, torch.Tensor]:
    """Reads a file of torch.save: SAM's tensors, or a checkpoint that micro_sam trained.

    Args:
        path: The file.
        trust: Run what the file says. Otherwise nothing in it is run, see bench.models.pickles.

    Returns:
        Tensors named as in SamNetwork.

    Raises:
        BenchError: If it is damaged, names what no checkpoint does, or holds no SAM.
    """
    content = read_trusted(path) if trust else read_inert(path)
    return _name_tensors(path, content)


def _name_tensors(path: Path, content: Any) -> dict[str, torch.Tensor]:
    """Finds the tensors in the content of a file, and gives them the names of SamNetwork."""
    content = content if isinstance(content, dict) else {}
    states = [(SAM, content.get("model_state", content))]
    if "decoder_state" in content:
        states.append((DECODER, content["decoder_state"]))
    named = {
        f"{prefix}{str(name).removeprefix(prefix)}": tensor.float()
        for prefix, state in states
        if isinstance(state, Mapping)
        for name, tensor in state.items()
        if isinstance(tensor, torch.Tensor)
    }
    if not any(name.startswith(f"{SAM}image_encoder.") for name in named):
        raise BenchError(
            f"a SAM checkpoint must hold the tensors of an image_encoder, {path} does not: "
            "choose another file"
        )
    return merge_lora(named)
