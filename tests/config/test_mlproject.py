"""MLproject, the options and the configs say the same; values reach a step as data."""

import ast
import dataclasses
import importlib
import inspect
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import click
import pytest
import yaml
from mlflow.projects._project_spec import load_project

import cli

from bench.config.mlproject import ENTRY_POINTS as CONFIGS
from bench.config.mlproject import mlproject_texts

PROJECT = Path(__file__).parents[2]
CONTENT = yaml.safe_load((PROJECT / "MLproject").read_text())
ENTRY_POINTS = CONTENT["entry_points"]
each_entry_point = pytest.mark.parametrize("name", ENTRY_POINTS)

# What a shell would make something of, unless it is quoted for it.
HOSTILE = [
    "two words",
    "a'b",
    'a"b',
    "'\"'",
    "; touch {canary}",
    "$(touch {canary})",
    "`touch {canary}`",
    "'; touch {canary}; '",
    '"; touch {canary}; "',
    "a\ntouch {canary}",
    "&& touch {canary} #",
    "| tee {canary}",
    "> {canary}",
    "*",
    "~",
    "$HOME",
    "back\\slash",
    "{{input}}",
    "%s",
    "-x",
    "--output",
    "",
    "µm/日本",
]


def test_both_files_are_made_from_the_configs():
    texts = mlproject_texts(PROJECT)
    assert set(texts) == {PROJECT / "MLproject", PROJECT / "docker" / "MLproject"}
    for path, text in texts.items():
        assert path.read_text() == text, "run `make mlproject`"


def test_every_entry_point_is_a_file_and_every_file_an_entry_point():
    assert set(CONFIGS) == {p.stem for p in (PROJECT / "entrypoints").glob("*.py")} - {
        "cli",
        "command",
    }


@each_entry_point
def test_mlflow_shows_in_a_run_what_was_given_and_nothing_else(name):
    """Declared parameters are logged with their defaults: 50 for a benchmark."""
    assert ENTRY_POINTS[name] == {"command": f"python entrypoints/{name}.py"}
    entry = load_project(PROJECT).get_entry_point(name)
    assert entry.compute_parameters({}, None) == ({}, {})
    assert entry.compute_parameters({"device": "cpu"}, None) == ({}, {"device": "cpu"})


@each_entry_point
def test_every_setting_is_described_with_its_default(name):
    section = (PROJECT / "MLproject").read_text().partition(f"\n  {name}:\n")[2]
    listed = section.partition("    command:")[0]
    for field in dataclasses.fields(CONFIGS[name]):
        default = "auto" if field.default is None else field.default
        default = str(default).lower() if isinstance(default, bool) else default
        assert f"    # {field.name}={default}: " in listed


@each_entry_point
def test_options_are_those_of_the_config(name):
    config = CONFIGS[name]
    options = {option.name: option for option in cli.make_options(config, "finetune")}
    assert set(options) == {field.name for field in dataclasses.fields(config)}
    for key, option in options.items():
        assert f"--{key}" in option.opts
    with click.Context(click.Command(name, params=list(options.values()))) as context:
        parsed = {key: option.get_default(context) for key, option in options.items()}
        parsed = {key: options[key].type_cast_value(context, v) for key, v in parsed.items()}
    assert config(**parsed) == config()
    assert [type(parsed[key]) for key in parsed] == [type(getattr(config(), key)) for key in parsed]


@each_entry_point
def test_a_step_runs_as_its_config_and_nothing_else(name):
    module = importlib.import_module(name)
    assert get_type_hints(module.main)["config"] is CONFIGS[name]
    assert f"run_step({CONFIGS[name].__name__}, main)" in inspect.getsource(module)


@each_entry_point
def test_the_default_command_parses_to_the_default_config(name):
    words = shlex.split(load_project(PROJECT).get_entry_point(name).compute_command({}, None))
    assert parse(name, words[2:]) == CONFIGS[name]()


@pytest.mark.parametrize("template", HOSTILE)
def test_a_value_survives_the_shell(template, tmp_path):
    """Through mlflow's own command line, bash, and back: the same characters, nothing run."""
    canary = tmp_path / "canary"
    value = template.format(canary=canary)
    entry = load_project(PROJECT).get_entry_point("prepare")
    command = entry.compute_command({"input": value, "splits": value}, None)
    program = f"{shlex.quote(sys.executable)} -c 'import sys; print(ascii(sys.argv[1:]))'"
    command = command.replace("python entrypoints/prepare.py", program, 1)
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    config = parse("prepare", ast.literal_eval(done.stdout))
    assert (config.input, config.splits) == (value, value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("typed", "expected"),
    [("true", True), ("false", False), ("True", True), ("no", False), ("1", True)],
)
def test_truth_values(typed, expected):
    assert parse("prepare", ["--overwrite", typed]).overwrite is expected


def test_auto_is_none_and_a_number_a_number():
    config = parse("evaluate", ["--min_area_px", "auto", "--opening_radius_px", "3", "--seed", "7"])
    assert (config.min_area_px, config.opening_radius_px, config.seed) == (None, 3, 7)


def test_dashes_are_as_good_as_underscores():
    assert parse("prepare", ["--pixel-size-nm", "4.5"]).pixel_size_nm == 4.5


def parse(name: str, arguments: list[str]) -> object:
    """What the entry point's step is called with."""
    config = CONFIGS[name]
    command = click.Command(name, params=cli.make_options(config, name), callback=config)
    return command.main(arguments, standalone_mode=False)
