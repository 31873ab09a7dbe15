"""What suspects leaves: a table, pictures, and files to correct the doubtful objects in."""

import logging
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from bench.advice.suspects import MISSING_OBJECT, SUSPECT_KINDS, Suspect
from bench.config.advice import SuspectsConfig
from bench.core.commands import shown_path
from bench.core.files import write_text, write_whole
from bench.core.names import natural_key
from bench.dataset.prepared import PreparedDataset
from bench.report.figures.suspects import draw_suspect, suspects_sheet
from bench.steps.advice.output import check_formats, say_formats
from bench.steps.export import write_labels
from bench.steps.saying import say_picture
from bench.steps.serving.export_subject import ExportSubject, subject_of_split
from bench.tracking.runs import Run

log = logging.getLogger(__name__)

_TABLE, _SHEET, _PICTURES = "suspects.csv", "suspects.png", "pictures"
# Pictures on one sheet.
_ON_SHEET = 25
_HALF = 128


def write_suspects(
    config: SuspectsConfig,
    dataset: PreparedDataset,
    structure: str,
    found: Sequence[Suspect],
    files: Mapping[str, Path],
    content: Path,
) -> None:
    """Writes all that is for people.

    Args:
        config: The settings.
        dataset: The dataset that was checked.
        structure: Its structure that was.
        found: All objects, the most doubtful first.
        files: By section the file of its probabilities.
        content: Where to write.
    """
    write_text(content / _TABLE, _tabulate(found, dataset.pixel_size_nm).to_csv(index=False))
    _draw(found[: config.pictures], dataset, structure, files, content)
    first = found[: _count_share(found, config.share)]
    for name in check_formats(config.formats):
        _export(name, dataset, structure, first, content / name)


def _count_share(found: Sequence[Suspect], share: float) -> int:
    """How many objects a share of the list is; one at least where there are any."""
    return min(len(found), max(1, round(share * len(found))))


def _tabulate(found: Sequence[Suspect], pixel_size_nm: float | None) -> pd.DataFrame:
    """A row for each object; x to the right and y down, in px from the corner of the section."""
    rows = []
    for rank, each in enumerate(found, start=1):
        y, x = each.centre
        height, width = each.mask.shape
        rows.append(
            {
                "rank": rank,
                "section": each.section,
                "kind": each.kind,
                "doubt": round(each.doubt, 4),
                "x_px": round(x, 1),
                "y_px": round(y, 1),
                "left_px": each.corner[1],
                "top_px": each.corner[0],
                "width_px": width,
                "height_px": height,
                "area_px": each.area_px,
                "area_nm2": each.area_px * pixel_size_nm**2 if pixel_size_nm else None,
                "id": each.id or None,
                "agreement": round(each.agreement, 4),
            }
        )
    table = pd.DataFrame(rows)
    return table.astype({"id": "Int64"}) if rows else table


def _draw(
    shown: Sequence[Suspect],
    dataset: PreparedDataset,
    structure: str,
    files: Mapping[str, Path],
    content: Path,
) -> None:
    """Draws the first of the list, one by one and the very first on a sheet."""
    pictures: dict[int, np.ndarray] = {}
    ranked = enumerate(shown, start=1)
    # A section is read once.
    for rank, each in sorted(ranked, key=lambda item: natural_key(item[1].section)):
        found = np.load(files[each.section]) >= _HALF
        picture = draw_suspect(
            dataset.read_raw(each.section),
            dataset.read_labels(each.section, structure),
            found,
            each,
            dataset.pixel_size_nm,
        )
        path = content / _PICTURES / f"{rank:04d}_{each.kind}_{each.section}.png"
        write_whole(path, partial(_save_png, picture))
        pictures[rank] = picture
    if not shown:
        return
    ranks = sorted(pictures)[:_ON_SHEET]
    figure = suspects_sheet(
        [pictures[rank] for rank in ranks],
        [f"{rank} {_words(shown[rank - 1])}, {shown[rank - 1].section}" for rank in ranks],
        f"{structure}: annotation yellow, models that never saw the section red",
    )
    write_whole(content / _SHEET, partial(figure.savefig, format="png", dpi=130))


def _save_png(picture: np.ndarray, path: Path) -> None:
    Image.fromarray(picture).save(path, format="png")


def _words(suspect: Suspect) -> str:
    return f"{suspect.kind.replace('_', ' ')} {suspect.doubt:.2f}"


def _export(
    format: str, dataset: PreparedDataset, structure: str, first: Sequence[Suspect], folder: Path
) -> None:
    """Writes the sections of some objects: their annotation, and the objects beside it by kind.

    The number of an object is its rank in the table.
    """
    by_section: dict[str, list[tuple[int, Suspect]]] = {}
    for rank, each in enumerate(first, start=1):
        by_section.setdefault(each.section, []).append((rank, each))
    kinds = {
        f"{structure}_{kind}": kind for kind in SUSPECT_KINDS if any(e.kind == kind for e in first)
    }

    def read(name: str, wanted: str) -> np.ndarray:
        if wanted == structure:
            return dataset.read_labels(name, structure)
        ids = np.zeros(dataset.shape(name), dtype=np.uint32)
        for rank, each in by_section[name]:
            if each.kind == kinds[wanted]:
                box = tuple(
                    slice(start, start + side)
                    for start, side in zip(each.corner, each.mask.shape, strict=True)
                )
                ids[box][each.mask] = rank
        return ids

    def numbering(name: str, wanted: str) -> Hashable:
        if wanted != structure:
            return wanted
        entry = dataset.find(name)["datasets"][f"labels/{structure}"]
        return entry["source"] if entry["mask"] == "ids" else name

    splits = {dataset.find(name)["split"] for name in by_section}
    parts = {"read": read, "numbering": numbering, "inputs": {}}
    subjects = [subject_of_split(dataset, each, (structure, *kinds), **parts) for each in splits]
    images = {n: image for subject in subjects for n, image in subject.images.items()}
    ordered = sorted(by_section, key=natural_key)
    subject: ExportSubject = replace(subjects[0], images={name: images[name] for name in ordered})
    folder.mkdir(exist_ok=True)
    write_labels([subject], format, folder)


def log_suspects(run: Run, found: Sequence[Suspect], content: Path) -> None:
    """Logs how many objects there are, the table and the sheet."""
    kinds = {kind: sum(each.kind == kind for each in found) for kind in SUSPECT_KINDS}
    numbers = {"suspects/objects": len(found), f"suspects/{MISSING_OBJECT}": kinds[MISSING_OBJECT]}
    run.log_metrics(numbers)
    for name in (_TABLE, _SHEET):
        if (content / name).is_file():
            run.log_file(content / name)


def say_suspects(config: SuspectsConfig, structure: str, found: Sequence[Suspect]) -> None:
    """Says what comes first, where it is, and how to go on."""
    output = Path(config.output)
    first = _count_share(found, config.share)
    log.info(
        "%d objects of %s are listed in %s, the most doubtful first: look at the first %d",
        len(found),
        structure,
        shown_path(output / _TABLE),
        first,
    )
    if (output / _SHEET).is_file():
        say_picture(output / _SHEET)
    say_formats(config)
