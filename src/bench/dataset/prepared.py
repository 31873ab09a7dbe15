"""A prepared dataset: one HDF5 file per section and a manifest, opened and read."""

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.core.hashing import json_sha256
from bench.core.names import first_names
from bench.errors import BenchError, unknown_name
from bench.postprocess.label_runs import LabelRuns, find_label_runs

SPLITS = ("train", "val", "test")
# What images without labels have in place of a split.
UNLABELLED = "unlabelled"
# The split of sections whose tree has no split folders.
NO_SPLIT = ""
# The rule under which sections may both train and validate.
PAPER = "paper"

KIND = "synapse-bench prepared dataset"
# With it came another definition of the content hash: labels are hashed by their runs, and no
# longer pixel by pixel. A dataset keeps the schema, and so the hash, that it was written with.
SCHEMA = 2
_SCHEMAS = (1, SCHEMA)
MANIFEST = "manifest.json"
# What the manifest of a dataset has whose sections are planes of volumes.
VOLUMES = "volumes"
# By what the manifest says, under that key, that a model made the labels: see dataset/pseudo.py.
ORIGIN, PSEUDO = "origin", "pseudo"
_LABELS = "labels/"
# The section in whose file an image without labels lies that has the same pixels.
IMAGE_OF = "image_of"
# Beside the labels, where not all is annotated: see dataset/partial.py.
IGNORE = "ignore/"
_REQUIRED_KEYS = ("content_hash", "pixel_size_nm", "sections", "structures", "warnings")


@dataclass(frozen=True)
class PreparedDataset:
    """A prepared dataset on disk; pixels are read when asked for.

    Attributes:
        root: Its folder.
        manifest: The content of its manifest.json.
    """

    root: Path
    manifest: dict[str, Any] = field(repr=False)

    @classmethod
    def open(cls, path: Path | str) -> "PreparedDataset":
        """Opens a prepared dataset; reads its manifest and sees that its files are there.

        Raises:
            BenchError: If the folder is no prepared dataset, was written by a newer version, or
                lacks a file.
        """
        root = Path(path)
        dataset = cls(root, read_manifest(root))
        missing = [e["name"] for e in dataset.entries if not (root / str(e["file"])).is_file()]
        if missing:
            raise BenchError(
                f"prepared dataset {root} must have the files of its sections, received none for "
                f"{first_names(missing)}: run prepare again with -P overwrite=true"
            )
        return dataset

    @property
    def content_hash(self) -> str:
        """SHA-256 over pixels, names, splits and pixel size; the same wherever it lies."""
        return str(self.manifest["content_hash"])

    @property
    def schema(self) -> int:
        """The version of its format, and so of the definition of its content hash."""
        return int(self.manifest["schema"])

    @property
    def pixel_size_nm(self) -> float | None:
        """Edge of a pixel in nm; None where it is not known."""
        size = self.manifest["pixel_size_nm"]
        return None if size is None else float(size)

    @property
    def structures(self) -> tuple[str, ...]:
        """The annotated structures."""
        return tuple(self.manifest["structures"])

    def sections(self, split: str) -> tuple[str, ...]:
        """Returns the names of a split's sections, in natural order.

        Raises:
            BenchError: If there is no such split, or it has no sections.
        """
        if split not in SPLITS:
            raise unknown_name("split", split, SPLITS)
        if split != "train" and self.manifest.get(ORIGIN) == PSEUDO:
            raise BenchError(
                f"pseudo-masks are trained on, and nothing is chosen or scored by them, received "
                f"split {split} of {self.root}: give the annotated dataset"
            )
        entries = self.manifest["sections"]
        names = tuple(entry["name"] for entry in entries if entry["split"] == split)
        if not names:
            present = [name for name in SPLITS if any(e["split"] == name for e in entries)]
            raise BenchError(
                f"prepared dataset {self.root} must have sections in {split}, received only "
                f"{', '.join(present)}: choose one of them, or prepare it with -P splits=..., for "
                "which prepare names a rule that fits"
            )
        return names

    def unlabelled(self) -> tuple[str, ...]:
        """Returns the names of the images without labels; often there are none."""
        return tuple(entry["name"] for entry in self.manifest.get("unlabelled", []))

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The manifest's entries of all images, those without labels last."""
        return [*self.manifest["sections"], *self.manifest.get("unlabelled", [])]

    def read_raw(self, name: str) -> np.ndarray:
        """Reads the raw image (y, x) of a section, at the depth of its file."""
        return self.read(name, "raw")

    def read_labels(self, name: str, structure: str) -> np.ndarray:
        """Reads the instance ids (y, x) of a structure in a section; 0 is background.

        An id is one object through all sections of a volume where the annotation says so: drawn
        objects, and stacks of ids. Binary masks are numbered section by section.

        Returns:
            Ids in an unsigned type of up to 32 bits, which may differ between sections.

        Raises:
            BenchError: If the section is unknown or the structure not annotated in it.
        """
        keys = self.find(name)["datasets"]
        annotated = [key.removeprefix(_LABELS) for key in keys if key.startswith(_LABELS)]
        if structure not in annotated:
            raise BenchError(
                f"section {name} must be annotated for {structure!r}, received masks of "
                f"{', '.join(annotated) or 'nothing'}: choose one of them"
            )
        return self.read(name, f"labels/{structure}")

    def volumes(self, split: str) -> dict[str, tuple[str, ...]]:
        """Returns the sections of each region or volume of a split, in the order of z.

        Raises:
            BenchError: If the split has no sections, or one that is of no region.
        """
        found: dict[str, list[tuple[int, str]]] = {}
        for name in self.sections(split):
            entry = self.find(name)
            if not entry.get("region"):
                raise BenchError(
                    f"a volume is made of the sections of a region, received {name}, a single "
                    "image: prepare a stack, a volume or a TrakEM2 project"
                )
            found.setdefault(str(entry["region"]), []).append((int(entry["number"]), name))
        return {region: tuple(name for _, name in sorted(names)) for region, names in found.items()}

    def annotated(self, split: str) -> tuple[str, ...]:
        """The structures that are annotated in a split."""
        summaries = self.manifest["structures"]
        return tuple(name for name in self.structures if split in summaries[name]["instances"])

    def instances(self, split: str, structure: str) -> int:
        """Returns how many instances of a structure a split has."""
        return int(self.count("instances", split, structure))

    def foreground_fraction(self, split: str, structure: str) -> float:
        """Returns the share of a split's pixels that are in a structure, all sections pooled."""
        return float(self.count("foreground_fraction", split, structure))

    def verify(self) -> None:
        """Reads every pixel again and compares with the content hash.

        Raises:
            BenchError: If a file is missing, damaged or changed, or the manifest was changed.
        """
        hashes = []
        for entry, found in zip(self.entries, self._hash_sections(self.schema), strict=True):
            if found != entry["content_hash"]:
                raise self.damage(f"other pixels in section {entry['name']}")
            hashes.append(found)
        if self._hash(hashes, self.schema) != self.content_hash:
            raise self.damage("a manifest that was edited")

    def is_content(self, content_hash: str) -> bool:
        """Whether a content hash is of its content, by the definition of whichever version.

        Every pixel is read where the hash is not the dataset's own.
        """
        return content_hash == self.content_hash or any(
            content_hash == self._hash(list(self._hash_sections(schema)), schema)
            for schema in _SCHEMAS
            if schema != self.schema
        )

    def _hash_sections(self, schema: int) -> Iterator[str]:
        for entry in self.entries:
            pixels = {
                key: hash_array(key, self.read(entry["name"], key), schema)
                for key in entry["datasets"]
            }
            yield hash_section(entry["name"], entry["split"], pixels)

    def _hash(self, section_hashes: list[str], schema: int) -> str:
        step_nm = self.manifest["section_nm"] if self.manifest.get(VOLUMES) else None
        return hash_dataset(section_hashes, self.pixel_size_nm, step_nm, schema=schema)

    def read(self, name: str, key: str) -> np.ndarray:
        """Reads one HDF5 dataset of a section, if the file is still that of the manifest."""
        entry = self.find(name)
        owner = self.find(entry[IMAGE_OF]) if IMAGE_OF in entry else entry
        try:
            with h5py.File(self.root / entry["file"], "r") as file:
                changed = file.attrs.get("content_hash") != owner["content_hash"]
                pixels = None if changed else np.asarray(file[key][()])
        except (OSError, KeyError, RuntimeError) as error:
            raise self.damage(f"{entry['file']}, which does not read ({error})") from error
        if pixels is None:
            raise self.damage(f"another {entry['file']} than the manifest names")
        return pixels

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape (y, x) of a section."""
        return tuple(self.find(name)["shape"])

    def find(self, name: str) -> dict[str, Any]:
        """Returns the manifest's entry of a section."""
        for entry in self.entries:
            if entry["name"] == name:
                return dict(entry)
        names = first_names([entry["name"] for entry in self.manifest["sections"]])
        raise BenchError(f"unknown section {name!r}: choose one of {names}")

    def count(self, key: str, split: str, structure: str) -> float:
        """Returns a count of the manifest for a structure in a split."""
        if structure not in self.structures:
            raise unknown_name("structure of this dataset", structure, self.structures)
        self.sections(split)
        counts: dict[str, float] = self.manifest["structures"][structure][key]
        if split not in counts:
            raise BenchError(
                f"{structure} must be annotated in {split}, received masks in "
                f"{', '.join(counts)} only: choose one of them, or add masks and prepare again"
            )
        return counts[split]

    def damage(self, received: str) -> BenchError:
        """Builds the error for a dataset that is not as it was written."""
        return BenchError(
            f"prepared dataset {self.root} must be as prepare wrote it, received {received}: run "
            "prepare again with -P overwrite=true"
        )


def ignore_key(structure: str) -> str:
    """The HDF5 dataset of a section that says what of a structure is not annotated."""
    return IGNORE + structure


def read_manifest(root: Path) -> dict[str, Any]:
    """Reads and checks the manifest of a prepared dataset."""
    path = root / MANIFEST
    remedy = f"run prepare with -P output={shlex.quote(str(root))}, or correct dataset"
    if root.is_dir() and not path.is_file():
        raise BenchError(
            f"{root} must be a prepared dataset, received a folder without manifest.json: run "
            f"prepare with -P input={shlex.quote(str(root))} -P output=NEW_FOLDER, then give "
            "NEW_FOLDER as dataset"
        )
    if not path.is_file():
        state = "no such folder" + ("" if root.is_absolute() else f" as {root.absolute()}")
        raise BenchError(f"{root} must be a prepared dataset, received {state}: {remedy}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} must be readable JSON, received {error}: {remedy}") from error
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise BenchError(f"{root} must be a prepared dataset, received another kind: {remedy}")
    schema = manifest.get("schema")
    if schema not in _SCHEMAS:
        newer = isinstance(schema, int) and schema > SCHEMA
        action = "update synapse-bench, or prepare again" if newer else "prepare again"
        known = " or ".join(map(str, _SCHEMAS))
        raise BenchError(f"{path} must have schema {known}, received {schema}: {action}")
    missing = [key for key in _REQUIRED_KEYS if key not in manifest]
    if missing:
        raise BenchError(f"{path} must be whole, received no {', '.join(missing)}: {remedy}")
    return manifest


def hash_section(name: str, split: str, pixels: Mapping[str, str]) -> str:
    """Hashes the content of a section: name, split and the hashes of its HDF5 datasets' pixels."""
    return json_sha256([name, split, dict(pixels)])


def hash_dataset(
    section_hashes: list[str],
    pixel_size_nm: float | None,
    volume_step_nm: float | None = None,
    *,
    schema: int = SCHEMA,
) -> str:
    """Hashes the content of a dataset.

    Args:
        section_hashes: The hashes of its sections, in their order.
        pixel_size_nm: Edge of a pixel; None where it is not known.
        volume_step_nm: Distance of the planes where it is of volumes, else None.
        schema: The version whose definition is taken.
    """
    content: list[object] = [schema, section_hashes, pixel_size_nm]
    return json_sha256([*content, volume_step_nm] if volume_step_nm else content)


def hash_pixels(pixels: np.ndarray) -> str:
    """Hashes type, shape and pixels, whatever the byte order and memory layout."""
    little = np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("<"))
    content = hashlib.sha256(f"{little.dtype.str} {little.shape} ".encode())
    content.update(little.data)
    return content.hexdigest()


def hash_array(
    key: str, pixels: np.ndarray, schema: int = SCHEMA, runs: LabelRuns | None = None
) -> str:
    """Hashes one HDF5 dataset of a section.

    Args:
        key: Its name.
        pixels: Its pixels (y, x).
        schema: The version whose definition is taken.
        runs: The runs of anything but ``raw``, where they are known.
    """
    if schema == 1 or key == "raw":
        return hash_pixels(pixels)
    return _hash_runs(find_label_runs(pixels) if runs is None else runs, pixels.dtype)


def _hash_runs(runs: LabelRuns, dtype: "np.dtype[Any]") -> str:
    """Hashes type, shape and runs of an image of ids: as good as its pixels, and far fewer."""
    content = hashlib.sha256(f"{dtype.newbyteorder('<').str} {runs.shape} runs ".encode())
    for part, kind in ((runs.first_of_row, "<i8"), (runs.spans, "<i4"), (runs.ids, "<u4")):
        content.update(np.ascontiguousarray(part, kind).data)
    return content.hexdigest()
