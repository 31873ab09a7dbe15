"""The whole page of a benchmark."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.metrics.table import METRICS
from bench.report.comparisons import Comparison, MeanRank
from bench.report.data_facts import merge_facts
from bench.report.external import ExternalRow
from bench.report.page.elements import Markup, element, join, plain_table
from bench.report.page.figures_section import (
    PRECISION_RECALL,
    TRAINING,
    learning_caption,
    learning_figures,
    precision_recall_figures,
    score_caption,
    score_figures,
    training_figures,
)
from bench.report.page.pictures_section import (
    PICTURES,
    anchor_of,
    colour_key,
    pictures_section,
)
from bench.report.page.records import Setting, Shown
from bench.report.page.score_table import comparisons_section, external_section, score_table
from bench.report.page.verdict_section import verdict_section
from bench.report.prompts import CAPTION as PROMPT_CAPTION
from bench.report.prompts import HEADERS as PROMPT_HEADERS
from bench.report.prompts import TEXT_COLUMNS, find_prompt_scores
from bench.report.prompts import TITLE as PROMPTS_TITLE
from bench.report.table_formats import (
    MEANING,
    captions,
    describe_failures,
    scored_rows,
    shorten_dataset,
    units_of,
)
from bench.report.tables import TableRow
from bench.report.verdicts import find_verdicts
from bench.structures import order_structures, title_of
from bench.words import of_units

# A browser that honours it asks nobody for anything, whatever the page holds.
POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)
_COSTS = f"Costs are means over seeds, of whatever machine each run was on. {MEANING}"


def benchmark_page(
    setting: Setting,
    rows: Sequence[TableRow],
    published: Sequence[TableRow],
    shown: Sequence[Shown],
    comparisons: Sequence[Comparison],
    ranks: Sequence[MeanRank],
    external: Sequence[ExternalRow] = (),
) -> str:
    """Writes the page.

    Args:
        setting: What was compared.
        rows: The rows of the table.
        published: Rows of published scores.
        shown: Pictures and curves of every scored row.
        comparisons: Every pair of methods.
        ranks: Mean ranks of the methods.
        external: Scores on other data than methods were trained on.
    """
    failures, rows = describe_failures(rows), scored_rows(rows)
    places = [rows.index(one.row) for one in shown]
    table = score_table(rows, published, {place: anchor_of(place) for place in places})
    verdicts = find_verdicts(rows, comparisons)
    anchors = {number: anchor_of(place) for number, place in enumerate(places)}
    structures = list(dict.fromkeys(row.structure for row in [*rows, *published]))
    metric, units = METRICS[rows[0].metric], units_of(rows)
    sections: dict[str, Sequence[Iterable[str]]] = {
        "Verdict": [element("div", verdict_section(verdicts, shown, anchors), class_="verdicts")],
        "Scores": [
            _summary(setting, rows),
            _filter_control(structures),
            table,
            _below_table([*rows, *published], failures),
        ],
        "Other data": external_section(external),
        PROMPTS_TITLE: _prompts(rows),
        "Charts": [_caption(score_caption(metric), units), _grid(score_figures(rows))],
        "Learning curve": _learning_curve(rows),
        "Comparisons": [comparisons_section(comparisons, ranks)],
        "Precision and recall": [
            _caption(PRECISION_RECALL),
            _grid(precision_recall_figures(shown, rows)),
        ],
        "Training": [_caption(TRAINING, units), _grid(training_figures(shown, rows))],
        "Pictures": [_caption(PICTURES, units), colour_key(), pictures_section(shown, places)],
    }
    named = {title: _anchor_of(title) for title, parts in sections.items() if parts}
    body = [
        element("section", element("h2", title), *sections[title], id=anchor)
        for title, anchor in named.items()
    ]
    links = (element("a", title, href=f"#{anchor}") for title, anchor in named.items())
    return whole_document(
        _title_of(rows),
        element("header", element("h1", _title_of(rows))),
        element("nav", links, aria_label="Sections"),
        element("main", body),
    )


def _learning_curve(rows: Sequence[TableRow]) -> list[Markup]:
    """The charts of scores by labelled sections; nothing where all have as many."""
    figures = list(learning_figures(rows))
    text = learning_caption(METRICS[rows[0].metric])
    return [_caption(text, units_of(rows)), _grid(figures)] if figures else []


def _anchor_of(title: str) -> str:
    return re.sub("[^a-z]+", "-", title.lower()).strip("-")


def _prompts(rows: Sequence[TableRow]) -> list[Iterable[str]]:
    """The table of prompts and its caption; nothing without a row that has any."""
    scores = find_prompt_scores(rows)
    if not scores:
        return []
    table = plain_table(PROMPT_HEADERS, (score.cells() for score in scores), names=TEXT_COLUMNS)
    return [table, _caption(PROMPT_CAPTION)]


def _below_table(rows: Sequence[TableRow], failures: Sequence[str]) -> Markup:
    """What has no score, and how the scores were made."""
    notes = element("ul", (element("li", text) for text in failures), class_="notes")
    below = [*captions(rows), *([_COSTS] if any(row.costs for row in rows) else [])]
    return join(notes if failures else "", (_caption(text) for text in below))


def _title_of(rows: Sequence[TableRow]) -> str:
    """Says which data: the dataset's folder, its structures and its pixel size."""
    parts = []
    for dataset in dict.fromkeys(row.dataset for row in rows):
        members = [row for row in rows if row.dataset == dataset]
        names = order_structures(row.structure for row in members)
        size = merge_facts(row.data for row in members).pixel_size_nm
        facts = [", ".join(name.replace("_", " ") for name in names)]
        facts += [f"{size:g}\N{NO-BREAK SPACE}nm a\N{NO-BREAK SPACE}pixel"] if size else []
        parts.append(f"{_name_of(dataset)} ({'; '.join(facts)})")
    return f"Segmentation benchmark: {', '.join(parts)}"


def _name_of(dataset: str) -> str:
    """The folder's name of a dataset, without the hash that tells it from others of that name."""
    name, _, digest = dataset.rpartition("@")
    return name if name and re.fullmatch("[0-9a-f]{8}", digest) else shorten_dataset(dataset)


def _summary(setting: Setting, rows: Sequence[TableRow]) -> Markup:
    sections = sorted({row.sections for row in rows if row.scores})
    seeds = sorted({seed for row in rows for seed in row.seeds})
    facts = {
        "Experiment": setting.experiment,
        "Split": setting.split,
        of_units("Sections", units_of(rows)): " to ".join(
            dict.fromkeys([str(sections[0]), str(sections[-1])])
        ),
        "Post-processing": f"protocol {setting.protocol}",
        "Augmentations": setting.augmentations,
        "Seeds": ", ".join(map(str, seeds)),
        "Evaluated": " to ".join(setting.dates),
    }
    return element(
        "dl", (element("div", element("dt", k), element("dd", v)) for k, v in facts.items() if v)
    )


def _filter_control(structures: Sequence[str]) -> Markup:
    options = [element("option", "all", value="")]
    options += [element("option", title_of(name), value=name) for name in structures]
    choice = element("select", options, id="structure")
    return element("label", "Structure ", choice, class_="filter", hidden=True)


def _caption(text: str, units: Iterable[str] = ()) -> Markup:
    """A caption that is written of sections, said of what the table is of."""
    return element("p", of_units(text, units), class_="caption")


def _grid(figures: Iterable[Markup]) -> Markup:
    return element("div", figures, class_="grid")


def whole_document(title: str, *body: Markup) -> str:
    """A page that is one file, with style and script in it."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="generator", content="synapse-bench"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", _read_asset("page.css")),
    )
    end = [
        element("dialog", element("img", alt=""), id="enlarged"),
        element("script", _read_asset("page.js")),
    ]
    document = element("html", head, element("body", join(*body), end), lang="en")
    return f"<!DOCTYPE html>\n{document}\n"


def _read_asset(name: str) -> Markup:
    """The style or the script, which lie beside this module; neither holds user's text."""
    return Markup("\n" + Path(__file__).with_name(name).read_text(encoding="utf-8"))
