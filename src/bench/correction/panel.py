"""The list of objects beside the image, and its buttons."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qtpy.QtCore import QEvent, QObject, Qt
from qtpy.QtGui import QBrush, QColor
from qtpy.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QLabel,
    QMessageBox,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from bench.correction.listing import BALL_COLUMNS, PAINTED_COLUMNS, ListedObject

_BUTTONS = {
    "A": "Add by click (A)",
    "D": "Remove (D)",
    "S": "Smaller (S)",
    "G": "Larger (G)",
    "U": "Undo (U)",
    "R": "Put back (R)",
    "W": "Save (W)",
}
_BUTTONS_IN_A_ROW = 2
_WIDTH_PX = 340


class ObjectPanel:
    """A list of objects by doubt.

    Attributes:
        listed: What it shows, from the top.
        table: The table.
        buttons: The buttons by their key.
    """

    def __init__(
        self,
        choose: Callable[[int], None],
        actions: Mapping[str, Callable[[], None]],
        keys: Mapping[str, str],
    ) -> None:
        """Makes it.

        Args:
            choose: Called with the key of the object that a person clicks in the list.
            actions: What keys do, by key.
            keys: What keys are for, to be read.
        """
        self.listed: Sequence[ListedObject] = ()
        self._choose = choose
        self.widget: Any = QWidget()
        self.widget.setMinimumWidth(_WIDTH_PX)
        self.table: Any = QTableWidget()
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        # Keys go to the image, whatever was clicked.
        self.table.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        header: Any = self.table.verticalHeader()
        header.setVisible(False)
        self.table.cellClicked.connect(self._on_click)
        self.buttons: dict[str, Any] = {}
        grid = QGridLayout()
        for number, (key, text) in enumerate(_BUTTONS.items()):
            button = QPushButton(text)
            button.setFocusPolicy(Qt.FocusPolicy.NoFocus)
            button.clicked.connect(_ignoring_state(actions[key]))
            grid.addWidget(button, *divmod(number, _BUTTONS_IN_A_ROW))
            self.buttons[key] = button
        self.buttons["A"].setCheckable(True)
        self._said = QLabel()
        self._said.setWordWrap(True)
        legend = QLabel("\n".join(f"{key}: {what}" for key, what in keys.items()))
        column = QVBoxLayout(self.widget)
        column.addWidget(self.table)
        column.addLayout(grid)
        column.addWidget(self._said)
        column.addWidget(legend)

    def dock(self, viewer: Any, unsaved: Callable[[], bool], save: Callable[[], None]) -> None:
        """Puts it beside the image; a window that is closed unsaved asks first."""
        viewer.window.add_dock_widget(self.widget, name="objects by doubt", area="right")
        window = viewer.window._qt_window
        self._guard = _CloseGuard(window, unsaved, save)
        window.installEventFilter(self._guard)

    def show(self, listed: Sequence[ListedObject], chosen: int | None, *, balls: bool) -> None:
        """Shows objects.

        Args:
            listed: The objects, from the top.
            chosen: The key of the one that is chosen.
            balls: Whether they are balls.
        """
        self.listed = listed
        columns = BALL_COLUMNS if balls else PAINTED_COLUMNS
        self.table.setColumnCount(len(columns))
        self.table.setHorizontalHeaderLabels(columns)
        self.table.setRowCount(len(listed))
        for number, item in enumerate(listed):
            for column, text in enumerate(item.cells):
                cell = QTableWidgetItem(text)
                if not item.there:
                    cell.setForeground(QBrush(QColor("gray")))
                elif column == 0:
                    cell.setForeground(QBrush(QColor.fromRgbF(*item.colour)))
                self.table.setItem(number, column, cell)
        self.table.resizeColumnsToContents()
        for key in ("A", "S", "G", "R"):
            self.buttons[key].setEnabled(balls)
        self.mark(chosen)

    def mark(self, key: int | None) -> None:
        """Marks the line of an object, and scrolls there."""
        keys = [item.key for item in self.listed]
        if key in keys:
            self.table.selectRow(keys.index(key))
        else:
            self.table.clearSelection()

    def show_adding(self, adding: bool) -> None:
        """Shows whether clicks add."""
        self.buttons["A"].setChecked(adding)

    def say(self, text: str) -> None:
        """Says something below the buttons."""
        self._said.setText(text)

    @property
    def said(self) -> str:
        """What it says below the buttons."""
        return str(self._said.text())

    def _on_click(self, row: int, _: int) -> None:
        self._choose(self.listed[row].key)


class _CloseGuard(QObject):
    """Asks before a window closes on what is not saved."""

    def __init__(self, window: Any, unsaved: Callable[[], bool], save: Callable[[], None]) -> None:
        super().__init__(window)
        self._window, self._unsaved, self._save = window, unsaved, save

    def eventFilter(self, watched: Any, event: Any) -> bool:  # noqa: N802
        """Qt calls it with every event of the window."""
        if event.type() != QEvent.Type.Close or not self._unsaved():
            return False
        buttons = QMessageBox.StandardButton
        answer = QMessageBox.question(
            self._window,
            "Not saved",
            "Save the correction before the window closes?",
            buttons.Save | buttons.Discard | buttons.Cancel,
        )
        if answer == buttons.Save:
            self._save()
        if answer != buttons.Cancel:
            return False
        event.ignore()
        return True


def _ignoring_state(action: Callable[[], None]) -> Callable[[bool], None]:
    """A button's function, which Qt calls with its state."""
    return lambda _: action()
