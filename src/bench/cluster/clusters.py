"""The clusters that a grid can run on: this machine, one that is there, SLURM, Kubernetes."""

import contextlib
import logging
import os
import pkgutil
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench.cluster.graph import GPU, LOOK_S, count_places
from bench.core.checkout import find_checkout
from bench.errors import BenchError, unknown_name
from bench.words import AUTO, NONE

if TYPE_CHECKING:
    from distributed import Client
    from distributed.deploy.cluster import Cluster

log = logging.getLogger(__name__)

LOCAL = "local"
_SOURCE = Path(__file__).resolve().parents[2]
CONNECT_S = 20.0
# A worker that waits in a queue of jobs may start tomorrow: only here is it waited for.
_START_S = 60.0
_WORKER = (
    f"'{'PYTHONPATH=src ' if find_checkout() else ''}dask worker --nthreads 1 --resources GPU=1 "
    "ADDRESS'"
)
_RESOURCES = ("--resources", f"{GPU}=1")
# What jobs say, where the profile does not say it.
_JOB_LOGS = "mlruns/jobs"


@contextlib.contextmanager
def open_cluster(kind: str, workers: int | None, profile: dict[str, Any]) -> "Iterator[Client]":
    """Opens a cluster for the time of a block; what it started ends with it.

    Args:
        kind: ``local``, ``slurm``, ``kubernetes``, or the address of a scheduler.
        workers: Workers, each with one task at a time; None: one per GPU here, else 1.
        profile: Settings of the cluster, as ``read_profile`` reads them.

    Raises:
        BenchError: If there is no such cluster, it does not answer, or its profile does not fit.
    """
    _quieten_dask()
    with contextlib.ExitStack() as stack:
        if "://" in kind:
            client = stack.enter_context(_connect(kind))
        else:
            if kind not in _CLUSTERS:
                raise unknown_name("cluster", kind, [AUTO, NONE, *_CLUSTERS, "tcp://HOST:8786"])
            cluster = stack.enter_context(_CLUSTERS[kind](workers, profile))
            client = stack.enter_context(_connect(cluster))
        yield client


def choose_cluster(kind: str, workers: int | None, device: str) -> str:
    """Where tasks run where nobody says it (``auto``): on all GPUs here, or on as many workers.

    One worker would do the same as none, in processes that each load everything anew.
    """
    if kind != AUTO:
        return kind
    several = (workers or 0) > 1 or (workers is None and device == AUTO and len(visible_gpus()) > 1)
    return LOCAL if several else NONE


def _quieten_dask() -> None:
    """Leaves of dask's messages the errors, here and in workers that are started from here."""
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "error")
    import distributed  # sets its levels when it is imported

    logging.getLogger(distributed.__name__).setLevel(logging.ERROR)


def _connect(address: "str | Cluster") -> "Client":
    """A client of a cluster; a scheduler that somebody else started has its workers already."""
    from distributed import Client

    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BenchError(
            f"the scheduler of cluster={address} must answer, it does not ({error}): start it by "
            "'dask scheduler', or name another"
        ) from error
    if isinstance(address, str):
        try:
            _check_workers(client)
        except BaseException:
            client.close()
            raise
    return client


def _check_workers(client: "Client") -> None:
    with contextlib.suppress(TimeoutError):
        client.wait_for_workers(1, timeout=_START_S)
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not any(worker["resources"].get(GPU) for worker in workers):
        raise BenchError(
            f"a worker takes one task at a time by its resource {GPU}=1, none of {len(workers)} "
            f"workers has it: start them by {_WORKER}"
        )
    try:
        client.run(pkgutil.resolve_name, "bench.cluster.child:__name__")
    except ImportError as error:
        raise BenchError(
            f"workers must find the package bench and what it needs, one does not ({error}): "
            f"start them in the project's folder by {_WORKER}"
        ) from error


def _local_cluster(workers: int | None, profile: dict[str, Any]) -> "Cluster":
    from distributed import Nanny, Scheduler, SpecCluster

    from bench.cluster.certificate import make_security

    # Whoever may speak to a scheduler runs code as its user: other users of this machine may not.
    security = make_security()
    shared = {"host": "127.0.0.1", "protocol": "tls://", "security": security, "dashboard": False}
    gpus = visible_gpus()
    options = shared | {
        "nthreads": 1,
        "resources": {GPU: 1},
        "memory_limit": 0,
        "local_directory": str(Path(tempfile.gettempdir()) / f"synapse-bench-{os.getuid()}"),
    }
    spec = {
        number: {
            "cls": Nanny,
            "options": options | {"env": {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}}
            if gpus
            else options,
        }
        for number in range(_local_workers(workers))
    }
    scheduler = {"cls": Scheduler, "options": shared | {"dashboard_address": "127.0.0.1:0"}}
    own = {"name": "synapse-bench", "security": security}
    try:
        return SpecCluster(spec, scheduler, **own | profile)
    except TypeError as error:
        raise _wrong_profile("distributed.SpecCluster", error) from error


def _local_workers(workers: int | None) -> int:
    return workers or len(visible_gpus()) or 1


def threads_each(kind: str, workers: int | None) -> int | None:
    """Threads of a task where workers share this machine; None: all that its worker has."""
    if kind != LOCAL:
        return None
    return max(1, len(os.sched_getaffinity(0)) // _local_workers(workers))


def wait_for_places(client: "Client") -> dict[str, int]:
    """How many tasks each worker takes at a time; waits, for ever in a queue, for the first."""
    if not count_places(client):
        log.info("waiting for the first worker")
    while not (places := count_places(client)):
        time.sleep(LOOK_S)
    return places


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA names them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = given.split(",") if given else [str(n) for n in range(torch.cuda.device_count())]
    return names if torch.cuda.device_count() else []


def slurm_cluster(workers: int | None, profile: dict[str, Any]) -> "Cluster":
    """Workers as jobs of SLURM, one each, by dask-jobqueue."""
    try:
        from dask_jobqueue.slurm import SLURMCluster
    except ModuleNotFoundError as error:
        raise _not_installed("slurm", "dask-jobqueue") from error
    if shutil.which("sbatch") is None:
        raise BenchError(
            "cluster=slurm submits jobs by sbatch, which is not found here: start the command on a "
            "machine that submits jobs"
        )
    own = {
        "processes": 1,
        "log_directory": profile.get("log_directory", _JOB_LOGS),
        "worker_extra_args": [*profile.get("worker_extra_args", ()), *_RESOURCES],
        "job_script_prologue": [
            *profile.get("job_script_prologue", ()),
            f"export PYTHONPATH={shlex.quote(str(_SOURCE))}",
        ],
    }
    try:
        cluster = SLURMCluster(**profile | own)
    except (TypeError, ValueError) as error:
        raise _wrong_profile("dask_jobqueue.SLURMCluster", error) from error
    # Not scale: a job that reaches its walltime would not be followed by another.
    jobs = workers or 1
    cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs)
    return cluster


def _kubernetes_cluster(workers: int | None, profile: dict[str, Any]) -> "Cluster":
    try:
        from dask_kubernetes.operator import KubeCluster
    except ModuleNotFoundError as error:
        raise _not_installed("kubernetes", "dask-kubernetes") from error

    try:
        cluster: Cluster = KubeCluster(**kubernetes_options(workers, profile))
    except (TypeError, ValueError) as error:
        raise _wrong_profile("dask_kubernetes.operator.KubeCluster", error) from error
    return cluster


def kubernetes_options(workers: int | None, profile: dict[str, Any]) -> dict[str, Any]:
    """What a cluster of pods is made with: a profile's settings, and ours."""
    command = ["dask", "worker", "--nthreads", "1", *_RESOURCES]
    own = {"name": "synapse-bench", "n_workers": workers or 1, "worker_command": command}
    return own | profile


def read_profile(path: str) -> dict[str, Any]:
    """Reads the settings of a cluster from a YAML file; none where the path is ``none``.

    Raises:
        BenchError: If it is no mapping in YAML.
    """
    if path == "none":
        return {}
    try:
        profile = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise BenchError(
            f"cluster_profile must be a YAML file, {path} cannot be read ({reason})"
        ) from error
    if not isinstance(profile, dict) or not all(isinstance(name, str) for name in profile):
        raise BenchError(
            f"cluster_profile must hold settings as 'name: value', {path} holds "
            f"{type(profile).__name__}: see docs/cluster.md"
        )
    return profile


def _wrong_profile(where: str, error: Exception) -> BenchError:
    return BenchError(f"cluster_profile must hold settings of {where}, received others ({error})")


def _not_installed(kind: str, package: str) -> BenchError:
    return BenchError(f"cluster={kind} needs {package}, which is not installed: pip install it")


_CLUSTERS: "dict[str, Callable[[int | None, dict[str, Any]], Cluster]]" = {
    LOCAL: _local_cluster,
    "slurm": slurm_cluster,
    "kubernetes": _kubernetes_cluster,
}
