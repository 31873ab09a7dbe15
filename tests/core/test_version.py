import json
import re
from pathlib import Path

import pytest

from bench.core import version
from bench.core.version import VERSIONS, collect_versions, register_version
from bench.errors import BenchError

PARTS = {"a": 0.5, "found": 3}


def test_a_step_has_the_versions_of_all_that_it_is_made_of():
    found = collect_versions("microsam", ("network sam", "sam training", "method microsam"))
    parts = ("dice", "feeding", "network sam", "sam masks", "sam training", "training loop")
    raised = {"sam training": "2", "microsam": str(VERSIONS["microsam"])}
    assert found == dict.fromkeys(parts, "1") | raised
    assert collect_versions("compare") == {}


def test_every_version_is_of_a_step_or_a_part_of_one():
    steps = {path.stem for path in (Path(version.__file__).parents[1] / "steps").glob("*.py")}
    parts = {part for made_of in version._PARTS.values() for part in made_of}
    # What runs add by themselves.
    added = {part for part in VERSIONS if part.startswith("network ")}
    added |= {"sam training", "volume patches", "phantom tomogram", "spheres", "classes"}
    added |= {"prompts"}
    assert VERSIONS.keys() <= steps | parts | added
    assert parts <= VERSIONS.keys()


def test_the_version_of_what_comes_from_outside_is_that_of_its_runs_only(monkeypatch):
    monkeypatch.setattr(version, "_registered", {})
    before = collect_versions("finetune", ("network unet2d",))
    register_version("network mynet", "lab_nets 1.2")
    register_version("network mynet", "lab_nets 1.2")
    found = collect_versions("finetune", ("network mynet",))
    assert found["network mynet"] == "lab_nets 1.2"
    assert collect_versions("finetune", ("network unet2d",)) == before


@pytest.mark.parametrize(
    ("part", "known"),
    [("network sam", "our own, version 1"), ("network mynet", "lab_nets 1.2")],
)
def test_what_comes_from_outside_has_a_name_of_its_own(monkeypatch, part, known):
    monkeypatch.setattr(version, "_registered", {"network mynet": "lab_nets 1.2"})
    message = re.escape(f"received {part!r} of other 3, which is {known}: rename")
    with pytest.raises(BenchError, match=message):
        register_version(part, "other 3")


@pytest.fixture
def stored(tmp_path, monkeypatch):
    """A file that has the results of a part."""
    monkeypatch.setitem(VERSIONS, "dice", 4)
    path = tmp_path / "stored.json"
    results = {"a": [0.5], "found": 3}
    path.write_text(json.dumps({"dice": {"version": 4, "results": results}}))
    return path


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("results", [PARTS, PARTS | {"a": 0.5001}])
def test_the_last_digits_of_a_machine_are_no_other_result(check_stored, stored, store, results):
    before = stored.read_text()
    assert check_stored("dice", results, stored, store=store) == ""
    assert stored.read_text() == before


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("change", [{"a": 0.502}, {"found": 4}, {"found": 3.0}, {"a": [0.5, 0.5]}])
def test_other_results_need_another_version(check_stored, stored, store, change):
    before = stored.read_text()
    wrong = check_stored("dice", PARTS | change, stored, store=store)
    assert "is not what its version 4 did: if that is meant, raise VERSIONS['dice']" in wrong
    assert stored.read_text() == before


def test_less_results_are_other_results(check_stored, stored):
    assert "raise VERSIONS['dice']" in check_stored("dice", {"a": 0.5}, stored, store=True)


@pytest.mark.parametrize("results", [PARTS, PARTS | {"a": 0.7}])
def test_another_version_needs_results(check_stored, stored, monkeypatch, results):
    monkeypatch.setitem(VERSIONS, "dice", 5)
    wrong = check_stored("dice", results, stored, store=False)
    assert "results of 'dice' version 5 must be stored: run `python -m pytest" in wrong
    assert check_stored("dice", results, stored, store=True) == ""
    assert check_stored("dice", results, stored, store=False) == ""
    assert json.loads(stored.read_text())["dice"]["version"] == 5


def test_what_is_added_is_stored_without_another_version(check_stored, stored):
    more = PARTS | {"new": [0.1, 0.2]}
    assert "must be stored" in check_stored("dice", more, stored, store=False)
    assert check_stored("dice", more, stored, store=True) == ""
    assert json.loads(stored.read_text())["dice"]["results"]["new"] == [0.1, 0.2]
