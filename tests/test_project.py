import hashlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from bench.core.version import SUITE_VERSION

PROJECT = Path(__file__).parents[1]
REQUIREMENTS = (
    "requirements.txt",
    "requirements-dev.txt",
    "requirements-uv.txt",
    "requirements-bench.txt",
    "requirements-nnunet.txt",
    "requirements-openvino.txt",
    "requirements-yolo.txt",
    "requirements-docs.txt",
)


def test_conda_notices_changed_requirements():
    """conda hashes conda.yaml alone: the hash of the requirements stands in it."""
    digest = hashlib.sha256((PROJECT / "requirements.txt").read_bytes()).hexdigest()[:16]
    assert f"has the hash {digest} " in (PROJECT / "conda.yaml").read_text()


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_every_requirement_is_pinned_and_hashed_without_an_address(name):
    text = (PROJECT / name).read_text()
    assert "://" not in text
    assert "--index" not in text
    entries = re.split(r"\n(?=\S)", re.sub(r"(?m)^\s*#.*\n", "", text))
    for entry in filter(str.strip, entries):
        assert re.match(r"[\w.-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_runs_find_the_embedded_store_through_the_link():
    """mlflow's own default is mlflow.db in the folder that `mlflow run .` is started in."""
    assert (PROJECT / "mlflow.db").readlink() == Path("mlruns/mlflow.db")


def test_the_citation_is_of_this_version_and_names_nobody():
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    package = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert (citation["version"], citation["license"]) == (package["version"], package["license"])
    assert package["version"] == SUITE_VERSION
    assert citation["authors"] == [{"name": "The synapse-bench authors"}]
