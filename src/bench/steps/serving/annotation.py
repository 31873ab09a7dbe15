"""What happens around micro_sam's window: sections are found, embedded, and saved as annotation."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.config.data import AnnotateConfig, PrepareConfig
from bench.config.training import MicrosamConfig
from bench.core.commands import shown_path
from bench.core.files import check_output
from bench.core.hashing import path_sha256
from bench.core.pixels import stretch_contrast
from bench.core.progress import shows_itself
from bench.dataset.prepared import PreparedDataset
from bench.errors import BenchError
from bench.export.label_images import as_label_type, viewable, write_tiff
from bench.inference.device import choose_compute
from bench.inference.feeding import resize_labels, resize_section
from bench.inference.prediction import model_shape
from bench.inference.sam.embedding_store import open_embeddings
from bench.inference.sam.embeddings import KeptEncoder
from bench.inference.sam.tiles import ClickableSection, embed_for_micro_sam
from bench.ingest.images.planes import list_planes
from bench.models.checkpoint import ModelInfo
from bench.models.sam import SamNetwork, load_sam
from bench.steps.saying import say_next
from bench.steps.segmented_names import OUTPUT_TAG
from bench.steps.training.sam import SamSource, resolve_sam
from bench.structures import find_structure
from bench.tracking.opening import name_adopted, open_run
from bench.tracking.runs import Identity
from bench.tracking.store import Store, open_store
from bench.words import AUTO, NONE

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Section:
    """A section to annotate: how it is read, and what is annotated of it already, if anything."""

    pixel_size_nm: float | None
    read: Callable[[], np.ndarray]
    read_labels: Callable[[], np.ndarray] | None = None


def annotate_sections(config: AnnotateConfig, store: Store | None = None) -> str:
    """Opens micro_sam's window on what a config names; returns the run's id, or none.

    Every section is saved when it is left, image and ids; the same command goes on after the last.

    Raises:
        BenchError: If there is no such model or section, or all are annotated.
    """
    # Here, as it is Qt that takes long to load.
    from bench.correction.sam_window import open_sam_window

    store = store or open_store()
    output = Path(config.output)
    check_output(output)
    named = AUTO if config.run_id == AUTO else f"runs:/{config.run_id}"
    source = resolve_sam(store, named, trust=False)
    structure = _choose_structure(config, source)
    sections = _find_sections(config, structure)
    names = [name for name in sections if not (output / structure / f"{name}.tif").exists()]
    if not names:
        raise BenchError(
            f"a section must be left to annotate, all {len(sections)} are in {output}: remove "
            "those to be annotated again, or choose another output"
        )
    network, _ = load_sam(source.read())
    network.to(choose_compute(config.device, "fp32").device).eval()
    log.info("%d sections are opened; N saves one and goes to the next", len(names))
    with tempfile.TemporaryDirectory() as scratch, shows_itself():
        work = _Work(sections, source.info, network, structure, output, Path(scratch))
        open_sam_window(network, names, work.read, work.save)
    if not work.saved:
        name_adopted("annotate")
        log.info("nothing was saved: %s was not written", output)
        return ""
    return _record(config, store, source, structure, work.saved)


class _Work:
    """What the window reads and saves.

    Attributes:
        saved: Names of the sections that were saved.
    """

    def __init__(
        self,
        sections: dict[str, _Section],
        info: ModelInfo | None,
        network: SamNetwork,
        structure: str,
        output: Path,
        scratch: Path,
    ) -> None:
        """Nothing is read or written yet.

        Args:
            sections: All sections by name.
            info: What the model is; None of a published one.
            network: The network, on its device.
            structure: The structure that is annotated.
            output: Where annotation is saved.
            scratch: A folder for embeddings by tile, as long as the window is open.
        """
        self._sections, self._structure = sections, structure
        self._output, self._scratch = output, scratch
        self._encoder = KeptEncoder(network, open_embeddings())
        self._model_nm = info.input_pixel_size_nm if info else None
        given = info or MicrosamConfig
        self._tile_px, self._halo_px = given.tile_px, given.halo_px
        self.saved: list[str] = []

    def read(self, name: str) -> ClickableSection:
        """A section as the model sees it, embedded."""
        section = self._sections[name]
        raw = section.read()
        shape = model_shape(raw.shape, self._model_nm, section.pixel_size_nm)
        image = stretch_contrast(raw if shape == raw.shape else resize_section(raw, shape))
        labels = section.read_labels() if section.read_labels else None
        if labels is not None:
            labels = resize_labels(labels, shape).astype(np.uint32)
        embeddings = embed_for_micro_sam(
            self._encoder,
            image,
            self._scratch / name,
            tile_px=self._tile_px,
            halo_px=self._halo_px,
        )
        return ClickableSection(name, image, labels, embeddings)

    def save(self, name: str, labels: np.ndarray) -> None:
        """Saves the ids (y, x) of a section beside its image, at the image's own pixel size."""
        section = self._sections[name]
        raw = section.read()
        ids = as_label_type(resize_labels(labels, raw.shape))
        # The ids last: they say that the section is annotated.
        for kind, pixels in (("raw", viewable(raw)), (self._structure, ids)):
            path = self._output / kind / f"{name}.tif"
            write_tiff(path, pixels, pixel_size_nm=section.pixel_size_nm)
        self.saved.append(name)
        objects = np.unique(ids[ids > 0]).size
        log.info("%s: %d objects, saved in %s", name, objects, self._output)


def _choose_structure(config: AnnotateConfig, source: SamSource) -> str:
    """The structure that is typed, or the model's."""
    named = source.info.structure if config.structure == AUTO and source.info else config.structure
    if named == AUTO:
        raise BenchError(
            f"structure must be named, as {source.name} is of none, received auto: name one"
        )
    return find_structure(named).name


def _find_sections(config: AnnotateConfig, structure: str) -> dict[str, _Section]:
    """The sections that a config names, those of a dataset with what is annotated of them."""
    if config.input != NONE:
        planes = list_planes(config.input, config.pixel_size_nm)
        return {plane.name: _Section(plane.pixel_size_nm, plane.read) for plane in planes}
    dataset = PreparedDataset.open(config.dataset)

    def find(name: str) -> _Section:
        known = f"labels/{structure}" in dataset.find(name)["datasets"]
        labels = (lambda: dataset.read_labels(name, structure)) if known else None
        return _Section(dataset.pixel_size_nm, lambda: dataset.read_raw(name), labels)

    return {name: find(name) for name in dataset.sections(config.split)}


def _record(
    config: AnnotateConfig, store: Store, source: SamSource, structure: str, saved: list[str]
) -> str:
    """Makes the run that says what was annotated, and with which model."""
    output = Path(config.output)
    # What a person did is in what was saved: its hash stands for that.
    identity = Identity(
        "annotate",
        {"sections": saved},
        {"source": source.digest, "annotated": path_sha256(output)},
        structure=structure,
    )
    with open_run(store, identity, reuse=False) as run:
        run.log_settings(vars(config) | {"source": source.name, "structure": structure}, config)
        run.set_tags({OUTPUT_TAG: str(output.absolute())})
        run.log_metrics({"annotate/sections": len(saved)})
    log.info("annotated: %d sections, in %s", len(saved), output)
    known = f"{PrepareConfig.output}_annotated" if config.input == NONE else PrepareConfig.output
    say_next("prepare", {"input": shown_path(output), "output": known}, "make it a dataset")
    return run.id
