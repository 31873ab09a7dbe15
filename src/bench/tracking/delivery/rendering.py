"""mlflow's own way to draw figures, images and tables, into an outbox."""

from typing import Any

from mlflow.entities import FileInfo, RunData, RunInfo, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.tracking import MlflowClient

from bench.tracking.delivery.outbox import Outbox
from bench.tracking.delivery.spool import artifact, batch


class Renderer(MlflowClient):
    """A client whose files and tags go to an outbox, and which asks the store nothing.

    mlflow names an image by the time and a random number: drawn once, sent as often as need be.
    """

    def __init__(self, outbox: Outbox) -> None:
        """Renders for the run of an outbox."""
        super().__init__(tracking_uri=outbox.store.uri)
        self.outbox = outbox

    def log_artifact(self, run_id: str, local_path: str, artifact_path: str | None = None) -> None:
        """Takes a file that was drawn."""
        self.outbox.deliver(artifact(local_path, artifact_path))

    def set_tag(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> None:
        """Takes the tag by which the UI knows that a run has images or tables."""
        self.outbox.deliver(batch(tags=[RunTag(key, str(value))]))

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        """Nothing: a table that is logged again replaces the one before."""
        return []

    def get_run(self, run_id: str) -> MlflowRun:
        """The run without its tags, of which those of a table would be kept."""
        info = RunInfo(run_id, "", "", "RUNNING", 0, None, "active")
        return MlflowRun(info, RunData())
