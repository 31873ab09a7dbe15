"""Networks, methods and metrics that a laboratory adds without changing this repository.

A plugin is a module with tables of its own, ``NETWORKS``, ``METHODS`` and ``METRICS``, whose rows
join ours. It is found where it is installed under the entry-point group ``synapse_bench``, or named
in the environment variable ``BENCH_PLUGINS`` (docs/extending.md).
"""

import importlib
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from bench.core.hashing import file_sha256, json_sha256
from bench.core.process import PLUGIN_VARIABLE, named_plugins
from bench.core.version import register_version
from bench.errors import BenchError, unknown_name
from bench.methods import register_method
from bench.models.networks import NETWORKS, register_network

# Digits of the hash that stands for a module without a version.
_DIGITS = 12


@dataclass(frozen=True)
class Plugin:
    """A module that was loaded.

    Attributes:
        module: Its name.
        version: That of its distribution, else its ``__version__``, else a hash of its files.
        distribution: What installs it; empty where it is named in BENCH_PLUGINS.
        rows: Kind and name of what it adds, such as ``network mynet``.
    """

    module: str
    version: str
    distribution: str
    rows: tuple[str, ...]

    def __str__(self) -> str:
        """As the identity of its runs has it."""
        return f"{self.module} {self.version}"

    @property
    def files(self) -> Path:
        """Its file, or the folder of its package."""
        file = Path(str(sys.modules[self.module].__file__))
        return file.parent if file.name == "__init__.py" else file


_LOADED: dict[str, Plugin] = {}


def load_plugins() -> tuple[Plugin, ...]:
    """Loads what is installed and what BENCH_PLUGINS names, each once in a process.

    Raises:
        BenchError: If a module cannot be imported, or its rows do not fit.
    """
    for name, distribution in named_plugins().items():
        _load(name, distribution or PLUGIN_VARIABLE, distribution)
    return tuple(_LOADED.values())


def require_plugins(versions: Mapping[str, str], *, carried: bool = False) -> None:
    """Loads plugins, among them those that work of another process depends on.

    Args:
        versions: Version by module, as ``plugin_versions`` gave it there.
        carried: Whether their code came along, as in a champion's files. Elsewhere only the user
            names what is imported: not a file or a task that another process left.

    Raises:
        BenchError: If one is missing here, or of another version.
    """
    load_plugins()
    for module, version in versions.items():
        if module not in _LOADED and not carried:
            raise BenchError(
                f"plugin {module}, with which this work was begun, must be there wherever it is "
                f"done, it is neither installed nor named by {PLUGIN_VARIABLE}: add it"
            )
        found = _load(module, "a champion").version
        if found != version:
            raise BenchError(
                f"plugin {module} must be of version {version}, with which this work was begun, "
                f"found {found}: install the same everywhere"
            )


def plugin_versions() -> dict[str, str]:
    """The version of every loaded plugin, by module."""
    return {plugin.module: plugin.version for plugin in _LOADED.values()}


def plugins_of(networks: Iterable[str]) -> tuple[Plugin, ...]:
    """The plugins that some networks come from."""
    wanted = {f"network {name}" for name in networks}
    return tuple(plugin for plugin in _LOADED.values() if wanted & set(plugin.rows))


def _load(name: str, origin: str, distribution: str = "") -> Plugin:
    """Imports a module and takes its rows, once."""
    if name in _LOADED:
        return _LOADED[name]
    try:
        module = importlib.import_module(name)
    except BenchError:
        raise
    except Exception as error:  # Whatever a stranger's module does when it is imported.
        raise BenchError(
            f"plugin {name}, named by {origin}, must be a module that can be imported, it is not "
            f"({type(error).__name__}: {error}): correct it, or put its folder on PYTHONPATH"
        ) from error
    try:
        rows = tuple(_take_rows(module))
    except (AttributeError, TypeError) as error:
        raise BenchError(
            f"the tables of plugin {name} must be dicts of Network, Method and Metric by name, "
            f"received something else ({error}): see docs/extending.md"
        ) from error
    if not rows:
        raise BenchError(
            f"plugin {name}, named by {origin}, must have a table NETWORKS, METHODS or METRICS "
            "with rows, it has none: see docs/extending.md"
        )
    plugin = Plugin(name, _version_of(module, distribution), distribution, rows)
    for row in rows:
        register_version(row, str(plugin))
    _LOADED[name] = plugin
    return plugin


def _take_rows(module: ModuleType) -> list[str]:
    """Adds the rows of a module to our tables; returns the kind and name of each."""
    networks, methods, metrics = (
        getattr(module, table, {}) for table in ("NETWORKS", "METHODS", "METRICS")
    )
    for key, row in [*networks.items(), *methods.items()]:
        if key != row.name:
            raise BenchError(
                f"rows must be found by their own name, plugin {module.__name__} has {row.name!r} "
                f"under {key!r}: name both alike"
            )
    for row in networks.values():
        register_network(row)
    for row in methods.values():
        if row.network not in NETWORKS:
            raise unknown_name(f"network of method {row.name}", row.network, NETWORKS)
        register_method(row)
    if metrics:
        # What computes metrics takes a second to import.
        from bench.metrics.table import register_metric

        for name, row in metrics.items():
            register_metric(name, row)
    kinds = (("network", networks), ("method", methods), ("metric", metrics))
    return [f"{kind} {name}" for kind, rows in kinds for name in rows]


def _version_of(module: ModuleType, distribution: str) -> str:
    """The version of a plugin; without one, a hash of its sources."""
    if distribution:
        return importlib.metadata.version(distribution)
    said = str(getattr(module, "__version__", ""))
    return said or _hash_sources(Path(str(module.__file__)))


def _hash_sources(file: Path) -> str:
    files = sorted(file.parent.rglob("*.py")) if file.name == "__init__.py" else [file]
    hashes = [[each.relative_to(file.parent).as_posix(), file_sha256(each)] for each in files]
    return json_sha256(hashes)[:_DIGITS]
