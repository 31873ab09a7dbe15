import torch

from bench.config.data import PhantomModelsConfig
from bench.models.foreign import read_foreign
from bench.steps.phantom_models import phantom_models
from bench.steps.training.sam import resolve_sam


def test_models_lie_in_the_published_formats(pipeline, store, tmp_path):
    config = PhantomModelsConfig(
        dataset=str(pipeline.dataset),
        output=str(tmp_path / "models"),
        iterations=2,
        features=4,
        patch_px=32,
        batch_size=1,
        tile_px=32,
        halo_px=16,
        sam_iterations=1,
    )
    folder = phantom_models(config)
    structures = ("mitochondria", "vesicles")
    expected = {f"{name}{kind}.pt" for name in structures for kind in ("", "_sam")}
    assert {path.name for path in folder.iterdir()} == expected
    source = read_foreign(folder / "vesicles.pt")
    assert source.architecture == "unet2d"
    assert source.arguments["out_channels"] == 2
    content = torch.load(folder / "vesicles_sam.pt", weights_only=True)
    assert set(content) == {"model_state", "decoder_state"}
    assert resolve_sam(store, str(folder / "vesicles_sam.pt"), trust=False).read()
    # Again: the trainings are reused and the files the same, byte by byte.
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    runs = len(store.client.search_runs([store.experiment_id]))
    phantom_models(config)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert len(store.client.search_runs([store.experiment_id])) == runs
