"""The script of the page in a real browser: sorting, filtering, enlarging."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--virtual-time-budget=5000", "--dump-dom"),
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

# Uses the page as a reader does, and leaves what it saw in the page's title.
USE = """
<script>
{
const seen = {start: document.title};
const rows = () => [...document.querySelectorAll("table.sortable tbody:first-of-type tr")];
const column = (n) => rows().map((row) => row.cells[n].textContent);
const buttons = [...document.querySelectorAll("table.sortable th button")];
const sorts = () => buttons.map((button) => button.parentElement.ariaSort);
seen.sorts = [sorts()];
buttons[2].click();
seen.dice = column(2); seen.sorts.push(sorts());
buttons[2].click();
seen.diceUp = column(2); seen.sorts.push(sorts());
buttons[3].click();
seen.iou = column(3);
buttons[3].click();
seen.iouUp = column(3);
buttons[0].focus();
seen.focused = document.activeElement === buttons[0];
buttons[0].click();
seen.methods = column(0); seen.sorts.push(sorts());
seen.last = document.querySelector("table.sortable tbody:last-of-type").textContent;
const choice = document.getElementById("structure");
seen.filterShown = !choice.closest("label").hidden;
choice.value = "membrane";
choice.dispatchEvent(new Event("change"));
const visible = (part) => part.checkVisibility();
const parts = [...document.querySelectorAll("[data-structure]")].filter(visible);
seen.structures = [...new Set(parts.map((part) => part.dataset.structure))];
choice.value = "";
choice.dispatchEvent(new Event("change"));
const picture = document.querySelector(".pictures img");
seen.first = document.querySelector("main h2").textContent;
picture.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter"}));
const dialog = document.getElementById("enlarged");
seen.enlarged = [dialog.open, dialog.firstElementChild.src === picture.src];
dialog.click();
seen.closed = !dialog.open;
seen.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
document.title = JSON.stringify(seen);
}
</script>
"""


@pytest.fixture(scope="module")
def seen(page, read_page, tmp_path_factory):
    file = tmp_path_factory.mktemp("page") / "page.html"
    file.write_text(page.replace("</body>", f"{USE}</body>"), encoding="utf-8")
    dom = dump(file, "--window-size=400,900")
    (title,) = read_page(dom).find("title")
    return json.loads(title.text)


def dump(file: Path, *flags: str) -> str:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [CHROMIUM, *FLAGS, *flags, f"--user-data-dir={profile}", file.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def test_names_of_users_run_nothing(seen):
    assert seen["start"].startswith("Segmentation benchmark: ")


def test_a_click_sorts_and_another_reverses(seen):
    down = ["0.700", "0.700", "0.550", "0.550", "0.350"]
    assert [text[:5] for text in seen["dice"]] == down
    assert [text[:5] for text in seen["diceUp"]] == down[::-1]
    # What has no score is last in either order.
    assert seen["iou"][-1] == seen["iouUp"][-1] == "–"


def test_headers_say_how_the_table_is_sorted(seen):
    nothing, down, up, by_name = seen["sorts"]
    assert set(nothing) == {"none"}
    assert down == ["none", "none", "descending", *nothing[3:]]
    assert up == ["none", "none", "ascending", *nothing[3:]]
    assert by_name == ["ascending", *nothing[1:]]


def test_names_sort_from_a_and_headers_take_the_keyboard(seen):
    assert seen["focused"]
    assert seen["methods"] == sorted(seen["methods"], key=str.lower)
    assert len(set(seen["methods"])) == 3


def test_published_scores_stay_apart(seen):
    assert seen["last"].startswith("published: a paper: scores of other data")
    assert "Theirs" in seen["last"]


def test_a_filter_hides_other_structures(seen):
    assert seen["filterShown"]
    assert seen["structures"] == ["membrane"]


def test_a_picture_enlarges_by_the_keyboard(seen):
    assert seen["enlarged"] == [True, True]
    assert seen["closed"]


def test_the_verdict_comes_first(seen):
    assert seen["first"] == "Verdict"


def test_a_narrow_page_does_not_scroll_sideways(seen):
    assert seen["wide"] == 0
