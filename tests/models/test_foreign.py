import json
import logging

import h5py
import numpy as np
import pytest
import torch

from bench.errors import BenchError
from bench.models.checkpoint import build_model, load_checkpoint, load_info
from bench.models.foreign import convert_foreign, read_foreign, write_synapsenet_file

ARGUMENTS = {"in_channels": 1, "out_channels": 2, "depth": 2, "features": 4}
FACTORS = [[1, 2, 2], [2, 2, 2]]


def make_unet2d(seed=0, **changes):
    from torch_em.model import UNet2d

    torch.manual_seed(seed)
    settings = {"depth": 2, "initial_features": 4, "final_activation": "Sigmoid", **changes}
    return UNet2d(settings.pop("in_channels", 1), settings.pop("out_channels", 2), **settings)


def make_unet3d(**changes):
    from torch_em.model import AnisotropicUNet

    torch.manual_seed(0)
    settings = {"scale_factors": FACTORS, "initial_features": 4, "final_activation": "Sigmoid"}
    return AnisotropicUNet(1, 2, **{**settings, **changes})


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def save_dict(path, network, prefix="", **changes):
    """Writes what matters of a trainer's checkpoint."""
    kind = f"{type(network).__module__}.{type(network).__qualname__}"
    init = {"model_class": kind, "model_kwargs": network.init_kwargs, **changes.pop("init", {})}
    state = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    return save(path, {"model_state": state, "init": init, **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a checkpoint that torch_em's own trainer wrote, and the network."""
    import torch_em

    folder = tmp_path_factory.mktemp("trained")
    with h5py.File(folder / "data.h5", "w") as file:
        file["raw"] = np.random.default_rng(0).random((4, 32, 32), dtype=np.float32)
        file["labels"] = np.ones((4, 32, 32), dtype=np.uint8)
    loaders = [
        torch_em.default_segmentation_loader(
            *(str(folder / "data.h5"), "raw", str(folder / "data.h5"), "labels"),
            batch_size=1,
            patch_shape=(1, 32, 32),
            ndim=2,
            n_samples=2,
            label_transform=torch_em.transform.BoundaryTransform(add_binary_target=True),
        )
        for _ in range(2)
    ]
    network = make_unet2d()
    trainer = torch_em.default_segmentation_trainer(
        *("tiny", network, *loaders),
        device="cpu",
        mixed_precision=False,
        logger=None,
        compile_model=False,
        save_root=str(folder),
    )
    trainer.fit(2)
    return folder / "checkpoints" / "tiny", network


def assert_same(model, network):
    expected = network.state_dict()
    assert model.weights.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(model.weights[name], tensor), name


def probability(checkpoint, image):
    network, _ = load_checkpoint(checkpoint)
    with torch.no_grad():
        return torch.sigmoid(network.eval()(image))


def test_a_module_file_loads_and_predicts_the_same(tmp_path):
    network = make_unet2d()
    path = save(tmp_path / "vesicles_2d", network)
    model = read_foreign(path)
    assert (model.architecture, model.arguments) == ("unet2d", ARGUMENTS)
    assert_same(model, network)
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        expected = network.eval()(image)
    converted = convert_foreign(path, folder=tmp_path)
    assert (probability(converted, image) - expected).abs().max() < 1e-6


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("name", ["", "best.pt", "latest.pt"])
def test_a_checkpoint_of_torch_em_loads(trained, name, trust):
    folder, network = trained
    model = read_foreign(folder / name, trust=trust)
    assert (model.architecture, model.arguments) == ("unet2d", ARGUMENTS)
    if name == "latest.pt":
        assert_same(model, network)


def test_the_best_comes_before_the_latest(tmp_path):
    save_dict(tmp_path / "latest.pt", make_unet2d(1))
    assert_same(read_foreign(tmp_path), make_unet2d(1))
    save_dict(tmp_path / "best.pt", make_unet2d(2))
    assert_same(read_foreign(tmp_path), make_unet2d(2))


@pytest.mark.parametrize("trust", [False, True])
def test_a_3d_module_is_applied_to_sections(tmp_path, trust):
    network = make_unet3d()
    path = save(tmp_path / "mitochondria", network)
    model = read_foreign(path, trust=trust)
    assert model.architecture == "unet3d_planes"
    assert model.arguments == {
        "in_channels": 1,
        "out_channels": 2,
        "features": 4,
        "scale_factors": FACTORS,
        "planes": 16,
    }
    converted = convert_foreign(path, folder=tmp_path)
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        expected = network.eval()(image.unsqueeze(2).repeat(1, 1, 16, 1, 1))[:, :, 8]
    assert (probability(converted, image) - expected).abs().max() < 1e-6
    info = load_info(converted)
    assert (info.tile_px, info.halo_px) == (256, 64)


def test_3d_checkpoints_say_how_they_pool(tmp_path):
    factors = [[1, 2, 2], [1, 2, 2]]
    path = save_dict(tmp_path / "best.pt", make_unet3d(scale_factors=factors))
    assert read_foreign(path).arguments["scale_factors"] == factors


def test_isotropic_3d_networks_load(tmp_path):
    from torch_em.model import UNet3d

    network = UNet3d(1, 2, depth=2, initial_features=4, final_activation="Sigmoid")
    for path in (save(tmp_path / "module", network), save_dict(tmp_path / "best.pt", network)):
        assert read_foreign(path).arguments["scale_factors"] == [[2, 2, 2], [2, 2, 2]]


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_the_tensors_are_dropped(tmp_path, prefix):
    path = save_dict(
        tmp_path / "best.pt",
        make_unet2d(),
        prefix,
        init={"model_class": "torch_em.multi_gpu_training.DDP"},
    )
    assert_same(read_foreign(path), make_unet2d())


def test_the_student_of_a_mean_teacher_is_read(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    teacher = make_unet2d(1).state_dict()
    path = save_dict(tmp_path / "best.pt", make_unet2d(0), teacher_state=teacher)
    assert_same(read_foreign(path), make_unet2d(0))
    assert "holds a student and its teacher: the student is read" in caplog.text


def test_half_precision_becomes_single(tmp_path):
    model = read_foreign(save(tmp_path / "module", make_unet2d().half()))
    assert {tensor.dtype for tensor in model.weights.values()} == {torch.float32}


def spoil(network, change):
    change(network)
    return network


def cyclic(network):
    network.encoder.blocks[0].block[2] = network.encoder


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_unet2d(in_channels=2), "takes 2 channels where sections have one"),
        (lambda: make_unet2d(final_activation="Tanh"), r"ends in a .*Tanh where a Sigmoid"),
        (lambda: make_unet2d(gain=3), "of shape"),
        (lambda: make_unet2d(norm="BatchNorm"), r"has a .*BatchNorm2d as encoder\.blocks\.0"),
        (lambda: make_unet2d(norm=None), r"no tensor 'encoder\.blocks\.0\.block\.1\.weight'"),
        (lambda: make_unet2d(pooler_impl=torch.nn.AvgPool2d), "has a .*AvgPool2d as"),
        (lambda: make_unet2d(postprocessing="affinities_to_boundaries2d"), "postprocessing"),
        (lambda: make_unet2d(return_side_outputs=True), "tensor 'out_conv.weight'"),
        (lambda: make_unet3d(anisotropic_kernel=True), "of shape"),
        (lambda: torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)), r"is a torch\.nn.*Sequential"),
        (lambda: spoil(make_unet2d(), lambda n: n.decoder.blocks.pop(0)), "of shape"),
        (lambda: spoil(make_unet2d(), cyclic), r"is damaged \(RecursionError\)"),
        (lambda: [1, 2], r"is a builtins\.list"),
        (lambda: {"epoch": 3, "weights": {}}, "has the entries epoch, weights and no model_state"),
        (lambda: make_unet2d().state_dict(), "no model_state"),
    ],
)
@pytest.mark.parametrize("trust", [False, True])
def test_other_models_are_refused(tmp_path, make, message, trust):
    path = save(tmp_path / "other.pt", make())
    with pytest.raises(BenchError, match=message) as caught:
        read_foreign(path, trust=trust)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "init", "message"),
    [
        ({"final_activation": "Tanh"}, {}, "ends in a Tanh"),
        ({"final_activation": torch.nn.Tanh()}, {}, "ends in a torch.*Tanh"),
        ({"pooler_impl": torch.nn.AvgPool2d}, {}, "has the pooler_impl .*AvgPool2d"),
        ({}, {"model_class": "monai.networks.UNet"}, "holds a network of class monai"),
        ({}, {"model_kwargs": None}, "holds a network of class"),
        ({}, {"model_kwargs": {"postprocessing": "x"}}, "postprocessing"),
    ],
)
def test_other_checkpoints_are_refused(tmp_path, settings, init, message):
    network = make_unet2d(**settings)
    path = save_dict(tmp_path / "best.pt", network, init=init)
    with pytest.raises(BenchError, match=message):
        read_foreign(path)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {1: torch.ones(2)},
        {"encoder.blocks.0.block.1.weight": torch.ones(()), "out_conv.weight": torch.ones(())},
        {"encoder.blocks.0.block.1.weight": 3, "out_conv.weight": 4},
        {
            "encoder.blocks.0.block.1.weight": torch.ones(4, 1, 3, 3, 3),
            "out_conv.weight": torch.ones(1),
        },
    ],
)
def test_malformed_weights_are_refused(tmp_path, state):
    path = save_dict(tmp_path / "best.pt", make_unet2d(), model_state=state)
    with pytest.raises(BenchError, match="a model must be a U-Net of torch_em") as caught:
        read_foreign(path)
    assert "\n" not in str(caught.value)


def test_missing_files_say_what_there_is(tmp_path, trained):
    with pytest.raises(BenchError, match=r"received .*nowhere, nothing there: check the path"):
        read_foreign(tmp_path / "nowhere")
    with pytest.raises(BenchError, match=r"must hold best\.pt or latest\.pt"):
        read_foreign(tmp_path)
    folder, _ = trained
    with pytest.raises(BenchError, match=f"choose one of {folder}"):
        read_foreign(folder.parents[1])


def test_conversion_says_what_the_model_is(tmp_path):
    path = save(tmp_path / "model", make_unet2d())
    info = load_info(
        convert_foreign(
            path,
            folder=tmp_path / "cache",
            outputs=("foreground", "boundary", "distance"),
            input_pixel_size_nm=1.35,
            tile_px=64,
            halo_px=0,
        )
    )
    assert (info.structure, info.normalisation) == ("", "section")
    assert info.outputs == ("foreground", "boundary")
    assert (info.input_pixel_size_nm, info.tile_px, info.halo_px) == (1.35, 64, 0)


@pytest.mark.parametrize(
    ("channels", "outputs"),
    [
        (1, ("foreground",)),
        (2, ("foreground", "boundary")),
        (3, ("channel_0", "channel_1", "channel_2")),
    ],
)
def test_channels_of_an_unpublished_model(tmp_path, channels, outputs):
    path = save(tmp_path / "model", make_unet2d(out_channels=channels))
    info = load_info(convert_foreign(path, folder=tmp_path))
    assert (info.outputs, info.input_pixel_size_nm) == (outputs, None)
    assert (info.tile_px, info.halo_px) == (512, 128)


def test_more_channels_than_known_are_refused(tmp_path):
    path = save(tmp_path / "model", make_unet2d(out_channels=3))
    with pytest.raises(BenchError, match="has 3 output channels where 2 are known"):
        convert_foreign(path, folder=tmp_path, outputs=("foreground", "boundary"))


def test_conversion_is_done_once(tmp_path):
    path = save(tmp_path / "model", make_unet2d())
    first = convert_foreign(path, folder=tmp_path / "cache")
    written = first.stat().st_mtime_ns
    assert convert_foreign(path, folder=tmp_path / "cache") == first
    assert first.stat().st_mtime_ns == written
    save(path, make_unet2d(1))
    assert convert_foreign(path, folder=tmp_path / "cache") != first, "other weights"
    other = convert_foreign(path, folder=tmp_path / "cache", input_pixel_size_nm=2.0)
    assert load_info(other).input_pixel_size_nm == 2.0


@pytest.mark.parametrize("damage", ["weights", "description", "half"])
def test_a_damaged_conversion_is_made_again(tmp_path, damage):
    path = save(tmp_path / "model", make_unet2d())
    converted = convert_foreign(path, folder=tmp_path / "cache")
    if damage == "weights":
        converted.write_bytes(converted.read_bytes()[:-8])
    elif damage == "half":
        converted.with_suffix(".json").unlink()
    else:
        converted.with_suffix(".json").write_text(json.dumps({}))
    assert convert_foreign(path, folder=tmp_path / "cache") == converted
    load_checkpoint(converted)


def test_a_folder_that_cannot_be_written_to(tmp_path):
    path = save(tmp_path / "model", make_unet2d())
    with pytest.raises(BenchError, match="must be a folder that can be written to"):
        convert_foreign(path, folder=path / "cache")


def test_our_file_is_what_synapsenet_publishes(tmp_path):
    network = build_model("unet2d", ARGUMENTS)
    path = tmp_path / "new" / "tiny"
    write_synapsenet_file(path, network.state_dict(), ARGUMENTS)
    module = torch.load(path, weights_only=False)  # As synapse_net reads it.
    image = torch.randn(1, 1, 16, 16)
    with torch.no_grad():
        found, ours = module.eval()(image), torch.sigmoid(network.eval()(image))
    # Their norm adds up in another order.
    torch.testing.assert_close(found, ours, atol=1e-5, rtol=0)
    assert type(module).__qualname__ == "UNet2d"
    assert module.init_kwargs["final_activation"] == "Sigmoid"
    assert_same(read_foreign(path), network)
    before = path.read_bytes()
    again = tmp_path / "again"
    write_synapsenet_file(again, network.state_dict(), ARGUMENTS)
    assert again.read_bytes() == before
