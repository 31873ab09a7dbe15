"""The window in which labels are corrected: napari, with a list of the objects beside the image."""

from collections.abc import Callable, Iterator
from typing import Any

import napari
import numpy as np
from napari.utils.colormaps import DirectLabelColormap

from bench.correction.listing import colours_of, list_balls, list_painted
from bench.correction.panel import ObjectPanel
from bench.correction.session import Correction
from bench.errors import BenchError

# Voxels by which the keys change a radius.
_STEP_PX = 0.5
_LEFT_BUTTON = 1
_CHOSEN = "chosen"
_CONTRAST, _SAMPLE_PX = (0.5, 99.5), 1000
# Pixels of label images up to which all of them are counted again after a stroke.
_COUNTED_AT_ONCE_PX = 2**25
_HELP = {
    "D": "remove",
    "A": "add by click, on or off",
    "G / S": "grow, shrink",
    "R": "put back",
    "N / Shift-N": "next, previous",
    "U / Shift-U": "undo, redo",
    "W": "save",
}


class CorrectionWindow:
    """A napari window on a correction; edits go to that, and come back from it.

    Attributes:
        viewer: napari's viewer.
        panel: The list and its buttons.
        structure: The structure that is listed, and that keys are for.
        chosen: The key of the chosen object; None if none is.
    """

    def __init__(self, correction: Correction, save: Callable[[], str]) -> None:
        """Opens the window.

        Args:
            correction: What is corrected.
            save: Saves it, and says in a few words what was saved.
        """
        self._correction, self._save = correction, save
        self._scale = _voxel_sides(correction)
        known = correction.stack.pixel_size_nm is not None
        self._units = ("nm" if known else "pixel",) * 3
        self.chosen: int | None = None
        self.adding = False
        names = [*correction.balls, *correction.painted]
        self.structure = names[0]
        self.viewer: Any = napari.Viewer(title=f"correct {correction.stack.volume or 'sections'}")
        self._add_layers()
        actions: dict[str, Callable[[], None]] = {
            "D": self.remove,
            "A": self.toggle_adding,
            "G": lambda: self.resize(_STEP_PX),
            "S": lambda: self.resize(-_STEP_PX),
            "R": self.put_back,
            "N": lambda: self.step(1),
            "Shift-N": lambda: self.step(-1),
            "U": self.undo,
            "Shift-U": self.redo,
            "W": self.save,
        }
        self.panel = ObjectPanel(self.choose, actions, _HELP)
        self.panel.dock(self.viewer, lambda: self._correction.unsaved, self.save)
        self._bind(actions)
        self.viewer.mouse_drag_callbacks.append(self._on_press)
        self.viewer.layers.selection.events.active.connect(self._on_active)
        self.viewer.layers.selection.active = self.viewer.layers[self.structure]
        self.refresh()

    @property
    def _is_balls(self) -> bool:
        return self.structure in self._correction.balls

    def _add_layers(self) -> None:
        stack = self._correction.stack
        if stack.raw is not None:
            self.viewer.add_image(
                stack.raw,
                name="raw",
                scale=self._scale,
                units=self._units,
                contrast_limits=_find_contrast(stack.raw),
            )
        self.viewer.add_points(
            np.empty((0, 3)),
            name=_CHOSEN,
            scale=self._scale,
            face_color="transparent",
            border_color="white",
            border_width=0.03,
            projection_mode="rescale_spherical",
            units=self._units,
        )
        # The first structure lies on top.
        for name, labels in reversed(list(stack.labels.items())):
            layer = self.viewer.add_labels(
                labels, name=name, scale=self._scale, units=self._units, opacity=0.5
            )
            if name in self._correction.balls:
                layer.contour = 1
                layer.opacity = 1.0
                layer.editable = False
            elif labels.size <= _COUNTED_AT_ONCE_PX:
                layer.events.paint.connect(self.refresh)
        self.viewer.dims.axis_labels = ("z", "y", "x")
        self.viewer.canvas.overlays.scale_bar.visible = True

    def _bind(self, actions: dict[str, Callable[[], None]]) -> None:
        """Binds keys to the window, and to layers, whose own keys would go first."""
        keys = {**actions, "Delete": self.remove}
        for key, action in keys.items():
            self.viewer.bind_key(key, _ignoring_argument(action), overwrite=True)
        undoing = {"Control-Z": self.undo, "Control-Shift-Z": self.redo}
        for name in self._correction.balls:
            layer = self.viewer.layers[name]
            for key, action in {**keys, **undoing}.items():
                layer.bind_key(key, _ignoring_argument(action), overwrite=True)

    def refresh(self) -> None:
        """Shows what there is: list, colours, what was done."""
        correction = self._correction
        if self._is_balls:
            edits = correction.balls[self.structure]
            listed = list_balls(edits)
            colours: dict[int | None, Any] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
            colours |= {key: np.array(colour) for key, colour in colours_of(edits).items()}
            self.viewer.layers[self.structure].colormap = DirectLabelColormap(color_dict=colours)
        else:
            listed = list_painted(correction.painted[self.structure])
        self.viewer.layers[self.structure].refresh()
        if self.chosen not in [item.key for item in listed]:
            self.chosen = None
        self.panel.show(listed, self.chosen, balls=self._is_balls)
        self._mark_chosen()
        if sum(ids.size for ids in correction.stack.labels.values()) <= _COUNTED_AT_ONCE_PX:
            counts = ", ".join(f"{name}: {n}" for name, n in correction.counts().items())
            self.panel.say(counts + (" (not saved)" if correction.unsaved else ""))

    def choose(self, key: int) -> None:
        """Chooses an object of the list, and goes there."""
        self.chosen = key
        for item in self.panel.listed:
            if item.key == key:
                place = [v * side for v, side in zip(item.place, self._scale, strict=True)]
                shown = list(self.viewer.dims.displayed)
                for axis in self.viewer.dims.not_displayed:
                    self.viewer.dims.set_point(axis, place[axis])
                camera = self.viewer.scene.camera
                centre = list(camera.center)
                for number, axis in enumerate(shown, start=3 - len(shown)):
                    centre[number] = place[axis]
                camera.center = tuple(centre)
        self.panel.mark(key)
        self._mark_chosen()

    def step(self, by: int) -> None:
        """Chooses the next object of the list, or the one before."""
        keys = [item.key for item in self.panel.listed]
        if keys:
            place = keys.index(self.chosen) + by if self.chosen in keys else 0
            self.choose(keys[place % len(keys)])

    def remove(self) -> None:
        """Removes the chosen object, and chooses the next one."""
        if self.chosen is None:
            return
        key, following = self.chosen, self._following()
        if self._is_balls:
            self._try(lambda: self._correction.balls[self.structure].remove(key))
        else:
            # Through the layer, whose own undo takes it back.
            pixels = self._correction.painted[self.structure].find_pixels(key)
            self.viewer.layers[self.structure].data_setitem(pixels, 0)
        self.chosen = None
        self.refresh()
        if following is not None:
            self.choose(following)

    def _following(self) -> int | None:
        keys = [item.key for item in self.panel.listed if item.there]
        if self.chosen not in keys or len(keys) < 2:
            return None
        return keys[(keys.index(self.chosen) + 1) % len(keys)]

    def put_back(self) -> None:
        """Puts a removed vesicle back, which is chosen in the list."""
        if self._is_balls and self.chosen is not None:
            key = self.chosen
            self._try(lambda: self._correction.balls[self.structure].restore(key))

    def resize(self, by: float) -> None:
        """Makes the chosen vesicle larger by so many voxels."""
        if self._is_balls and self.chosen is not None:
            key = self.chosen
            self._try(lambda: self._correction.balls[self.structure].resize(key, by))

    def toggle_adding(self) -> None:
        """Lets clicks add vesicles, or choose them again."""
        self.adding = self._is_balls and not self.adding
        self.panel.show_adding(self.adding)

    def add(self, place: tuple[float, float, float]) -> None:
        """Adds a vesicle at a place in voxels, and chooses it."""
        edits = self._correction.balls[self.structure]

        def do() -> None:
            self.chosen = edits.add(place)

        self._try(do)

    def undo(self) -> None:
        """Takes the last edit back."""
        if self._is_balls:
            self._show_edited(self._correction.balls[self.structure].undo())
        else:
            self.viewer.layers[self.structure].undo()
            self.refresh()

    def redo(self) -> None:
        """Does what was undone last."""
        if self._is_balls:
            self._show_edited(self._correction.balls[self.structure].redo())
        else:
            self.viewer.layers[self.structure].redo()
            self.refresh()

    def _show_edited(self, key: int | None) -> None:
        self.chosen = key if key is not None else self.chosen
        self.refresh()
        if self.chosen is not None:
            self.choose(self.chosen)

    def save(self) -> None:
        """Saves what there is."""
        try:
            said = self._save()
        except (BenchError, OSError) as error:
            said = f"not saved: {error}"
        self.refresh()
        self.panel.say(said)

    def _try(self, edit: Callable[[], object]) -> None:
        """Does an edit; what cannot be done is said."""
        try:
            edit()
        except BenchError as error:
            self.panel.say(str(error))
        else:
            self.refresh()

    def _mark_chosen(self) -> None:
        """A ring around the chosen object."""
        layer = self.viewer.layers[_CHOSEN]
        rings = [item for item in self.panel.listed if item.key == self.chosen and item.radius]
        layer.data = np.array([item.place for item in rings]).reshape(-1, 3)
        if rings:
            layer.size = 2.3 * rings[0].radius

    def _on_active(self, event: Any) -> None:
        """Lists the structure whose layer is chosen."""
        name = event.value.name if event.value is not None else ""
        if name in self._correction.stack.labels and name != self.structure:
            self.structure, self.chosen, self.adding = name, None, False
            self.panel.show_adding(False)
            self.refresh()

    def _on_press(self, viewer: Any, event: Any) -> Iterator[None]:
        """Takes a press of the mouse that does not become a drag as a click."""
        yield
        moved = False
        while event.type == "mouse_move":
            moved = True
            yield
        if not moved and event.button == _LEFT_BUTTON and viewer.dims.ndisplay == 2:
            self.click(event.position)

    def click(self, position: tuple[float, ...]) -> None:
        """Adds a vesicle where the mouse is, or chooses the object there.

        Args:
            position: Place (z, y, x) in the window's units.
        """
        layer = self.viewer.layers[self.structure]
        place = tuple(float(value) for value in layer.world_to_data(position))
        if self.adding:
            self.add((place[0], place[1], place[2]))
        elif str(layer.mode) == "pan_zoom":
            found = layer.get_value(position, world=True)
            if found:
                self.choose(int(found))


def _ignoring_argument(action: Callable[[], None]) -> Callable[[Any], None]:
    """A key's function, which napari calls with the viewer or layer."""
    return lambda _: action()


def _voxel_sides(correction: Correction) -> tuple[float, float, float]:
    """Depth, height and width of a voxel: in nm where known, else in px."""
    stack = correction.stack
    side = stack.pixel_size_nm or 1.0
    return side * stack.section_px, side, side


def _find_contrast(raw: np.ndarray) -> tuple[float, float]:
    """The grey values that are shown black and white, by a sample of the middle section."""
    step = max(1, max(raw.shape[1:]) // _SAMPLE_PX)
    low, high = np.percentile(raw[len(raw) // 2, ::step, ::step], _CONTRAST)
    return float(low), float(high) if high > low else float(low) + 1


def open_window(correction: Correction, save: Callable[[], str]) -> None:
    """Opens the window, and returns when it is closed.

    Args:
        correction: What is corrected.
        save: Saves it, and says what was saved.
    """
    CorrectionWindow(correction, save)
    napari.run()
