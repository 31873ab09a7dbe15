"""Counts what a process spends importing; Python runs this at its start if it is on PYTHONPATH.

At the end a line goes into the folder that BENCH_IMPORTS names: the seconds and CPU seconds of the
outermost imports, the seconds of the process, and the dearest packages.
"""

import atexit
import builtins
import importlib
import json
import os
import sys
import threading
import time
from pathlib import Path

STARTED = time.perf_counter()
SHOWN = 12
outermost: dict[str, float] = {}
spent = {"import_cpu_s": 0.0}
state = threading.local()
import_name, import_module = builtins.__import__, importlib.import_module


def timed(do, name, args, kwargs):
    """Imports; an import within an import counts only as a part of the outer one."""
    if getattr(state, "within", False) or (name in sys.modules and not args):
        return do(name, *args, **kwargs)
    state.within, began, worked = True, time.perf_counter(), time.thread_time()
    try:
        return do(name, *args, **kwargs)
    finally:
        state.within = False
        package = name or "relative"
        outermost[package] = outermost.get(package, 0.0) + time.perf_counter() - began
        spent["import_cpu_s"] += time.thread_time() - worked


def write() -> None:
    """Writes what was counted."""
    dearest = sorted(outermost.items(), key=lambda item: -item[1])[:SHOWN]
    record = spent | {
        "command": sys.argv,
        "import_s": sum(outermost.values()),
        "process_s": time.perf_counter() - STARTED,
        "dearest": dict(dearest),
    }
    Path(os.environ["BENCH_IMPORTS"], f"{os.getpid()}.json").write_text(json.dumps(record))


if "BENCH_IMPORTS" in os.environ:
    builtins.__import__ = lambda name, *args, **kwargs: timed(import_name, name, args, kwargs)
    importlib.import_module = lambda name, *args, **kwargs: timed(import_module, name, args, kwargs)
    atexit.register(write)
