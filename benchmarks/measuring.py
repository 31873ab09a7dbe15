"""What every measurement here has in common: ways in turns, a table of lines, a JSON file."""

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Line:
    """Ours beside a peer on data of a size.

    Attributes:
        path: The hot path, such as "instance matching".
        size: Of the data, such as "7000 x 7000, 20,000 instances".
        ours_s: Median seconds of ours.
        peer: The peer's name.
        peer_s: Median seconds of the peer, on the same data in the same run.
        goal: The ratio wanted, peer's seconds over ours; None where the line has no goal.
        agreement: What was compared, and what came out.
        limit: The hardware's limit that is named, and the distance to it; what a profile found
            where the goal is missed.
    """

    path: str
    size: str
    ours_s: float
    peer: str
    peer_s: float
    goal: float | None
    agreement: str
    limit: str = ""

    @property
    def ratio(self) -> float:
        """How many times as fast ours is."""
        return self.peer_s / self.ours_s

    @property
    def met(self) -> bool:
        """Whether the goal is reached; a line without one has nothing to miss."""
        return self.goal is None or self.ratio >= self.goal


def time_in_turns(
    ways: Mapping[str, Callable[[], Any]], *, repeats: int, warm_up: bool = True
) -> tuple[dict[str, float], dict[str, Any]]:
    """Runs each way ``repeats`` times, in turns, so that a slow minute of the machine hits all.

    Args:
        ways: What is timed, by name.
        repeats: Timed runs of each.
        warm_up: Whether each runs once untimed before: compilation, caches, lazy imports.

    Returns:
        Median seconds of each, and what its last run returned.
    """
    found: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    if warm_up:
        for way in ways.values():
            way()
    for _ in range(repeats):
        for name, way in ways.items():
            gc.collect()
            started = time.perf_counter()
            found[name] = way()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(each) for name, each in seconds.items()}, found


def report(script: str, lines: list[Line]) -> None:
    """Prints the table of a script, and writes it as JSON beside the script (its ``__file__``)."""
    content = {"machine": describe_machine(), "lines": [as_record(line) for line in lines]}
    path = HERE / f"{Path(script).stem}.json"
    temporary = path.with_suffix(".json.new")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)
    print(format_table(lines))


def as_record(line: Line) -> dict[str, Any]:
    """A line as JSON; seconds with four digits."""
    record = asdict(line) | {"ratio": line.ratio, "met": line.met}
    digits = {name: float(f"{record[name]:.4g}") for name in ("ours_s", "peer_s", "ratio")}
    return record | digits


def format_table(lines: list[Line]) -> str:
    """Lines as a Markdown table."""
    head = ("path", "size", "ours", "peer", "peer's", "ratio", "goal", "agreement", "limit")
    rows = [
        (
            line.path,
            line.size,
            format_seconds(line.ours_s),
            line.peer,
            format_seconds(line.peer_s),
            f"{line.ratio:.3g}",
            "" if line.goal is None else f"{line.goal:g}{'' if line.met else ' **missed**'}",
            line.agreement,
            line.limit,
        )
        for line in lines
    ]
    body = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([body[0], "|---|---|---:|---|---:|---:|---:|---|---|", *body[1:]])


def format_seconds(seconds: float) -> str:
    """Seconds as people read them."""
    return f"{1000 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def count_operations(
    network: "torch.nn.Module", shape: tuple[int, ...], device: "torch.device"
) -> int:
    """Floating-point operations of a network's convolutions of one image of a shape."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 1, *shape, device=device))
    return counter.get_total_flops()


def describe_machine() -> str:
    """Processor, cores and memory, and the versions that decide the speed."""
    import torch

    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        name = models[0].split(":")[1].strip() if models else name
    units = [unit for unit in ("amx_bf16", "avx512_bf16") if torch.cpu.get_capabilities().get(unit)]
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB, {', '.join(units) or 'no bf16 units'}, "
        f"{gpu}, Python {platform.python_version()}, torch {torch.__version__}"
    )
