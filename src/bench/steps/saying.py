"""What a command says when it has ended: a picture, and the next command, ready to paste."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core.commands import shown_path, write_command

if TYPE_CHECKING:
    from bench.tracking.store import Store

log = logging.getLogger(__name__)

# How the names of the images of mlflow's sliders hold the step.
_STEP = re.compile(r"[+%]step[+%]([0-9]+)[+%]")


def say_picture(picture: Path | str) -> None:
    """Says where a picture of the result is."""
    log.info("picture: %s", shown_path(picture) if isinstance(picture, Path) else picture)


def say_next(step: str, settings: Mapping[str, object], purpose: str) -> None:
    """Says the next command.

    Args:
        step: Its entry point.
        settings: What it is given.
        purpose: What it is for, in a few words.
    """
    log.info("next, to %s:\n  %s", purpose, write_command(step, settings))


def say_artifact(store: "Store", run_id: str, folder: str) -> None:
    """Says where a picture is that a run keeps; nothing where it has none.

    Args:
        store: The tracking store.
        run_id: The run.
        folder: Folder of its artifacts; empty are those in no folder. Of several pictures, one
            of the last step of a training is named.
    """
    kept = [item.path for item in store.client.list_artifacts(run_id, folder or None)]
    pictures = sorted((path for path in kept if path.endswith(".png")), key=_step_of)
    if pictures:
        say_kept(store, run_id, pictures[-1])


def _step_of(path: str) -> int:
    """The training step in the name that mlflow gives an image."""
    found = _STEP.search(path)
    return int(found[1]) if found else 0


def say_kept(store: "Store", run_id: str, path: str) -> None:
    """Says where an artifact is that is a picture."""
    # Steps that keep no run say things as well, and start without the store.
    from bench.tracking.queries import local_artifact

    here = local_artifact(store, run_id, path)
    say_picture(here or f"artifact {path} of run {run_id}, in the MLflow UI")
