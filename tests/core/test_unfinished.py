import pytest

from bench.core.folders import publish, unfinished_folder
from bench.errors import BenchError


def test_what_a_block_left_is_found_again_and_published_once_whole(tmp_path):
    target = tmp_path / "new/out"
    with unfinished_folder(target, "a" * 64) as folder:
        (folder / "content").mkdir()
        (folder / "content/half").touch()
    assert not target.exists()
    with unfinished_folder(target, "a" * 64) as folder:
        assert (folder / "content/half").exists()
        (folder / "content/other").touch()
        assert publish(folder, folder / "content", target)
    assert sorted(path.name for path in target.iterdir()) == ["half", "other"]
    assert list(target.parent.iterdir()) == [target]


def test_other_settings_have_a_folder_of_their_own(tmp_path):
    target = tmp_path / "out"
    with unfinished_folder(target, "a" * 64) as folder:
        (folder / "tile").touch()
    with unfinished_folder(target, "b" * 64) as folder:
        assert [path.name for path in folder.iterdir()] == ["lock"]


def test_nothing_is_overwritten(tmp_path):
    target = tmp_path / "out"
    with unfinished_folder(target, "a" * 64) as folder:
        (folder / "content").mkdir()
        target.mkdir()
        (target / "mine").touch()
        assert not publish(folder, folder / "content", target)
        assert (folder / "content").exists()
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_one_process_at_a_time(tmp_path):
    target = tmp_path / "out"
    with (
        unfinished_folder(target, "a" * 64),
        pytest.raises(BenchError, match="only one process at a time may write"),
        unfinished_folder(target, "a" * 64),
    ):
        pass


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(BenchError, match="must be a folder that can be written"),
        unfinished_folder(tmp_path / "file/out", "a" * 64),
    ):
        pass
