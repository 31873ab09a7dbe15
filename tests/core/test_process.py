import gc
import importlib.metadata

from bench.core.process import importing


def test_installed_packages_are_read_once_by_all_that_is_imported_together(monkeypatch):
    installed, read = importlib.metadata.entry_points(), []

    def entry_points(**wanted):
        read.append(wanted)
        return installed

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    with importing():
        assert not gc.isenabled()
        for group in ("console_scripts", "pytest11", "nobody's"):
            found = importlib.metadata.entry_points(group=group)
            assert found == installed.select(group=group)
        assert importlib.metadata.entry_points() == installed
    assert read == [{}]
    # What is installed later is found.
    assert importlib.metadata.entry_points is entry_points
    assert gc.isenabled()
