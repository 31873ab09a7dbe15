"""What a name tells its reader: who may use it, that it is the only one, and that it exists."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SOURCE = PROJECT / "src"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}
USERS = ("src", "entrypoints", "tests", "benchmarks", "docker")
FILES = [path for folder in USERS for path in sorted((PROJECT / folder).rglob("*.py"))]
TEXTS = [*FILES, *sorted((PROJECT / "docs").glob("*.md")), *sorted(PROJECT.glob("*.md"))]
IMPORT = re.compile(r"^ *from (bench[\w.]*) import (\([^)]*\)|[\w ,]+)", re.MULTILINE)
# What a table names that is imported late.
LATE = re.compile(r"bench[\w.]*:\w+")
# Where the log of a file goes is the same in all of them.
EVERYWHERE = {"log"}

USED_BY_OTHERS = {
    "bench.ingest.annotations.annotations.ANNOTATION_FORMATS": "docs/extending.md adds a row",
    "bench.tracking.champion_model.ChampionModel": "MLflow runs the file",
}
SHARED_NAMES = {
    # A module per file format; what they have in common is called through the module.
    "list_arrays": {"bench.ingest.images.hdf5", "bench.ingest.images.zarr_arrays"},
    "list_channels": {"bench.ingest.images.hdf5", "bench.ingest.images.zarr_arrays"},
    "read_header": {
        "bench.ingest.images.formats",
        "bench.ingest.images.hdf5",
        "bench.ingest.images.images",
        "bench.ingest.images.mrc",
        "bench.ingest.images.zarr_arrays",
    },
    "read_offset": {"bench.ingest.images.hdf5", "bench.ingest.images.zarr_arrays"},
    "read_plane": {
        "bench.ingest.images.formats",
        "bench.ingest.images.hdf5",
        "bench.ingest.images.mrc",
        "bench.ingest.images.zarr_arrays",
    },
    # What ends an unfinished folder, and the step of that name.
    "publish": {"bench.core.folders", "bench.steps.publish"},
    # The texts of the two kinds of tables.
    "to_csv": {"bench.report.comparison_formats", "bench.report.table_formats"},
    "to_markdown": {"bench.report.comparison_formats", "bench.report.table_formats"},
}
# Literal tables, which have a row for every method and network.
LONG_FILES = {"bench.methods", "bench.models.networks"}
LONG_FUNCTIONS = {
    # Loops that numba compiles are one piece.
    "bench.search.component_tree.build_component_tree",
    "bench.search.component_tree.match_components",
}


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def defined(tree: ast.Module) -> Iterator[str]:
    """The names that a module gives itself: functions, classes, constants."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [inner for target in targets for inner in ast.walk(target)]
            yield from (inner.id for inner in names if isinstance(inner, ast.Name))


@cache
def public_names() -> frozenset[str]:
    return frozenset(
        f"{module}.{name}"
        for module, path in MODULES.items()
        for name in defined(tree_of(path))
        if not name.startswith("_") and name not in EVERYWHERE
    )


def imported(tree: ast.Module) -> dict[str, str]:
    """What a file imports from the house, in full, by the name it has there."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.".startswith("bench.")
    }


def used(path: Path) -> set[str]:
    """The public names that a file imports, reaches through their module, or replaces there."""
    known = imported(tree_of(path))
    found = set(known.values())
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and LATE.fullmatch(str(node.value)):
            found.add(str(node.value).replace(":", "."))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{known.get(node.value.id)}.{node.attr}")
        elif isinstance(node, ast.Call) and len(node.args) > 1:
            # monkeypatch.setattr(module, "NAME", ...), or one string.
            first, second = node.args[:2]
            if isinstance(first, ast.Name) and isinstance(second, ast.Constant):
                found.add(f"{known.get(first.id)}.{second.value}")
            elif isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def test_names_of_one_file_begin_with_an_underscore():
    users = defaultdict(set)
    for path in FILES:
        for name in used(path) & public_names():
            users[name].add(path)
    alone = {
        name for name in public_names() if not users[name] - {MODULES[name.rpartition(".")[0]]}
    }
    named_in_docs = {full for path in TEXTS if path.suffix == ".md" for full in names_in_text(path)}
    assert alone - named_in_docs == set(USED_BY_OTHERS)


def test_a_public_name_is_the_only_one():
    homes = defaultdict(set)
    for full in public_names():
        module, _, name = full.rpartition(".")
        homes[name].add(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == SHARED_NAMES


def names_in_text(path: Path) -> set[str]:
    """What is imported from the house in a text, strings of programs included."""
    return {
        f"{module}.{name.split(' as ')[0].strip()}"
        for module, names in IMPORT.findall(path.read_text())
        for name in names.strip("()").split(",")
        if name.strip()
    }


def test_what_programs_in_texts_import_is_there():
    there = {f"{module}.{name}" for module, path in MODULES.items() for name in here(path)}
    missing = {
        (path.name, name)
        for path in TEXTS
        # This page makes some of what it imports; its own test runs it.
        if path.name != "extending.md"
        for name in names_in_text(path)
        if name not in there and name not in MODULES
    }
    assert missing == set()


def here(path: Path) -> set[str]:
    """The names that can be imported from a file, private ones included."""
    return {*defined(tree_of(path)), *imported(tree_of(path))}


def lines_of_body(function: ast.FunctionDef) -> int:
    first = function.body[bool(ast.get_docstring(function)) :] or function.body
    return (function.end_lineno or 0) - first[0].lineno + 1


def test_no_function_is_longer_than_a_page():
    functions = {
        f"{module}.{node.name}": lines_of_body(node)
        for module, path in MODULES.items()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef)
    }
    assert {name for name, lines in functions.items() if lines > 40} == LONG_FUNCTIONS


def test_no_file_is_longer_than_a_chapter():
    lines = {name: path.read_text().count("\n") for name, path in MODULES.items()}
    assert {name for name, count in lines.items() if count > 400} == LONG_FILES


def test_no_room_is_crowded():
    bench = SOURCE / "bench"
    rooms = {path.parent for path in MODULES.values()} - {bench}
    full = {room.name for room in rooms if len([*room.glob("*.py")]) > 18}
    # A file for each entry point.
    assert full <= {"steps"}
    assert len([*(bench / "steps").glob("*.py")]) <= 30
    assert len([*bench.glob("*.py")]) <= 5
    # 240 rooms' worth, one for each format and check that first users brought, volumes, and the
    # systems of other papers, other data and pseudo-masks; what to annotate, and what to doubt.
    assert len(MODULES) <= 580
