"""The benchmark table, kept up to date while runs come in."""

import logging
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bench.steps.table.report import Findings, print_findings
from bench.tracking.ownership.stale import Activity

log = logging.getLogger(__name__)

# Runs named in the line below the table.
_NAMED = 3


class Watch:
    """Looks again and again until nothing happens any more.

    Attributes:
        findings: What was found last; None while there is no evaluation.
    """

    def __init__(
        self,
        look: Callable[[], Findings | None],
        observe: Callable[[], Activity],
        keep: Callable[[Findings], object],
        console: Console,
    ) -> None:
        """Takes what it does.

        Args:
            look: Reads everything; None while there is no evaluation.
            observe: What goes on at the moment.
            keep: Called with what was found whenever it changed.
            console: Where the table is shown.
        """
        self.look, self.observe, self.keep, self.console = look, observe, keep, console
        self.findings: Findings | None = None

    def run(self, seconds: float) -> None:
        """Watches, a look every so many seconds.

        It ends when nothing runs and nothing has changed since the last look. Before anything was
        evaluated it waits, for a benchmark that is not started yet.
        """
        before: Activity | None = None
        seen_running = False
        with _Screen(self.console) as screen:
            while True:
                now = self.observe()
                if now != before:
                    self.refresh(screen, now)
                elif not now.running and (self.findings or seen_running):
                    break
                before, seen_running = now, seen_running or bool(now.running)
                time.sleep(seconds)
        log.info("nothing runs and nothing has changed in %g s: watching ends", seconds)

    def refresh(self, screen: "_Screen", now: Activity) -> None:
        """Looks, and shows and keeps what is new."""
        found = self.look()
        if found is None:
            log.info("nothing is evaluated yet: waiting, %s (Ctrl-C ends)", _describe(now))
            return
        # Taken and shown first: an interruption while files are written then writes these again.
        changed, self.findings = found != self.findings, found
        screen.show(found, f"{time.strftime('%H:%M:%S')}: {_describe(now)} (Ctrl-C ends)")
        if changed:
            self.keep(found)


class _Screen:
    """A terminal, where the table stays in place, or a log file, which gets it when it changes."""

    def __init__(self, console: Console) -> None:
        self.console, self.shown = console, ""
        self.live = Live(console=console, auto_refresh=False) if console.is_terminal else None

    def __enter__(self) -> "_Screen":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves the last table on the terminal, in full."""
        if self.live:
            self.live.stop()

    def show(self, findings: Findings, status: str) -> None:
        """Shows the findings, and on a terminal the status below them."""
        with self.console.capture() as capture:
            print_findings(findings, self.console)
        text = capture.get()
        if self.live:
            self.live.update(Text.from_ansi(f"{text}\n{status}"), refresh=True)
        elif text != self.shown:
            self.console.file.write(text)
            self.console.file.flush()
        self.shown = text


def _describe(now: Activity) -> str:
    names = list(now.running.values())
    if not names:
        return "nothing runs"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"running: {', '.join(names[:_NAMED])}{more}"
