"""benchmarks/gpu.py runs through without a GPU, and no measurement ends the others."""

import json

import gpu
import pytest

from bench.errors import BenchError


def test_it_runs_through_on_a_cpu(tmp_path, monkeypatch, capsys):
    predict = gpu.predict_sections

    def fail_once(*given, **named):
        monkeypatch.setattr(gpu, "predict_sections", predict)
        raise MemoryError("out of memory\nand more")

    monkeypatch.setattr(gpu, "predict_sections", fail_once)
    gpu.main(["--tiny", "--device", "cpu", "--output", str(tmp_path / "gpu.json")])
    content = json.loads((tmp_path / "gpu.json").read_text())
    assert content["card"] == "none, a CPU"
    assert {"date", "torch", "precision"} <= set(content)
    lines = {(line["what"], line["way"]): line for line in content["lines"]}
    assert len(lines) == len(content["lines"]) == 1 + 2 * len(gpu.WAYS) + 2 + 6 + 1
    for (what, way), line in lines.items():
        on_cuda = gpu.WAYS[way].engine if way in gpu.WAYS and "section" not in what else ""
        if on_cuda:
            assert line["reason"] == f"RuntimeError: {on_cuda} is measured on CUDA alone"
        elif (what, way) == ("a section of 100 x 100 px", "contiguous"):
            assert (line["seconds"], line["reason"]) == (None, "MemoryError: out of memory")
        else:
            assert line["seconds"] > 0, line
            assert not line["reason"]
    one = lines["training with its feed, an iteration", gpu.AS_FINETUNE]["seconds"]
    assert lines["a cell of the paper", "training alone"]["seconds"] == 5000 * one
    assert "waits for data" in capsys.readouterr().out


def test_without_a_gpu_nothing_is_written():
    with pytest.raises(BenchError, match="a GPU is measured, received cpu: use --tiny"):
        gpu.main(["--device", "cpu"])
