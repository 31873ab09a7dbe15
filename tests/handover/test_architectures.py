import importlib
import sys
import types

import pytest

from bench.handover.architectures import ARCHITECTURES
from bench.models.checkpoint import build_model

ARGUMENTS = {
    "unet2d": {"in_channels": 1, "out_channels": 2, "depth": 2, "features": 4},
    "unet_residual": {
        "in_channels": 1,
        "out_channels": 2,
        "features": [4, 8],
        "stride": 2,
        "detail": 4,
    },
    "unet_resnet50": {"out_channels": 2},
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_network_is_built_without_us_for_the_same_tensors(name, monkeypatch):
    row, ours = ARCHITECTURES[name], build_model(name, ARGUMENTS[name])
    if row.library:
        assert not row.library.startswith("bench")
        build = getattr(importlib.import_module(row.library), row.callable)
    else:
        module = types.ModuleType("architecture")
        # Those who receive the file do not have our package.
        monkeypatch.setitem(sys.modules, "bench", None)
        exec(row.read_file(), module.__dict__)
        build = getattr(module, row.callable)
    theirs = build(**row.arguments(ARGUMENTS[name]))
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert shapes == {key: tensor.shape for key, tensor in ours.state_dict().items()}
