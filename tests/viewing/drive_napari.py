"""Opens paths in napari as a person does, and writes down what it shows.

Run in a process of its own with a display: ``drive_napari.py OUT.json PICTURES PATH...``.
"""

import json
import sys
from pathlib import Path

import napari
import numpy as np
from npe2 import PluginManager, PluginManifest
from PIL import Image
from qtpy.QtWidgets import QApplication

import bench.viewing

MANIFEST = Path(bench.viewing.__file__).with_name("napari.yaml")


def main() -> None:
    output, pictures, *paths = map(Path, sys.argv[1:])
    plugins = PluginManager.instance()
    plugins.discover()
    if "synapse-bench" not in plugins:
        plugins.register(PluginManifest.from_file(MANIFEST))
    said = {}
    for number, path in enumerate(paths):
        viewer = napari.Viewer()
        viewer.window.resize(1200, 800)
        viewer.open(str(path), plugin="synapse-bench")
        for _ in range(20):
            QApplication.processEvents()
        shown = viewer.screenshot(canvas_only=True, flash=False)
        Image.fromarray(viewer.screenshot(canvas_only=False, flash=False)).save(
            pictures / f"{number}.png"
        )
        grey = np.ptp(shown[..., :3].astype(int), axis=-1)
        said[str(path)] = {
            "layers": [[layer.name, type(layer).__name__] for layer in viewer.layers],
            "scale": list(viewer.layers[0].scale),
            "coloured": float((grey > 30).mean()),
            "bright": float((shown[..., :3].max(-1) > 40).mean()),
        }
        viewer.close()
    output.write_text(json.dumps(said))


if __name__ == "__main__":
    main()
