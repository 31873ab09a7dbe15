import psutil
import pytest

from bench.tracking import runs
from bench.tracking.opening import open_run
from bench.tracking.runs import Identity, SystemMetrics


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(runs, "INTERVAL_S", 0.0)


def test_a_measure_is_the_machine_s(at_once):
    measures = SystemMetrics()
    sum(range(3_000_000))
    found = measures.measure()
    used = psutil.virtual_memory().used / 1e6
    assert found["system/system_memory_usage_megabytes"] == pytest.approx(used, rel=0.3)
    assert 0 < found["system/cpu_utilization_percentage"] <= 100
    assert 0 < found["system/system_memory_usage_percentage"] < 100
    assert all(name.startswith("system/") for name in found)


def test_nothing_is_measured_before_it_is_due():
    assert SystemMetrics().measure() == {}


def test_a_training_logs_them_at_its_last_step(store, at_once):
    with open_run(store, Identity("finetune", {}, {})) as run:
        run.log_series([(1, {"train/loss": 1.0}), (2, {"train/loss": 0.5})])
        run.log_series([])
    name = "system/cpu_utilization_percentage"
    assert [m.step for m in store.client.get_metric_history(run.id, name)] == [2]
