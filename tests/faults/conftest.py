import pytest
import torch
from fault_chain import Chain
from fault_grid import SETTINGS, Commands

from bench.config.data import PrepareConfig
from bench.ingest.inputs import read_input
from bench.ingest.writing import write_prepared
from bench.models.checkpoint import build_model
from bench.models.foreign import write_synapsenet_file
from bench.models.sam import write_tiny_sam


@pytest.fixture(scope="session")
def grid(tiny_tree, tmp_path_factory):
    """The settings of a benchmark, without its output."""
    folder = tmp_path_factory.mktemp("grid")
    config = PrepareConfig(input=str(tiny_tree), pixel_size_nm=5.0)
    write_prepared(read_input(config), folder / "prepared")
    arguments = {"in_channels": 1, "out_channels": 2, "depth": 4, "features": 2}
    torch.manual_seed(0)
    weights = build_model("unet2d", arguments).state_dict()
    write_synapsenet_file(folder / "source.pt", weights, arguments)
    write_tiny_sam(folder / "sam.pt", image_px=64, decoder_features=8)
    return SETTINGS | {
        "dataset": folder / "prepared",
        "source": f"mito={folder / 'source.pt'}",
        "microsam": f"source={folder / 'sam.pt'},{SETTINGS['microsam']}",
    }


@pytest.fixture
def commands(python_environment, tmp_path):
    """Starts entry points."""
    return Commands(python_environment, tmp_path / "log")


@pytest.fixture(scope="session")
def kills(request):
    """How many kills are asked for."""
    number = request.config.getoption("--kills")
    if not number:
        pytest.skip("it takes minutes: give --kills")
    return number


@pytest.fixture(scope="session")
def calm(kills, grid, tiny_tree, make_store, python_environment, tmp_path_factory):
    """All steps, one after the other, that nothing happens to."""
    folder = tmp_path_factory.mktemp("calm")
    chain = Chain(make_store(folder / "store"), folder, tiny_tree, grid)
    commands = Commands(python_environment, folder / "log")
    for step, settings in chain.steps():
        assert commands.start(step, chain.store, settings).wait() == 0, commands.said()
    return chain
