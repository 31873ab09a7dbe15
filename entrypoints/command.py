"""The command `synapse-bench` that `pip install` makes: the entry points by their names.

It imports nothing but the standard library, so that help and errors come at once.
"""

import ast
import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, get_type_hints

FOLDER = Path(__file__).resolve().parent
PROGRAM = "synapse-bench"
HELP = """\
Usage: synapse-bench ENTRY_POINT [--setting value]...
       synapse-bench ENTRY_POINT --help     the settings of an entry point
       synapse-bench --version

Entry points:
{entry_points}

Settings may also be written as for mlflow run: -P structure=mito. Runs go to mlruns/ of the
folder in which you type, or to the store that MLFLOW_TRACKING_URI names.
"""


def run() -> None:
    """Runs what the process's arguments say."""
    name, words = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("-h", "--help"):
        sys.stdout.write(HELP.format(entry_points=list_entry_points()))
        return
    if name == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"{PROGRAM} {version(PROGRAM)}\n")
        return
    known = find_entry_points()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]}?" if near else "see --help"
        fail(f"the first word must be one of {', '.join(known)}, received {name!r}: {meant}")
    # As Python does for a script; what was typed is the name of the program.
    sys.path.insert(0, str(FOLDER))
    sys.argv = [f"{PROGRAM} {name}", *as_options(words)]
    main = importlib.import_module(name).main
    importlib.import_module("cli").run_step(get_type_hints(main)["config"], main)


def find_entry_points() -> dict[str, str]:
    """What each entry point does, by name, as its own help begins."""
    rows = {}
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name == "main":
                rows[path.stem] = (ast.get_docstring(node) or "").partition("\n")[0]
    return rows


def list_entry_points() -> str:
    """A line for each entry point."""
    rows = find_entry_points()
    width = max(map(len, rows))
    return "\n".join(f"  {name:{width}}  {does}" for name, does in rows.items())


def as_options(words: Sequence[str]) -> list[str]:
    """Options of the entry point: ``-P name=value`` becomes ``--name value``."""
    options, left = [], list(words)
    while left:
        word = left.pop(0)
        if not word.startswith("-P"):
            options.append(word)
            continue
        setting = word[2:] or (left.pop(0) if left else "")
        name, equals, value = setting.partition("=")
        if not name or not equals:
            fail(f"-P must be followed by name=value, received {setting!r}")
        options += [f"--{name}", value]
    return options


def fail(message: str) -> NoReturn:
    """Ends the process with status 2 and one line."""
    sys.stderr.write(f"error: {message}\n")
    sys.exit(2)


if __name__ == "__main__":
    run()
