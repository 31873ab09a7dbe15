"""The page as a parser finds it: whole, escaped, and without a request to anywhere."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bench.report.comparisons import compare_pairs
from bench.report.data_facts import DataFacts
from bench.report.figures.curves import Curve, TrainingCurves
from bench.report.page.page import POLICY, benchmark_page
from bench.report.page.pictures_section import encode_webp, panel_budget
from bench.report.page.records import Panel, Picture, Setting, Shown
from bench.report.table_formats import captions
from bench.report.tables import ScoreRecord, benchmark_table

# As in the fixtures of the page.
SCRIPT = "<script>document.title = 'broken'</script>"
QUOTES = "\"'><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def tree(page, read_page):
    return read_page(page)


def test_names_of_users_are_text_and_nothing_else(tree):
    # Ours and no other; no attribute came in through a quote.
    assert len(tree.find("script")) == 1
    assert not [tag for tag in tree.inside if "onerror" in tag.attributes]
    assert all("onerror" not in name for tag in tree.inside for name in tag.attributes)
    text = tree.text
    for where in (f"Segmentation benchmark: data{QUOTES}", f"of {SCRIPT}", f"gone {SCRIPT}"):
        assert where in text
    assert f"no {SCRIPT}" in text
    assert any(QUOTES in (image.attributes.get("alt") or "") for image in tree.find("img"))


def test_nothing_is_asked_of_anybody(page, tree):
    (policy,) = [m for m in tree.find("meta") if m.attributes.get("http-equiv")]
    assert policy.attributes["content"] == POLICY
    for tag in tree.inside:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            assert re.match("data:|#", tag.attributes.get(name) or "#"), (tag.name, name)
    assert not re.search(r"url\((?!#)|@import|https?:|fetch\(|XMLHttp", page)


def test_links_and_ids_agree(page, tree):
    ids = Counter(tag.attributes["id"] for tag in tree.inside if "id" in tag.attributes)
    assert set(ids.values()) == {1}
    links = {str(tag.attributes["href"]) for tag in tree.find("a")}
    links |= {str(tag.attributes["xlink:href"]) for tag in tree.find("use")}
    links |= set(re.findall(r"url\((#[^)]+)\)", page))
    assert {link[1:] for link in links} <= set(ids)


def test_every_scored_row_leads_to_its_pictures(tree, shown):
    (scores,) = tree.find("section", id="scores")
    links = [a for a in scores.find("a") if a.attributes["href"].startswith("#pictures-")]
    articles = {article.attributes["id"]: article for article in tree.find("article")}
    assert len(links) == len(articles) == len(shown) == 5
    for link, one in zip(links, shown, strict=True):
        article = articles[link.attributes["href"][1:]]
        (title,) = article.find("h3")
        assert title.text == f"{one.row.structure.capitalize()}: {link.text}"
        assert one.run_id in article.text
        assert "Picture missing: gone" in article.text
        images = article.find("img", class_="enlarges")
        assert len(images) == 2
        for image in images:
            assert image.attributes["loading"] == "lazy"
            assert "Dice 0.100" in image.attributes["alt"]


def test_the_page_begins_with_the_verdict_of_each_structure(tree):
    (main,) = tree.find("main")
    assert main.find("section")[0].attributes["id"] == "verdict"
    vesicles, membrane = tree.find("div", class_="verdict")
    (best,) = vesicles.find("p", class_="best")
    assert best.text == (
        "Fine-tuned (focal-Dice)Dice 0.700 ± 0.071 over 2 seeds (95 % interval 0.690 to 0.730 over "
        "3 sections, worth 2.6)"
    )
    (few,) = vesicles.find("li")
    assert few.text.startswith("3 sections are too few (at least 7 are needed) to tell it from: ")
    assert "From scratch (focal-Dice)" in few.text
    # The picture of the errors, as there is none of the median section the worst.
    (image,) = vesicles.find("img")
    assert image.attributes["alt"].startswith(f"Errors of section {QUOTES}, the worst")
    assert "found (true positive)" in vesicles.text
    assert "From scratch" not in membrane.text


def test_the_title_says_which_data(tree, rows):
    (title,) = tree.find("title")
    (heading,) = tree.find("h1")
    assert (
        title.text == heading.text == f"Segmentation benchmark: data{QUOTES} (vesicles, membrane)"
    )


def test_the_title_has_the_folder_and_the_pixel_size_but_no_hash(rows, read_page):
    facts = DataFacts(pixel_size_nm=4.6)
    named = [replace(row, dataset="my tissue@0123abcd", data=facts) for row in rows]
    setting = Setting("e", "test", "data", "none", ())
    (title,) = read_page(benchmark_page(setting, named, [], [], [], [])).find("title")
    expected = "Segmentation benchmark: my tissue (vesicles, membrane; 4.6 nm a pixel)"
    assert title.text.replace("\N{NO-BREAK SPACE}", " ") == expected


def test_the_table_has_scores_best_values_and_what_sorting_needs(tree):
    (table,) = tree.find("table", class_="sortable")
    ours, theirs = table.find("tbody")
    cells = [
        [(c.text, c.attributes.get("data-value")) for c in row.inside if c.name in ("td", "th")]
        for row in ours.find("tr")
    ]
    scratch, finetuned = cells[0], cells[1]
    assert scratch[0][0] == "From scratch (focal-Dice)"
    # Two seeds, 0.4 and 0.3.
    assert scratch[2][0] == "0.350 ± 0.071"
    assert float(scratch[2][1]) == pytest.approx(0.35)
    assert finetuned[1][0] == "Vesicles"
    assert next(tag.text for tag in ours.find("strong")) == "0.700 ± 0.071"
    assert len(cells) == 5
    assert theirs.attributes["class"] == "published"
    assert "published: a paper: scores of other data, not compared" in theirs.text
    assert "0.990" in theirs.text
    (notes,) = tree.find("ul", class_="notes")
    (failure,) = notes.find("li")
    assert failure.text == f"Not scored (membrane: From scratch (focal-Dice)): no {SCRIPT}"


def test_head_and_captions_say_what_was_compared(tree, rows):
    facts = dict(
        zip([t.text for t in tree.find("dt")], [d.text for d in tree.find("dd")], strict=True)
    )
    assert facts == {
        "Experiment": f"of {SCRIPT}",
        "Split": "test",
        "Sections": "3",
        "Post-processing": "protocol data",
        "Augmentations": "none",
        "Seeds": "0, 1",
        "Evaluated": "2026-01-02 to 2026-03-04",
    }
    assert {*captions(rows)} <= {p.text for p in tree.find("p")}


def test_there_is_a_chart_of_each_kind_per_structure(tree):
    charts = {s.attributes["id"]: len(s.find("svg")) for s in tree.find("section") if s.find("h2")}
    assert charts == {
        "verdict": 0,
        "scores": 0,
        "charts": 2,
        "comparisons": 0,
        "precision-and-recall": 2,
        # Against iterations, and against seconds.
        "training": 4,
        "pictures": 0,
    }
    assert all(svg.attributes["aria-label"] for svg in tree.find("svg"))
    (training,) = tree.find("section", id="training")
    assert "From scratch (focal-Dice): not trained" in training.text


def test_every_part_of_a_structure_can_be_hidden_by_its_name(tree):
    parts = Counter(tag.attributes.get("data-structure") for tag in tree.inside)
    # The verdict, a row per scored method and the published one, four charts, pairs, pictures.
    assert parts["vesicles"] == 1 + 4 + 4 + 1 + 3
    assert parts["membrane"] == 1 + 2 + 4 + 1 + 2
    (choice,) = tree.find("select")
    values = [option.attributes["value"] for option in choice.find("option")]
    assert values == ["", "vesicles", "membrane"]
    # Without scripts nothing could be chosen.
    assert "hidden" in tree.find("label")[0].attributes


def test_the_same_findings_give_the_same_page(page, rows, published, shown):
    setting = Setting(f"of {SCRIPT}", "test", "data", "none", ("2026-01-02", "2026-03-04"))
    pages = [
        benchmark_page(setting, rows, published, shown, compare_pairs([], []), []) for _ in range(2)
    ]
    assert pages[0] == pages[1] != page
    assert "there is nothing to compare" in pages[0]


def test_a_page_without_curves_and_pictures_is_written(rows, read_page):
    setting = Setting("e", "test", "data", "none", ())
    tree = read_page(benchmark_page(setting, rows, [], [], [], []))
    assert not tree.find("article")
    assert tree.find("table", class_="sortable")


def test_a_page_of_eight_methods_and_three_structures_is_under_13_mb():
    # Noise is the hardest to compress, and a sweep of 256 thresholds the longest curve.
    pixels = np.random.default_rng(0).integers(256, size=(512, 512, 3), dtype=np.uint8)
    webp = encode_webp(Image.fromarray(pixels), panel_budget(8 * 3 * 3 * 3))
    panels = [Panel(title, *webp) for title in ("Annotation", "Prediction", "Errors")]
    structures = ["vesicles", "mitochondria", "membrane"]
    records = [
        ScoreRecord(f"m{n}", structure, "d", 0, f"{structure}{n}", {"dice": 0.5})
        for n in range(8)
        for structure in structures
    ]
    rows = benchmark_table(records, [], structures)
    sweep = Curve(np.linspace(1, 0, 256), np.linspace(0, 1, 256))
    pictures = [Picture("s", role, {"dice": 0.5}, panels) for role in ("worst", "median", "best")]
    shown = [
        Shown(row, 0, row.run_ids[0], pictures, sweep, TrainingCurves(sweep, sweep)) for row in rows
    ]
    setting = Setting("e", "test", "data", "none", ())
    page = benchmark_page(setting, rows, [], shown, compare_pairs(records, structures), [])
    # Those of the verdicts too, and the one that is enlarged.
    assert page.count("<img") == 8 * 3 * 3 * 3 + 3 + 1
    assert len(page.encode()) < 13e6
