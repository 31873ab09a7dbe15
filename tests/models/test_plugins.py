"""Rows from outside: how they are found, what of them is checked, and what their version does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.core import version
from bench.errors import BenchError
from bench.methods import METHODS
from bench.metrics.table import METRICS
from bench.models import plugins
from bench.models.networks import NETWORKS
from bench.models.plugins import load_plugins, plugin_versions, plugins_of, require_plugins
from bench.tracking.runs import Identity

PROJECT = Path(__file__).parents[2]
NETWORK = """
from bench.models.networks import Network

NETWORKS = {"lines": Network("lines", build=print, steps=("finetune",))}
"""
METHOD = """
from bench.methods import Method

METHODS = {"lines": Method("lines", "Lines", NETWORK, "finetune", "random", "dice")}
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """Writes a module and names it; what it adds is gone afterwards."""
    tables = (NETWORKS, METHODS, METRICS, plugins._LOADED, version._registered)
    before = [dict(table) for table in tables]
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str, name: str = "lab_rows") -> Path:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        monkeypatch.setenv("BENCH_PLUGINS", name)
        return file

    yield write
    for table, rows in zip(tables, before, strict=True):
        table.clear()
        table.update(rows)
    for name in set(sys.modules) - modules:
        if name.startswith("lab_"):
            del sys.modules[name]


def test_rows_join_ours(lab):
    lab(NETWORK + METHOD.replace("NETWORK", '"lines"'))
    (plugin,) = load_plugins()
    assert (NETWORKS["lines"].steps, METHODS["lines"].network) == (("finetune",), "lines")
    assert plugins_of(["lines"]) == (plugin,)
    assert plugins_of(["unet2d"]) == ()
    assert load_plugins() == (plugin,)


def test_none_is_named(monkeypatch):
    monkeypatch.delenv("BENCH_PLUGINS", raising=False)
    assert load_plugins() == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "import no_such_module",
            "must be a module that can be imported, it is not .*no_such_module",
        ),
        ("1 / 0", "ZeroDivisionError"),
        ("", "must have a table NETWORKS, METHODS or METRICS with rows"),
        ("NETWORKS = {'a': 1}", "must be dicts of Network, Method and Metric by name"),
        ("NETWORKS = ['a']", "must be dicts of Network, Method and Metric by name"),
        (
            NETWORK.replace('{"lines"', '{"other"'),
            "found by their own name, .* 'lines' under 'other'",
        ),
        (METHOD.replace("NETWORK", '"lines"'), "unknown network of method lines 'lines'"),
        (NETWORK.replace("lines", "unet2d"), "a name of its own, .* named unet2d"),
        (
            "from dataclasses import replace\nfrom bench.metrics.table import METRICS as OURS\n"
            "METRICS = {'dice': replace(OURS['dice'], label='Mine')}",
            "a metric's name is free, 'dice' is Dice",
        ),
    ],
)
def test_a_mistake_is_one_error(lab, text, said):
    lab(text)
    with pytest.raises(BenchError, match=rf"(?s){said}"):
        load_plugins()


def test_a_module_that_is_not_there(lab, monkeypatch):
    monkeypatch.setenv("BENCH_PLUGINS", "lab_missing")
    with pytest.raises(
        BenchError, match=r"named by BENCH_PLUGINS, .* put its folder on PYTHONPATH"
    ):
        load_plugins()


def test_only_its_own_runs_have_its_version(lab):
    identities = [
        Identity("finetune", {}, {}, method=name, parts=(f"network {network}",))
        for name, network in (("lines", "lines"), ("finetuned", "unet2d"))
    ]
    before = [identity.fingerprint() for identity in identities]
    lab("__version__ = '3.1'\n" + NETWORK + METHOD.replace("NETWORK", '"lines"'))
    load_plugins()
    assert identities[0].versions()["network lines"] == "lab_rows 3.1"
    assert identities[0].versions()["method lines"] == "lab_rows 3.1"
    after = [identity.fingerprint() for identity in identities]
    assert (after[0] != before[0], after[1] == before[1]) == (True, True)


def test_without_a_version_its_sources_are_one(lab):
    lab(NETWORK)
    load_plugins()
    first = plugin_versions()["lab_rows"]
    program = "from bench.models.plugins import load_plugins; print(load_plugins()[0].version)"
    folder = Path(sys.modules["lab_rows"].__file__).parent

    def version_of(text: str) -> str:
        (folder / "lab_rows.py").write_text(text)
        paths = os.pathsep.join([str(PROJECT / "src"), str(folder)])
        environment = os.environ | {"PYTHONPATH": paths, "BENCH_PLUGINS": "lab_rows"}
        command = [sys.executable, "-c", program]
        return subprocess.check_output(command, env=environment, text=True).strip()

    assert version_of(NETWORK) == first
    assert version_of(NETWORK + "# Changed.\n") != first


def test_other_processes_need_the_same(lab):
    lab("__version__ = '1'\n" + NETWORK)
    require_plugins({"lab_rows": "1"})
    with pytest.raises(BenchError, match=r"lab_rows must be of version 2, .* found 1"):
        require_plugins({"lab_rows": "2"})
    with pytest.raises(BenchError, match=r"plugin lab_none, with .* nor named by BENCH_PLUGINS"):
        require_plugins({"lab_none": "1"})


def test_only_a_champion_brings_code_that_the_user_did_not_name(lab, monkeypatch):
    lab("__version__ = '1'\n" + NETWORK)
    monkeypatch.delenv("BENCH_PLUGINS")
    with pytest.raises(BenchError, match="neither installed nor named"):
        require_plugins({"lab_rows": "1"})
    assert "lab_rows" not in sys.modules
    require_plugins({"lab_rows": "1"}, carried=True)
    assert "lines" in NETWORKS


def test_an_installed_one_needs_no_variable(lab, tmp_path, monkeypatch):
    lab(NETWORK, "lab_installed")
    monkeypatch.delenv("BENCH_PLUGINS")
    info = tmp_path / "lab_nets-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab-nets\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text("[synapse_bench]\nlab = lab_installed\n")
    (plugin,) = load_plugins()
    assert (plugin.module, plugin.version, plugin.distribution) == (
        *("lab_installed", "2.5", "lab-nets"),
    )


def test_help_lists_its_methods_at_once(lab, tmp_path):
    lab(NETWORK + METHOD.replace("NETWORK", '"lines"'))
    paths = os.pathsep.join([str(PROJECT / "src"), str(tmp_path)])
    said = subprocess.check_output(
        [sys.executable, "-X", "importtime", "entrypoints/finetune.py", "--help"],
        env=os.environ | {"PYTHONPATH": paths},
        cwd=PROJECT,
        text=True,
        stderr=subprocess.STDOUT,
    )
    assert f"{[*METHODS][-1]}, lines." in " ".join(said.split())
    assert not {"torch", "numba", "scipy"} & {
        line.rpartition("|")[2].strip() for line in said.split("\n")
    }
