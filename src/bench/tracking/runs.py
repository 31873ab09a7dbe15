"""One step as one MLflow run: what it is, what it logs, and how it ends."""

import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import mlflow
import numpy as np
import psutil
from mlflow.entities import Dataset, Metric, Param, RunTag
from mlflow.entities import Run as MlflowRun
from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

from bench.config.settings import StepConfig, typed_settings
from bench.core.files import write_json
from bench.core.hashing import json_sha256
from bench.core.version import PROSE, SINCE, code_version, collect_versions, without_prose
from bench.tracking.delivery.outbox import LATE_TAG, Outbox, Renderer
from bench.tracking.delivery.spool import artifact, batch, end, inputs
from bench.tracking.ownership.claims import Hold
from bench.tracking.store import Store
from bench.words import AUTO

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# mlflow's own thread measures as often; it would wait for a server that is away.
INTERVAL_S = 10.0
log = logging.getLogger(__name__)
# What the store takes in one call.
_METRICS_PER_CALL = 1000
_PARAMS_PER_CALL = 100
_LONGEST_PARAM = 6000
# All settings of a run, resolved.
SETTINGS_FILE = "config.json"
# Said by tags, or of the machine.
_NOT_SHOWN = ("structure", "seed", "labelled", "dataset", "run_id", "cluster")
# What a work folder holds of a run that has no state to go on with.
_NO_STATE = ("lock", SETTINGS_FILE)
WARNING_TAG = "bench.warning"
# The pseudo-masks of a training: how many, and the start of their content hash.
PSEUDO_TAG = "bench.pseudo"
STALE_TAG = "bench.stale"
# Compression that takes longer than the drawing makes a picture a tenth smaller.
_FIGURE: dict[str, Any] = {"pil_kwargs": {"compress_level": 2}}


class SystemMetrics:
    """Use of processor, memory and GPUs."""

    def __init__(self) -> None:
        """Begins; the first measure is due after an interval."""
        self._monitors: list[BaseMetricsMonitor] = []
        self._measured = time.monotonic()
        # It says what was used since it was asked before.
        psutil.cpu_percent()

    def measure(self) -> dict[str, float]:
        """Measures, where it is due; returns numbers by their names in the UI, or none."""
        if time.monotonic() - self._measured < INTERVAL_S:
            return {}
        self._measured = time.monotonic()
        self._monitors = self._monitors or _open_monitors()
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {
                f"system/{name}": value for name, value in monitor.aggregate_metrics().items()
            }
            monitor.clear_metrics()
        return found


def _open_monitors() -> list[BaseMetricsMonitor]:
    try:
        return [CPUMonitor(), GPUMonitor()]
    except (ImportError, RuntimeError):  # no driver, or no GPU
        return [CPUMonitor()]


@dataclass(frozen=True)
class Identity:
    """What a run is: equal identities give equal results.

    Attributes:
        step: The entry point.
        settings: Its resolved settings that change the result; of dataclasses among them, the
            fields that are not marked as PROSE.
        inputs: Hashes of what it reads, by name.
        method: Row of METHODS, empty where it has none.
        structure: Structure, empty where it has none.
        dataset: Content hash of the prepared dataset.
        seed: Random seed, None where it has none.
        labelled: Annotated training sections used, None for all.
        pseudo: Which pseudo-masks were learned from besides, None for none.
        parts: What it uses besides that has a version (core.version): ``network unet2d``.
    """

    step: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, str]
    method: str = ""
    structure: str = ""
    dataset: str = ""
    seed: int | None = None
    labelled: int | None = None
    pseudo: str | None = dataclasses.field(default=None, metadata=SINCE)
    parts: tuple[str, ...] = dataclasses.field(default=(), metadata=PROSE)

    def versions(self) -> dict[str, str]:
        """The versions of all that determines the result, by name."""
        return collect_versions(self.step, (*self.parts, f"method {self.method}"))

    def fingerprint(self) -> str:
        """Hash of all of it, and of the versions."""
        return json_sha256({**without_prose(self), "versions": self.versions()})

    def tags(self) -> dict[str, str]:
        """The tags by which runs are found (DESIGN: a run)."""
        tags = {
            "bench.step": self.step,
            "bench.method": self.method,
            "bench.structure": self.structure,
            "bench.dataset": self.dataset,
            "bench.seed": "" if self.seed is None else str(self.seed),
            "bench.labelled": "" if self.labelled is None else str(self.labelled),
            PSEUDO_TAG: self.pseudo or "",
            "bench.fingerprint": self.fingerprint(),
            "bench.versions": ", ".join(f"{name} {v}" for name, v in self.versions().items()),
            "bench.code": code_version(),
        }
        return {name: value for name, value in tags.items() if value}

    def name(self) -> str:
        """The run's name in lists, which begins with what differs: lists cut off the end.

        An evaluation is known by its split.
        """
        seed = "" if self.seed is None else f"s{self.seed}"
        labelled = "" if self.labelled is None else f"{self.labelled} labelled"
        pseudo = f"{self.pseudo.partition('-')[0]} pseudo" if self.pseudo else ""
        what = self.settings.get("split", "") if self.step == "evaluate" else self.step
        what += " of other data" if "trained_on" in self.settings else ""
        parts = (self.structure, self.method, labelled, pseudo, seed, what or self.step)
        return " ".join(part for part in parts if part)


class Run:
    """An open run. Use it as a context: it ends FINISHED, FAILED with a reason, or KILLED.

    Attributes:
        id: The run's id.
        state: ``new``, ``resumed``, or ``reused``: finished before, nothing is left to do.
        work: A folder for the state of the unfinished run; removed when it finishes.
        outbox: Where everything goes that the run logs.
    """

    def __init__(
        self,
        store: Store,
        run_id: str,
        state: Literal["new", "resumed", "reused"],
        work: Path,
        hold: Hold | None,
        found: MlflowRun | None = None,
    ) -> None:
        """Made by open_run."""
        self.store, self.client, self.id = store, store.client, run_id
        self.state, self.work, self._hold = state, work, hold
        # Kept here, so that a store that is away need not be asked.
        self._params = set(found.data.params) if found else set()
        self._warnings = read_warnings(found) if found else ()
        late = found.data.tags.get(LATE_TAG, "") if found else ""
        self.outbox = Outbox(store, run_id, work, late)
        self._renderer = Renderer(self.outbox)
        self._system = SystemMetrics()
        self._began = int(found.info.start_time) if found else int(time.time() * 1000)
        if hold:
            hold.start(run_id)

    @property
    def reused(self) -> bool:
        """Whether the run was finished before."""
        return self.state == "reused"

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Logs parameters; those that the run has already are kept, as mlflow takes no others."""
        new = [
            Param(name, str(value)[:_LONGEST_PARAM])
            for name, value in params.items()
            if name not in self._params
        ]
        self._params.update(param.key for param in new)
        for start in range(0, len(new), _PARAMS_PER_CALL):
            self.outbox.deliver(batch(params=new[start : start + _PARAMS_PER_CALL]))

    def log_settings(self, settings: Mapping[str, Any], config: StepConfig | None = None) -> None:
        """Logs resolved settings: all into an artifact, as parameters those that somebody chose.

        Args:
            settings: What they are where they are ``auto``, and what else describes the run. What
                it logged before under other names stays.
            config: The settings as they were given; None adds to the artifact only.
        """
        kept = self.work / SETTINGS_FILE
        before = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        write_json(kept, before | {name: _plain(value) for name, value in settings.items()})
        self.log_file(kept)
        if config:
            # The page that compares runs has the first that differs beside the scores.
            named = settings.get("method", AUTO) != AUTO
            chosen = [*typed_settings(config), *(["method"] if named else [])]
            known = {**vars(config), **settings}
            self.log_params({n: known[n] for n in chosen if n not in _NOT_SHOWN})

    def log_facts(self, facts: Mapping[str, float]) -> None:
        """Says numbers that no chart is of, such as the size of a network: as tags."""
        exact = {n: str(v if isinstance(v, int) else float(v)) for n, v in facts.items()}
        self.set_tags({fact_tag(name): text for name, text in exact.items()})

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Logs metrics of one step."""
        self.log_series([(step, metrics)])

    def log_series(self, series: list[tuple[int, Mapping[str, float]]]) -> None:
        """Logs metrics of many steps in as few calls as the store takes; and the machine's."""
        if series:
            series = [*series, (series[-1][0], self._system.measure())]
        now = int(time.time() * 1000)
        metrics = [
            Metric(name, float(value), now, step)
            for step, values in series
            for name, value in values.items()
        ]
        for start in range(0, len(metrics), _METRICS_PER_CALL):
            self.outbox.deliver(batch(metrics[start : start + _METRICS_PER_CALL]))

    def last_step(self, metric: str) -> int:
        """The last step that a metric was logged at; 0 if never."""
        return max((m.step for m in self.client.get_metric_history(self.id, metric)), default=0)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Sets tags."""
        self.outbox.deliver(batch(tags=[RunTag(k, v[:8000]) for k, v in tags.items()]))

    def add_warning(self, warning: str) -> None:
        """Says something that a reader of the run's score must know; the table repeats it."""
        log.warning("warning: %s", warning)
        self.keep_warnings([warning])

    def keep_warnings(self, warnings: Iterable[str]) -> None:
        """Adds warnings to those of the run, a line each, without saying them again."""
        lines = [" ".join(warning.split()) for warning in warnings]
        self._warnings = tuple(dict.fromkeys([*self._warnings, *lines]))
        if self._warnings:
            self.set_tags({WARNING_TAG: "\n".join(self._warnings)})

    def log_file(self, path: Path, folder: str | None = None) -> None:
        """Copies a file to the run's artifacts."""
        self.outbox.deliver(artifact(path, folder))

    def log_figure(self, figure: "Figure", name: str) -> None:
        """Logs a figure as an artifact."""
        # Laid out here: where matplotlib does it while saving, it draws everything twice.
        if (layout := figure.get_layout_engine()) is not None:
            layout.execute(figure)
            figure.set_layout_engine(None)
        self._renderer.log_figure(self.id, figure, name, save_kwargs=_FIGURE)

    def log_text(self, text: str, name: str) -> None:
        """Logs a text as an artifact."""
        self._renderer.log_text(self.id, text, name)

    def log_image(self, image: np.ndarray, key: str, step: int) -> None:
        """Logs an RGB image of a step: a slider over the steps in the MLflow UI."""
        self._renderer.log_image(self.id, image, key=key, step=step)

    def log_image_table(
        self, images: Mapping[str, np.ndarray], scores: Mapping[str, float]
    ) -> None:
        """Logs named RGB images with their Dice as a table.

        The Artifacts view of several runs shows it with one row per name, one column per run.
        """
        columns = {
            "section": list(images),
            "dice": [scores[name] for name in images],
            "overlay": [mlflow.Image(image) for image in images.values()],
        }
        self._renderer.log_table(self.id, columns, "overlays.json")

    def log_dataset(
        self,
        *,
        name: str,
        path: Path,
        digest: str,
        context: str,
        columns: Mapping[str, str] | None = None,
        sections: int = 0,
    ) -> None:
        """Logs a prepared dataset as an input of the run.

        Args:
            name: Its name.
            path: Its folder.
            digest: Its content hash.
            context: What it is to the run.
            columns: What a section has, and what that is, for people.
            sections: How many sections it has.
        """
        described = (columns or {}).items()
        schema = [{"name": key, "type": what, "required": True} for key, what in described]
        dataset = Dataset(
            name=name,
            digest=digest[:36],
            source_type="local",
            source=json.dumps({"uri": str(path.resolve())}),
            schema=json.dumps({"mlflow_colspec": schema}) if schema else None,
            profile=json.dumps({"num_rows": sections, "content_hash": digest}),
        )
        self.outbox.deliver(inputs([dataset], context))

    def log_datasets_of(self, run_id: str, context: str) -> None:
        """Logs the datasets that another run had as inputs as those of this one."""
        found = self.client.get_run(run_id).inputs
        datasets = found.dataset_inputs if found else []
        self.outbox.deliver(inputs([one.dataset for one in datasets], context))

    def finish(self, status: str, reason: str = "") -> None:
        """Ends the run and lets go of it; a finished run's state is removed.

        Raises:
            BenchError: If it finished, and the store did not come back in time. What waits is kept
                in the work folder, and sent when the same run is opened again.
        """
        try:
            if reason:
                self.set_tags({"bench.reason": reason})
            self.outbox.deliver(end(status, self._began))
            if status == "FINISHED":
                self.outbox.wait(self.store.patience_s)
            elif self.outbox.spool.waiting:
                log.warning("the tracking store is away: %s", self.outbox.describe_left())
            if status == "FINISHED" or all(path.name in _NO_STATE for path in self.work.iterdir()):
                shutil.rmtree(self.work, ignore_errors=True)
        finally:
            self.close()

    def close(self) -> None:
        """Lets go of the run: others may have it."""
        if self._hold:
            self._hold.close()
            self._hold = None

    def __enter__(self) -> "Run":
        """Starts the context."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Ends the run by how the block ended."""
        if error is None:
            self.finish("FINISHED")
        elif isinstance(error, KeyboardInterrupt):
            self.finish("KILLED", "interrupted; the same command resumes it")
        else:
            self.finish("FAILED", f"{error}" or type(error).__name__)


def fact_tag(name: str) -> str:
    """The tag of a fact: ``bench.model.parameters`` of ``model/parameters``."""
    return f"bench.{name.replace('/', '.')}"


def _plain(value: Any) -> Any:
    """A value as JSON has it; a text where it is none of its types."""
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return str(value)


def read_warnings(run: MlflowRun) -> tuple[str, ...]:
    """The warnings of a run."""
    return tuple(run.data.tags.get(WARNING_TAG, "").splitlines())
