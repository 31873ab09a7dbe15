"""The commands of the README: each is one that its step takes, and in their order they work."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import tifffile

from bench.config.mlproject import ENTRY_POINTS
from bench.dataset.prepared import PreparedDataset

PROJECT = Path(__file__).parents[2]
PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md"))]
# Entry points that docs/extending.md adds.
_OF_EXAMPLES = {"count"}
# So that the trainings of the README end in seconds; what is typed goes before a preset.
_SMALL = {"patch_px": "32", "tile_px": "32", "lr": "0.01"}
# A count, as seconds do not suffice on a machine with other work; minutes have tests of their own.
QUICKLY = {
    "benchmark": _SMALL | {"iterations": "30"},
    "finetune": _SMALL | {"minutes": "auto", "iterations": "4"},
}


def list_commands(page: Path) -> list[tuple[str, dict[str, str]]]:
    """The `mlflow run` lines of a page: entry point, and what is given by -P."""
    text = page.read_text().replace("\\\n", " ")
    found = []
    for line in re.findall(r"^ {4}mlflow run (?:\.|docker) .*$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        given = [words[place + 1] for place, word in enumerate(words) if word == "-P"]
        named = [words[place + 1] for place, word in enumerate(words) if word == "-e"]
        assert len(named) == 1, line
        found.append((named[0], dict(pair.split("=", 1) for pair in given)))
    return found


def list_installed_commands(page: Path) -> list[tuple[str, set[str]]]:
    """The `synapse-bench` lines of a page: entry point, and the settings that are given."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^ {4}synapse-bench (\w+) (.*)$", text, re.MULTILINE)
    return [(step, set(re.findall(r"--(\w+)", rest))) for step, rest in lines]


def as_options(settings: dict[str, str]) -> list[str]:
    return [word for name, value in settings.items() for word in (f"--{name}", value)]


def test_every_command_of_every_page_names_settings_of_its_step():
    for page in PAGES:
        for step, settings in list_commands(page):
            if step in _OF_EXAMPLES:
                continue
            known = set(ENTRY_POINTS[step].__dataclass_fields__)
            assert set(settings) <= known, (page, step, set(settings) - known)


def test_every_installed_command_names_settings_of_its_step():
    found = [command for page in PAGES for command in list_installed_commands(page)]
    assert {"prepare", "benchmark", "segment"} <= {step for step, _ in found}
    for step, settings in found:
        assert settings <= set(ENTRY_POINTS[step].__dataclass_fields__), (step, settings)


def test_the_first_page_has_a_table_within_five_commands():
    first = (PROJECT / "docs" / "start.md").read_text().partition("five\ncommands")[2]
    block = first.partition("\n\n    ")[2].partition("\n\n")[0].splitlines()
    assert len(block) == 5
    assert "synapse-bench benchmark" in block[-1]


def test_every_page_is_in_the_documentation_site():
    listed = re.findall(r"^   (\w+)$", (PROJECT / "docs/index.rst").read_text(), re.MULTILINE)
    pages = {page.stem for page in PAGES} - {"README", "start"}
    assert set(listed) - {"reference"} == pages


def test_commands_say_how_the_environment_is_chosen():
    """Without it mlflow looks for conda, and leaves a run that never ends."""
    for page in PAGES:
        for line in re.findall(r"^ {4}mlflow run \. .*$", page.read_text(), re.MULTILINE):
            assert "--env-manager local" in line, page


def test_the_readme_is_short():
    assert len((PROJECT / "README.md").read_text().splitlines()) < 200


def test_the_commands_of_the_readme_work_one_after_the_other(
    make_store, write_tree, run_entry_point, monkeypatch, tmp_path
):
    """As pasted, in a folder with `my_data` and `my_montages`, but for the size of the training."""
    store = make_store(tmp_path / "store")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", store.experiment_id)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    tree = write_tree(tmp_path / "my_data")
    for others in tree.glob("*/vesicles"):
        shutil.rmtree(others)
    new = write_tree(tmp_path / "new", {"train": 8, "val": 2}) / "val/raw"
    shutil.copytree(new, tmp_path / "my_montages")
    ran = []
    for step, settings in list_commands(PROJECT / "README.md"):
        correct_by_hand(tmp_path / "data/to_correct")
        status, said = run_entry_point(step, *as_options(settings | QUICKLY.get(step, {})))
        assert status == 0, (step, settings, said)
        ran.append(step)
    assert {"prepare", "benchmark", "optimize", "promote", "segment", "export"} <= set(ran)
    assert (tmp_path / "results/benchmark.html").stat().st_size > 10_000
    old, added = (PreparedDataset.open(Path(name)) for name in ("data/prepared", "data/prepared2"))
    assert added.sections("test") == old.sections("test")
    assert len(added.sections("train")) == len(old.sections("train")) + 2
    labels = added.read_labels(added.sections("train")[-1], "mitochondria")
    assert labels[0, 0] > 0, "the correction must have come back"


def correct_by_hand(folder: Path) -> None:
    """What a person does between export and prepare: an object more in a corner."""
    for path in sorted(folder.glob("mitochondria/*.tif")):
        labels = tifffile.imread(path)
        labels[:6, :6] = labels.max() + 1
        tifffile.imwrite(path, labels, photometric="minisblack")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link
