"""What a build must keep to; the build itself needs an engine (see CONTRIBUTING.md)."""

import re
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
LINES = re.sub(r"\\\n", " ", (PROJECT / "Dockerfile").read_text()).splitlines()
DOCKERFILE = [line for line in LINES if line and not line.startswith("#")]
IGNORED = (PROJECT / ".dockerignore").read_text().splitlines()


def instructions(word):
    return [line.split(None, 1)[1] for line in DOCKERFILE if line.startswith(f"{word} ")]


def test_the_version_is_the_projects():
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    (label,) = instructions("LABEL")
    assert f'image.version="{version}"' in label


def test_nothing_is_installed_without_its_hash():
    installs = [
        part for run in instructions("RUN") for part in run.split("&&") if "pip install" in part
    ]
    assert len(installs) == 3
    assert all("--require-hashes" in install for install in installs)


def test_the_base_can_be_given_by_digest_and_no_stage_ends_as_root():
    assert instructions("ARG")[0].startswith("PYTHON_IMAGE=python:3.11")
    stages = {"${PYTHON_IMAGE}"}
    for line in instructions("FROM"):
        image, *name = re.split(r"\s+AS\s+", line)
        assert image in stages
        stages.update(name)
    users = instructions("USER")
    assert users == ["1000:1000", "0", "1000:1000"]
    assert DOCKERFILE[-1] == "FROM runtime"


def test_only_what_is_copied_enters_the_build():
    """Everything is left out (data, runs, keys that lie about) but for what is named."""
    assert next(line for line in IGNORED if line and not line.startswith("#")) == "*"
    let_in = [line[1:] for line in IGNORED if line.startswith("!")]
    assert not {"data", "mlruns", "results", ".git", ".env", ".venv"} & set(let_in)
    for pattern in let_in:
        assert list(PROJECT.glob(pattern)), f"{pattern} names nothing"
    copied = [line.split() for line in instructions("COPY") if not line.startswith("--from")]
    sources = [source for *line, _ in copied for source in line if source != "."]
    assert len(sources) > 8
    for source in sources:
        top = Path(source).parts[0]
        assert any(Path(top).match(pattern) for pattern in let_in)
        assert (PROJECT / source).exists()


@pytest.mark.parametrize("name", ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_DRIVER_CAPABILITIES="])
def test_the_gpu_is_asked_for(name):
    assert any(name in line for line in instructions("ENV"))
