"""A scheduler that is killed while it has a task: started again, or not."""

import threading
import time

import pytest
from fault_cluster import DaskCluster

from bench.cluster import clusters
from bench.cluster.graph import Task, run_graph
from bench.errors import BenchError


@pytest.fixture
def cluster(python_environment, tmp_path):
    pytest.importorskip("distributed")
    made = DaskCluster(tmp_path, python_environment, workers=1)
    made.mend()
    yield made
    made.close()


@pytest.mark.parametrize("comes_back", [True, False])
def test_a_scheduler_that_is_killed(cluster, follow_orders, tmp_path, monkeypatch, comes_back):
    monkeypatch.setattr(clusters, "CONNECT_S", 60 if comes_back else 3)
    notes, over = tmp_path / "notes", threading.Event()

    def kill():
        while not (notes.exists() and notes.read_text()):
            time.sleep(0.05)
        cluster.scheduler.kill()
        cluster.scheduler.wait()
        # Workers end with their scheduler, a moment later.
        while comes_back and not over.wait(0.5):
            cluster.mend()

    def run():
        with clusters.open_cluster(cluster.address, None, {}) as client:
            tasks = [Task("a", {"name": "a", "notes": str(notes), "sleep": 3})]
            return run_graph(tasks, client, follow_orders)

    killing = threading.Thread(target=kill)
    killing.start()
    if comes_back:
        assert run()["a"].value == "A"
        assert len(notes.read_text().splitlines()) == 2
    else:
        with pytest.raises(BenchError, match="the scheduler must be there until"):
            run()
    over.set()
    killing.join()
