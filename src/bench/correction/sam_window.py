"""micro_sam's annotator with a network and embeddings of ours, section after section."""

from collections.abc import Callable, Sequence
from typing import Any

import napari
import numpy as np
from magicgui.widgets import PushButton

from bench.inference.sam_tiles import ClickableSection
from bench.models.sam import SamNetwork

# micro_sam names networks by the sizes it knows; only the defaults of its sliders depend on it.
_MODEL_TYPE = "vit_b"


class _SamWindow:
    """micro_sam's 2D annotator, and a button that saves a section and goes to the next.

    Attributes:
        viewer: napari's viewer.
        place: Number of the section shown.
    """

    def __init__(
        self,
        network: SamNetwork,
        names: Sequence[str],
        read: Callable[[str], ClickableSection],
        save: Callable[[str, np.ndarray], None],
    ) -> None:
        """Opens the window on the first section.

        Args:
            network: The network, on its device.
            names: Names of the sections.
            read: Reads a section, which may take as long as embedding it.
            save: Saves the ids (y, x) of a section.
        """
        from micro_sam.sam_annotator._state import AnnotatorState
        from micro_sam.sam_annotator.annotator_2d import Annotator2d
        from segment_anything import SamPredictor

        self._network, self._names, self._read, self._save = network, names, read, save
        self._predictor: Any = SamPredictor(network.sam)
        self._predictor.model_type = self._predictor.model_name = _MODEL_TYPE
        self._state = AnnotatorState()
        self.place = 0
        self.viewer: Any = napari.Viewer()
        section = self._load()
        self.viewer.add_image(section.image, name="image")
        self._annotator = Annotator2d(self.viewer, reset_state=False)
        self._annotator._update_image(segmentation_result=section.labels)
        self.viewer.window.add_dock_widget(self._annotator)
        button = PushButton(text="Save, next section [N]")
        button.clicked.connect(self.save_and_go_on)
        self.viewer.window.add_dock_widget(button)
        self.viewer.bind_key("n", lambda _: self.save_and_go_on(), overwrite=True)

    def _load(self) -> ClickableSection:
        """Reads the section at the place, and gives its embeddings to micro_sam's tools."""
        section = self._read(self._names[self.place])
        if self._state.amg is not None:
            self._state.amg.clear_state()
        self._state.initialize_predictor(
            section.image,
            model_type=_MODEL_TYPE,
            save_path=section.embeddings,
            predictor=self._predictor,
            decoder=self._network.instance_decoder,
            ndim=2,
        )
        self._state.image_shape = section.image.shape
        self.viewer.title = f"annotate {section.name} ({self.place + 1} of {len(self._names)})"
        return section

    def save_and_go_on(self) -> None:
        """Saves the committed objects, and shows the next section; closes after the last."""
        labels = np.asarray(self.viewer.layers["committed_objects"].data)
        self._save(self._names[self.place], labels)
        if self.place + 1 == len(self._names):
            self.viewer.close()
            return
        self.place += 1
        section = self._load()
        self.viewer.layers["image"].data = section.image
        self._annotator._update_image(segmentation_result=section.labels)


def open_sam_window(
    network: SamNetwork,
    names: Sequence[str],
    read: Callable[[str], ClickableSection],
    save: Callable[[str, np.ndarray], None],
) -> None:
    """Opens the window (see _SamWindow), and returns when it is closed."""
    _SamWindow(network, names, read, save)
    napari.run()
