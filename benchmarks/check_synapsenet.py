"""Checks our adapter against synapse_net itself: its files load, and predict what it predicts.

In an environment that has synapse_net (and not necessarily ours), once, in a minute:

    python benchmarks/check_synapsenet.py make FOLDER

trains three tiny networks by synapse_net's own functions (2D, 3D, mean teacher), saves each as
the checkpoint that they write and as the pickled module that SynapseNet publishes, and predicts
an image with synapse_net's own inference. In our environment,

    python benchmarks/check_synapsenet.py compare FOLDER

converts all files, predicts the image in fp32 and prints the largest difference of probabilities.
It fails above 1e-4. The image is one tile without halo for both: with a halo, the two mirror the
image at its border in different ways, and the networks' InstanceNorm sees that everywhere.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch

LARGEST_DIFFERENCE = 1e-4
EDGE_PX = 128
PLANES = 16
PATCHES = {"supervised_2d": (1, 64, 64), "supervised_3d": (PLANES, 32, 32)}


def make(folder: Path) -> None:
    """Trains, saves and predicts with synapse_net."""
    import torch_em
    from synapse_net.inference.util import get_prediction
    from synapse_net.training.supervised_training import supervised_training

    folder.mkdir(parents=True, exist_ok=True)
    image, data = write_volumes(folder)
    for name, patch_shape in PATCHES.items():
        supervised_training(
            name=name,
            train_paths=(data,),
            val_paths=(data,),
            label_key="labels",
            patch_shape=patch_shape,
            save_root=str(folder),
            sampler=False,
            n_iterations=3,
            n_samples_train=3,
            n_samples_val=1,
            num_workers=0,
        )
    adapt(folder, data)
    for checkpoint in sorted((folder / "checkpoints").iterdir()):
        module = torch_em.util.load_model(str(checkpoint), device="cpu")
        torch.save(module, folder / f"{checkpoint.name}.module")
        volume = np.repeat(image[None], PLANES, axis=0) if checkpoint.name[-2:] == "3d" else image
        tiling = {
            "tile": {"x": EDGE_PX, "y": EDGE_PX, "z": PLANES},
            "halo": {"x": 0, "y": 0, "z": 0},
        }
        probability = get_prediction(volume.astype(np.float32), tiling, model_path=str(checkpoint))
        plane = probability if volume.ndim == 2 else probability[:, PLANES // 2]
        np.savez(folder / f"{checkpoint.name}.npz", image=image, probability=plane)


def adapt(folder: Path, data: str) -> None:
    """Trains a mean teacher from the 2D network."""
    from synapse_net.training.domain_adaptation import mean_teacher_adaptation

    mean_teacher_adaptation(
        "mean_teacher_2d",
        (data,),
        (data,),
        patch_shape=(1, 64, 64),
        save_root=str(folder),
        source_checkpoint=str(folder / "checkpoints" / "supervised_2d"),
        n_iterations=2,
        n_samples_train=2,
        n_samples_val=1,
        batch_size=1,
    )


def write_volumes(folder: Path) -> tuple[np.ndarray, str]:
    """Writes a volume of discs with their labels; returns one of its planes and the path."""
    import h5py

    random = np.random.default_rng(0)
    ys, xs = np.mgrid[:EDGE_PX, :EDGE_PX]
    disc = (ys % 32 - 16) ** 2 + (xs % 32 - 16) ** 2 < 81
    plane = np.where(disc, 1 + ys // 32 * 4 + xs // 32, 0).astype(np.uint32)
    labels = np.repeat(plane[None], PLANES, axis=0)
    raw = (120 + random.normal(0, 10, labels.shape) - 60 * (labels > 0)).clip(0, 255)
    path = folder / "volume.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = raw.astype(np.uint8)
        file["labels"] = labels
    return raw[0].astype(np.uint8), str(path)


def compare(folder: Path) -> bool:
    """Converts and predicts with ours; returns whether all probabilities agree."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
    from bench.inference.device import choose_compute
    from bench.inference.feeding import normalise_section
    from bench.inference.tiles import predict_sections
    from bench.models.checkpoint import load_checkpoint
    from bench.models.foreign import convert_foreign

    compute = choose_compute("cpu", "fp32")
    agree = True
    for expected in sorted(folder.glob("*.npz")):
        image, probability = (np.load(expected)[key] for key in ("image", "probability"))
        for source in (folder / "checkpoints" / expected.stem, expected.with_suffix(".module")):
            network, _ = load_checkpoint(convert_foreign(source, folder=folder / "converted"))
            inputs = torch.from_numpy(normalise_section(image))[None, None]
            with torch.inference_mode():
                ours = torch.sigmoid(network.eval()(inputs))[0].numpy()
            (stored,) = predict_sections(
                network, [image], tile_px=EDGE_PX, halo_px=0, compute=compute
            )
            difference = np.abs(ours - probability).max()
            levels = np.abs(stored / 255 - probability).max() * 255
            print(f"{source}: {difference:.1e} ({levels:.2f} of the 255 levels that are stored)")
            agree &= bool(difference < LARGEST_DIFFERENCE and levels < 0.51)
    return agree


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["make", "compare"])
    parser.add_argument("folder", type=Path)
    chosen = parser.parse_args()
    if chosen.action == "make":
        make(chosen.folder)
    elif not compare(chosen.folder):
        sys.exit(f"a probability differs by more than {LARGEST_DIFFERENCE}")
