"""Drives the window as a person does, by mouse and keys, and writes down what came of it.

Run in a process of its own with a display: ``drive_window.py STACK.npz OUT.json [PICTURES]``.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from qtpy.QtCore import QPoint, Qt
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QMessageBox

from bench.correction import panel
from bench.correction.session import Correction
from bench.correction.window import CorrectionWindow
from bench.export.sphere_table import read_spheres
from bench.export.stack import make_stack

NONE, CONTROL = Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier
SHIFT = Qt.KeyboardModifier.ShiftModifier
LEFT = Qt.MouseButton.LeftButton
PIXEL_NM = 2.2


class Driver:
    """A person at the window."""

    def __init__(self, correction: Correction, pictures: Path | None) -> None:
        self.saved = 0
        self.window = CorrectionWindow(correction, self.save)
        self.pictures = pictures
        self.viewer = self.window.viewer
        self.viewer.window.resize(1300, 850)
        self.canvas = self.viewer.window._qt_viewer.canvas
        self.wait(20)

    def save(self) -> str:
        self.saved += 1
        for edits in (*correction.balls.values(), *correction.painted.values()):
            edits.mark_saved()
        return f"saved {self.saved}"

    def wait(self, rounds: int = 5) -> None:
        for _ in range(rounds):
            QApplication.processEvents()
            time.sleep(0.01)

    def type(self, key: Qt.Key, modifier: Qt.KeyboardModifier = NONE) -> None:
        QTest.keyClick(self.canvas.native, key, modifier)
        self.wait()

    def place_of(self, y: float, x: float) -> QPoint:
        """Where a voxel of the plane is on the screen."""
        to_screen = self.canvas.view.scene.node_transform(self.canvas._scene_canvas.scene)
        across, down, _, scale = to_screen.map([x * PIXEL_NM, y * PIXEL_NM, 0, 1])
        return QPoint(round(across / scale), round(down / scale))

    def click(self, z: float, y: float, x: float) -> None:
        self.go(z)
        QTest.mouseClick(self.canvas.native, LEFT, NONE, self.place_of(y, x))
        self.wait()

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        QTest.mousePress(self.canvas.native, LEFT, NONE, self.place_of(*start))
        for share in (0.25, 0.5, 0.75, 1.0):
            between = [a + share * (b - a) for a, b in zip(start, end, strict=True)]
            QTest.mouseMove(self.canvas.native, self.place_of(*between))
            self.wait(2)
        QTest.mouseRelease(self.canvas.native, LEFT, NONE, self.place_of(*end))
        self.wait()

    def click_line(self, number: int) -> None:
        table = self.window.panel.table
        place = table.visualItemRect(table.item(number, 0)).center()
        QTest.mouseClick(table.viewport(), LEFT, NONE, place)
        self.wait()

    def click_button(self, key: str) -> None:
        QTest.mouseClick(self.window.panel.buttons[key], LEFT)
        self.wait()

    def go(self, z: float) -> None:
        self.viewer.dims.set_point(0, z * PIXEL_NM)
        self.wait()

    def show(self, structure: str) -> None:
        self.viewer.layers.selection.active = self.viewer.layers[structure]
        self.wait()

    def keys(self) -> list[int]:
        return [item.key for item in self.window.panel.listed]

    def plane(self) -> int:
        return int(self.viewer.dims.current_step[0])

    def look(self, name: str) -> None:
        self.wait(10)
        if self.pictures is not None:
            path = str(self.pictures / f"{name}.png")
            self.viewer.screenshot(path, canvas_only=False, flash=False)


def drive_balls(driver: Driver, correction: Correction) -> dict[str, object]:
    said: dict[str, object] = {"listed": driver.keys()}
    rows = correction.balls["vesicles"].rows
    driver.click_line(0)
    said["gone to"] = [driver.window.chosen, driver.plane()]
    driver.look("1_doubtful")
    driver.type(Qt.Key.Key_G)
    driver.type(Qt.Key.Key_G)
    driver.type(Qt.Key.Key_S)
    said["radius"] = rows[2].radius
    driver.type(Qt.Key.Key_Z, CONTROL)
    said["undone"] = rows[2].radius
    driver.type(Qt.Key.Key_Z, CONTROL | SHIFT)
    said["redone"] = rows[2].radius
    driver.type(Qt.Key.Key_N)
    said["next"] = driver.window.chosen
    driver.type(Qt.Key.Key_N, SHIFT)
    said["before"] = driver.window.chosen
    driver.type(Qt.Key.Key_D)
    said["removed"] = [sorted(rows), driver.window.chosen]
    driver.look("2_removed")
    driver.click_button("U")
    said["back"] = sorted(rows)
    # Without the mode a click chooses; with it, it adds, but not in a vesicle.
    driver.click(30, 35, 15)
    said["clicked"] = driver.window.chosen
    driver.click_button("A")
    driver.click(30, 35, 15)
    said["refused"] = [sorted(rows), driver.window.panel.said]
    driver.click(28, 36.6, 35.2)
    driver.type(Qt.Key.Key_A)
    (added,) = set(rows) - {1, 2, 4}
    said["added"] = [*rows[added].centre, rows[added].radius]
    said["adding"] = driver.window.adding
    driver.look("3_added")
    driver.click_line(len(driver.keys()) - 1)
    driver.look("4_left_out")
    driver.type(Qt.Key.Key_R)
    said["put back"] = sorted(rows)
    # A drag moves the image, and neither adds nor chooses.
    before = (sorted(rows), driver.window.chosen)
    driver.drag((10, 10), (20, 20))
    said["dragged"] = before == (sorted(rows), driver.window.chosen)
    said["painted"] = sorted(set(np.unique(correction.stack.labels["vesicles"]).tolist()) - {0})
    return said


def drive_painting(driver: Driver, correction: Correction) -> dict[str, object]:
    driver.show("active_zone")
    said: dict[str, object] = {"listed": driver.keys()}
    labels = correction.stack.labels["active_zone"]
    driver.click_line(0)
    driver.type(Qt.Key.Key_Delete)
    said["removed"] = int(labels.sum())
    driver.type(Qt.Key.Key_U)
    said["back"] = int(labels.sum())
    layer = driver.viewer.layers["active_zone"]
    driver.go(30)
    layer.mode, layer.selected_label, layer.brush_size = "paint", 5, 4
    driver.drag((20, 20), (20, 30))
    said["painted"] = [driver.keys(), int((labels == 5).sum())]
    driver.look("5_painted")
    driver.type(Qt.Key.Key_Z, CONTROL)
    said["stroke undone"] = int((labels == 5).sum())
    layer.mode = "pan_zoom"
    return said


def drive_end(driver: Driver, correction: Correction) -> dict[str, object]:
    answers, asked = [], []

    def answer(*arguments: object) -> object:
        asked.append(str(arguments[1]))
        return answers.pop(0)

    panel.QMessageBox.question = answer
    said: dict[str, object] = {"unsaved": correction.unsaved}
    driver.show("vesicles")
    driver.type(Qt.Key.Key_W)
    said["saved"] = [driver.saved, driver.window.panel.said, correction.unsaved]
    driver.viewer.dims.ndisplay = 3
    driver.look("6_three_dimensions")
    driver.viewer.dims.ndisplay = 2
    driver.click_line(0)
    driver.type(Qt.Key.Key_D)
    window = driver.viewer.window._qt_window
    answers += [QMessageBox.StandardButton.Cancel, QMessageBox.StandardButton.Save]
    window.close()
    driver.wait()
    said["kept open"] = window.isVisible()
    window.close()
    driver.wait()
    said["closed"] = [driver.saved, asked, correction.unsaved]
    return said


if __name__ == "__main__":
    given, out, *rest = map(Path, sys.argv[1:])
    with np.load(given) as arrays:
        raw, labels = arrays["raw"], {name: arrays[name] for name in ("vesicles", "active_zone")}
    stack = make_stack(
        labels,
        raw=raw,
        pixel_size_nm=PIXEL_NM,
        section_nm=PIXEL_NM,
        volume="tomo",
        spheres={"vesicles": read_spheres(given.with_suffix(".csv"))},
    )
    correction = Correction.begin(stack)
    driver = Driver(correction, rest[0] if rest else None)
    report = {
        "balls": drive_balls(driver, correction),
        "painting": drive_painting(driver, correction),
        "end": drive_end(driver, correction),
    }
    out.write_text(json.dumps(report))
