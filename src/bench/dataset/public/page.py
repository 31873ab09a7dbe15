"""The table in docs/datasets.md: ``python -m bench.dataset.public.page`` writes it anew."""

from pathlib import Path

from bench.core.files import write_text
from bench.dataset.public.rows import PublicDataset, PublicFile
from bench.dataset.public.table import DATASETS

_PAGE = Path(__file__).parents[4] / "docs" / "datasets.md"
_BEGIN = "<!-- Made by python -m bench.dataset.public.page -->"
_HEAD = "| dataset: | what | structures | voxel nm (z, y, x) | size | as | split | licence | cite |"


def describe_datasets() -> str:
    """Returns the table of the public data sets and what to know of each, as Markdown."""
    lines = [
        _HEAD,
        "|" + "---|" * _HEAD.count(" | ") + "---|",
        *map(_describe_row, DATASETS.values()),
    ]
    lines += ["", "## Files", "", "| dataset: | file | SHA-256 | from |", "|---|---|---|---|"]
    for row in DATASETS.values():
        lines += [_describe_file(row, file) for edition in row.editions for file in edition.files]
    lines += ["", "## What to know", ""]
    lines += [
        f"- **{row.name}**: {'; '.join(row.notes)}." for row in DATASETS.values() if row.notes
    ]
    return "\n".join(lines) + "\n"


def _describe_row(row: PublicDataset) -> str:
    voxel = " x ".join(f"{side:g}" for side in row.voxel_nm) if row.voxel_nm else "not known"
    cells = (
        f"`{row.name}`",
        row.title,
        ", ".join(f"`{name}`" for name in row.structures),
        voxel,
        row.extent,
        "volumes" if row.volumes else "sections",
        row.split,
        row.licence + (", no commercial use" if row.commercial is False else ""),
        row.citation,
    )
    return f"| {' | '.join(cells)} |"


def _describe_file(row: PublicDataset, file: PublicFile) -> str:
    sha256 = f"`{file.sha256}`" if file.sha256 else "not known"
    places = " or ".join(f"<{place}>" for place in file.addresses or filter(None, (file.page,)))
    by_hand = "" if file.addresses else " (by hand)"
    return f"| `{row.name}` | `{file.name}` | {sha256} | {places or 'the challenge'}{by_hand} |"


def _write_page() -> None:
    """Writes the table into docs/datasets.md, below what people wrote."""
    text, mark, _ = _PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    write_text(_PAGE, f"{text}{mark or _BEGIN}\n\n{describe_datasets()}")


if __name__ == "__main__":
    _write_page()
