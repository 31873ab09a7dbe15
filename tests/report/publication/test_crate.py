"""RO-Crate 1.1: what its specification says must be there, of a folder as publish writes it."""

import json

import pytest

from bench.report.publication.crate import CRATE_FILE, Crate, CrateAction, describe_folder

CRATE = Crate(
    name="A result",
    description="What it is.",
    published="2026-01-02",
    terms="Ask.",
    dataset=("tissue", "a" * 64),
    software=("synapse-bench", "0.1.0"),
    actions=[
        CrateAction("r1", "evaluate", "2026-01-01T10:00:00", "2026-01-01T11:00:00", ["a.csv"])
    ],
    about={"a.csv": "A table"},
)


@pytest.fixture
def described(tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n")
    (tmp_path / "in it").mkdir()
    (tmp_path / "in it" / "µ 5%.json").write_text("{}")
    (tmp_path / CRATE_FILE).write_text("an earlier one")
    content = describe_folder(tmp_path, CRATE)
    return {each["@id"]: each for each in json.loads(json.dumps(content))["@graph"]}


def test_the_descriptor_and_the_root_have_what_they_must(described):
    descriptor = described["ro-crate-metadata.json"]
    assert descriptor["@type"] == "CreativeWork"
    assert descriptor["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    assert descriptor["about"] == {"@id": "./"}
    root = described["./"]
    assert root["@type"] == "Dataset"
    assert (root["name"], root["description"]) == ("A result", "What it is.")
    assert root["datePublished"] == "2026-01-02"
    assert described[root["license"]["@id"]]["description"] == "Ask."


def test_every_file_is_a_part_by_its_uri(described):
    parts = [part["@id"] for part in described["./"]["hasPart"]]
    assert parts == ["a.csv", "in%20it/µ%205%25.json"]
    table = described["a.csv"]
    assert (table["@type"], table["contentSize"], table["encodingFormat"]) == (
        *("File", "4", "text/csv"),
    )
    assert table["description"] == "A table"


def test_whatever_is_referred_to_is_described(described):
    def references(value):
        if isinstance(value, dict):
            inner = [each for part in value.values() for each in references(part)]
            return inner if "@type" in value else [*inner, *filter(None, [value.get("@id")])]
        return [each for part in value for each in references(part)] if type(value) is list else []

    named = {each for entity in described.values() for each in references(entity)}
    assert {each for each in named if "://" not in each} <= set(described)
    assert described["#r1"]["instrument"] == {"@id": "#software"}
    assert described["#software"]["version"] == "0.1.0"
    assert described["#dataset"]["identifier"] == "sha256:" + "a" * 64
