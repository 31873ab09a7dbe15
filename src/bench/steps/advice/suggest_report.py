"""What suggest leaves: a table, a sheet, and crops with what is pre-drawn, to be corrected."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from bench.advice.choosing import Choice
from bench.advice.forecast import Forecast
from bench.advice.pieces import ImagePiece
from bench.config.advice import SuggestConfig
from bench.core.commands import shown_path
from bench.core.files import write_json, write_text, write_whole
from bench.dataset.prepared import PreparedDataset
from bench.report.figures.suggestions import SuggestionPanel, suggestions_sheet
from bench.steps.advice.asking import AskedModel, read_asked
from bench.steps.advice.curve import how_to_measure
from bench.steps.advice.output import check_formats, say_formats
from bench.steps.advice.predrawing import Predrawing
from bench.steps.export import write_labels
from bench.steps.saying import say_next, say_picture
from bench.steps.serving.export_subject import ExportImage, ExportSubject, of_each_section
from bench.tracking.runs import Run

log = logging.getLogger(__name__)

_TABLE, _SHEET, _FORECAST = "suggestions.csv", "suggestions.png", "forecast.json"
# The format whose folder prepare reads with what was corrected.
_FOLDERS = "tiff"


@dataclass(frozen=True, eq=False)
class Suggestions:
    """What is suggested.

    Attributes:
        structure: What is to be annotated.
        pieces: All pieces.
        disagreements: The mean disagreement of the models on each.
        choices: All of them in the order of choice.
        drawing: What is pre-drawn on them.
        models: The models that were asked.
        forecast: The method and what its learning curve forecasts; None without a curve.
    """

    structure: str
    pieces: Sequence[ImagePiece]
    disagreements: Sequence[float]
    choices: Sequence[Choice]
    drawing: Predrawing
    models: Sequence[AskedModel]
    forecast: tuple[str, Forecast] | None


def write_suggestions(config: SuggestConfig, found: Suggestions, content: Path) -> None:
    """Writes all that is for people: of the first of the list crops and pictures."""
    write_text(content / _TABLE, _tabulate(found, config.budget).to_csv(index=False))
    said = None
    if found.forecast:
        method, forecast = found.forecast
        said = {"method": method} | vars(forecast)
    write_json(content / _FORECAST, said)
    first = [found.pieces[each.place] for each in found.choices[: config.budget]]
    by_name = {piece.name: piece for piece in first}
    drawing = found.drawing

    def image_of(piece: ImagePiece) -> ExportImage:
        image = drawing.pool.images[piece.image]
        shape = (piece.height, piece.width)
        read = partial(drawing.read, piece)
        return ExportImage(shape, image.pixel_size_nm, image.bottom_first, read)

    subject = ExportSubject(
        {name: image_of(piece) for name, piece in by_name.items()},
        "suggested",
        drawing.structures,
        lambda name, structure: drawing.draw(by_name[name], structure),
        of_each_section,
        {},
    )
    for name in check_formats(config.formats):
        (content / name).mkdir(exist_ok=True)
        write_labels([subject], name, content / name)
    panels = [
        SuggestionPanel(
            _describe(rank, piece, found, choice),
            drawing.read(piece),
            drawing.draw(piece, found.structure),
            read_asked(drawing.files[piece.image]).disagreement[piece.view],
            drawing.pool.images[piece.image].pixel_size_nm,
        )
        for rank, (piece, choice) in enumerate(zip(first, found.choices, strict=False), start=1)
    ]
    figure = suggestions_sheet(panels)
    write_whole(content / _SHEET, partial(figure.savefig, format="png", dpi=110))


def _describe(rank: int, piece: ImagePiece, found: Suggestions, choice: Choice) -> str:
    return (
        f"{rank}. {piece.name}: disagreement {found.disagreements[choice.place]:.3f}, "
        f"novelty {choice.novelty:.2f}"
    )


def _tabulate(found: Suggestions, budget: int) -> pd.DataFrame:
    """A row for each piece in the order of choice; x to the right and y down, in px."""
    rows = []
    for rank, choice in enumerate(found.choices, start=1):
        piece = found.pieces[choice.place]
        rows.append(
            {
                "rank": rank,
                "suggested": rank <= budget,
                "image": piece.image,
                "crop": piece.name if rank <= budget else "",
                "left_px": piece.left,
                "top_px": piece.top,
                "width_px": piece.width,
                "height_px": piece.height,
                "disagreement": round(found.disagreements[choice.place], 5),
                "novelty": round(choice.novelty, 4),
                "score": round(choice.score, 5),
            }
        )
    return pd.DataFrame(rows)


def log_suggestions(run: Run, found: Suggestions, content: Path) -> None:
    """Logs how many pieces there were, the forecast, table and sheet."""
    run.log_metrics({"suggest/pieces": len(found.pieces), "suggest/models": len(found.models)})
    if found.forecast:
        run.log_metrics({"suggest/forecast_gain": found.forecast[1].gain})
    for name in (_TABLE, _SHEET, _FORECAST):
        run.log_file(content / name)


def say_suggestions(config: SuggestConfig, found: Suggestions, dataset: PreparedDataset) -> None:
    """Says what to annotate, what that is forecast to bring, and how to go on."""
    output = Path(config.output)
    for rank, choice in enumerate(found.choices[: config.budget], start=1):
        log.info("%s", _describe(rank, found.pieces[choice.place], found, choice))
    if found.forecast:
        method, forecast = found.forecast
        log.info("%s, %s: %s", found.structure, method, forecast.describe())
    else:
        log.info(
            "no method was scored on validation at three numbers of annotated sections, so nothing "
            "is forecast"
        )
        step, settings = how_to_measure(dataset, found.structure)
        say_next(step, settings, "measure a learning curve, then type the same again elsewhere")
    say_picture(output / _SHEET)
    say_formats(config)
    if _FOLDERS in check_formats(config.formats):
        known = shown_path(dataset.root)
        settings = {"input": shown_path(output / _FOLDERS), "add_to": known}
        say_next(
            "prepare", {**settings, "output": f"{known}_more"}, "add them, once they are corrected"
        )
