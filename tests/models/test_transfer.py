import pytest
import torch

from bench.errors import BenchError
from bench.models.checkpoint import transfer_weights
from bench.models.unet2d import build_unet2d


def make_unet(seed, **changes):
    torch.manual_seed(seed)
    return build_unet2d(
        **{"in_channels": 1, "out_channels": 1, "depth": 4, "features": 32, **changes}
    )


def test_only_the_output_is_new_for_another_number_of_outputs():
    """The case of the paper: SynapseNet's foreground and boundary to one structure."""
    source = make_unet(0, out_channels=2).state_dict()
    network = make_unet(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    transfer = transfer_weights(network, source)
    assert (transfer.transferred, transfer.total) == (44, 46)
    assert transfer.reinitialised == ("out_conv.bias", "out_conv.weight")
    for name, tensor in network.state_dict().items():
        expected = before if name in transfer.reinitialised else source
        assert torch.equal(tensor, expected[name]), name


def test_same_network_is_kept_whole():
    source = make_unet(0).state_dict()
    network = make_unet(1)
    transfer = transfer_weights(network, source)
    assert (transfer.transferred, transfer.total, transfer.reinitialised) == (46, 46, ())
    assert all(torch.equal(tensor, source[n]) for n, tensor in network.state_dict().items())


def test_what_the_source_has_besides_is_left():
    source = make_unet(0, features=4).state_dict()
    extra = {**source, "teacher.weight": torch.zeros(3)}
    assert transfer_weights(make_unet(1, features=4), extra).transferred == 46


@pytest.mark.parametrize(
    ("changes", "fitting"), [({"features": 16}, 1), ({"depth": 3}, 14), ({"depth": 5}, 18)]
)
def test_another_unet_is_refused_and_changes_nothing(changes, fitting):
    source = make_unet(0, **changes).state_dict()
    network = make_unet(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(BenchError, match=f"only {fitting} of 46 tensors fit"):
        transfer_weights(network, source)
    assert all(torch.equal(tensor, before[n]) for n, tensor in network.state_dict().items())


def test_a_foreign_network_is_refused():
    source = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 1, 3)).state_dict()
    with pytest.raises(BenchError, match="only 0 of 46 tensors fit: choose another source"):
        transfer_weights(make_unet(0, features=4), source)
