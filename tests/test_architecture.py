"""Calls go down only: entry points -> steps -> domain, and what is heavy sits behind one seam."""

import ast
import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
SOURCE = PROJECT / "src" / "bench"
MODULES = sorted(SOURCE.rglob("*.py"))
STEPS = [path for path in MODULES if "steps" in path.parts]
TRACKING = [path for path in MODULES if "tracking" in path.parts]
DOMAIN = [path for path in MODULES if path not in STEPS and path not in TRACKING]
# Who stands above whom: a room imports only from the floors below its own, and from itself.
FLOORS = (
    {"errors", "words"},
    {"structures", "methods"},
    {"metrics", "config", "core"},
    {"models", "cluster", "export", "measurement"},
    {"inference", "phantom"},
    {"postprocess", "training"},
    {"recipe", "dataset"},
    {"search", "tracking", "ingest", "correction", "advice", "handover"},
    {"report", "viewing"},
    {"steps"},
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ENTRY_POINTS = sorted((PROJECT / "entrypoints").glob("*.py"))


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(PROJECT)))


def imports(nodes: Iterator[ast.AST]) -> set[str]:
    """Full names of the modules that the nodes import."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name their module in full"
            # `from bench import steps` imports bench.steps.
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def all_imports(path: Path) -> set[str]:
    return imports(ast.walk(tree_of(path)))


def outside_of_functions(node: ast.AST) -> Iterator[ast.AST]:
    """A node and what is in it, down to the functions."""
    yield node
    if not isinstance(node, ast.FunctionDef):
        for inner in ast.iter_child_nodes(node):
            yield from outside_of_functions(inner)


@functools.cache
def imports_at_top(path: Path) -> set[str]:
    """What a module imports when it is imported: everything outside of functions."""
    return imports(outside_of_functions(tree_of(path)))


def within(package: str, names: set[str]) -> set[str]:
    return {name for name in names if f"{name}.".startswith(f"{package}.")}


def test_there_is_something_to_look_at():
    assert len(DOMAIN) > 20
    assert {path.stem for path in STEPS} > {"prepare", "finetune", "evaluate", "compare"}
    assert {path.stem for path in ENTRY_POINTS} > {"cli", "prepare", "finetune"}


def room_of(name: str) -> str:
    """The room of a module of ours, by its full name."""
    return name.split(".")[1]


@each([path for path in MODULES if path.parent != SOURCE or path.stem != "__init__"])
def test_calls_go_down(path):
    room = path.relative_to(SOURCE).with_suffix("").parts[0]
    called = {room_of(name) for name in within("bench", all_imports(path))} - {room}
    assert {other for other in called if FLOOR_OF[other] >= FLOOR_OF[room]} == set()


def test_no_imports_go_in_a_circle():
    """Late ones included: two modules that need each other are one, or lack a third."""
    modules = {name_of(path): path for path in MODULES}
    arrows = {
        name: {module_of(full, modules) for full in within("bench", all_imports(path))} - {name}
        for name, path in modules.items()
    }
    reached = {name: reach(name, arrows) for name in modules}
    circles = {
        frozenset(other for other in reached[name] if name in reached[other])
        for name in modules
        if name in reached[name]
    }
    assert circles == set()


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def module_of(name: str, modules: dict[str, Path]) -> str:
    """The module that an imported name is, or lies in."""
    while name not in modules:
        name = name.rpartition(".")[0]
    return name


def reach(start: str, arrows: dict[str, set[str]]) -> set[str]:
    """All that is imported from a module onwards; itself only where that leads back to it."""
    found: set[str] = set()
    ahead = set(arrows[start])
    while ahead:
        found |= ahead
        ahead = set().union(*(arrows[name] for name in ahead)) - found
    return found


# What takes long to import, and the steps that start without it.
EVERY_STEP = {path.stem for path in (SOURCE / "steps").glob("[a-z]*.py")}
LATE = {
    "torch": {
        *("phantom", "prepare", "annotate", "correct", "compare", "optimize", "promote", "export"),
        *("measure", "suggest"),
    },
    # They keep no run.
    "mlflow": {"phantom", "annotate", "correct"},
    "torchvision": EVERY_STEP,
    "matplotlib": {"phantom", "promote", "export"},
    "pandas": {"phantom", "prepare", "promote", "compare", "export"},
    "numba": EVERY_STEP - {"optimize", "benchmark"},
    "zarr": EVERY_STEP - {"segment", "export_model", "publish"},
    "skimage": {
        *("phantom", "prepare", "compare", "optimize", "promote", "export", "measure", "suggest"),
    },
    "imodmodel": EVERY_STEP,
    "pooch": EVERY_STEP,
    "scipy.ndimage": {"promote", "compare", "export"},
    **dict.fromkeys(("scipy.stats", "scipy.optimize", "scipy.interpolate"), EVERY_STEP),
}


@functools.cache
def runtime_imports(path: Path) -> set[str]:
    """What is imported with a module; what only types need is not."""
    at_runtime = [
        node
        for node in tree_of(path).body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return imports(inner for node in at_runtime for inner in outside_of_functions(node))


@functools.cache
def imported_at_start(step: str) -> dict[str, str]:
    """What a step imports before it begins, or ends: full names, and a module that imports each."""
    modules = {name_of(path): path for path in MODULES}
    ahead, seen, found = [f"bench.steps.{step}"], set(), {}
    if step not in LATE["mlflow"]:
        ahead.append("bench.steps.ending")
    while ahead:
        name = ahead.pop()
        if name in seen:
            continue
        seen.add(name)
        needed = runtime_imports(modules[name])
        found |= dict.fromkeys(needed, name)
        for full in within("bench", needed):
            inner = module_of(full, modules)
            # A module is imported after the packages that it lies in.
            ahead += [inner, *(inner.rsplit(".", n)[0] for n in range(1, inner.count(".") + 1))]
    return found


@pytest.mark.parametrize("package", LATE)
def test_a_step_starts_without_what_it_may_not_need(package):
    for step in LATE[package]:
        found = imported_at_start(step)
        for full in within(package, found.keys()):
            pytest.fail(f"{step} starts with {package}: {found[full]}")


@each(DOMAIN)
def test_domain_knows_neither_the_store_nor_the_command_line(path):
    names = all_imports(path)
    for package in ("mlflow", "click", "bench.steps", "bench.tracking"):
        assert not within(package, names)


@each(TRACKING)
def test_tracking_does_not_call_up(path):
    names = all_imports(path)
    for package in ("click", "bench.steps"):
        assert not within(package, names)


@each(STEPS)
def test_steps_reach_the_store_through_tracking_only(path):
    names = all_imports(path)
    for package in ("mlflow", "click", "torch_em"):
        assert not within(package, names)


# Beside the rooms models and sam: micro_sam has a window, synapse_net is a whole inference.
ADAPTERS = {
    "sam_window.py",
    "mean_teacher.py",
    "self_training.py",
    "synapse_net_package.py",
}


@each(
    [
        path
        for path in MODULES
        if not {"models", "sam"} & {*path.parts} and path.name not in ADAPTERS
    ]
)
def test_third_parties_of_segmentation_are_behind_adapters(path):
    for package in ("torch_em", "micro_sam", "segment_anything", "synapse_net"):
        assert not within(package, all_imports(path))


@each(MODULES)
def test_they_are_imported_late(path):
    for package in ("torch_em", "micro_sam", "segment_anything"):
        assert not within(package, imports_at_top(path))


@each(ENTRY_POINTS)
def test_entry_points_import_late(path):
    at_top = imports_at_top(path)
    allowed = {"click", "cli", "bench"} | set(sys.stdlib_module_names)
    assert {name.split(".")[0] for name in at_top} <= allowed
    ours = within("bench", at_top)
    light = ("bench.config", "bench.errors", "bench.core.process", "bench.words")
    assert ours == {name for module in light for name in within(module, ours)}


@each([path for path in ENTRY_POINTS if path.stem not in ("cli", "command")])
def test_an_entry_point_calls_its_step(path):
    late = all_imports(path) - imports_at_top(path)
    assert late == {f"bench.steps.{path.stem}.{path.stem}"}


@each(MODULES + ENTRY_POINTS)
def test_nothing_prints(path):
    calls = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    assert not [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
