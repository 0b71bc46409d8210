import pytest

from r2tuning.checkpoints.published import cached_checkpoint, find_published, is_cached
from r2tuning.errors import CheckpointError
from r2tuning.files import cache_folder


def test_the_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("R2TUNING_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() != tmp_path
    assert cache_folder().name == "r2tuning"


def test_cached_means_both_files(monkeypatch, tmp_path):
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path))
    folder = cached_checkpoint(find_published("tvsum/BK"))
    assert not is_cached("tvsum/BK")
    folder.mkdir(parents=True)
    (folder / "model.safetensors").touch()
    assert not is_cached("tvsum/BK")
    (folder / "config.json").touch()
    assert is_cached("TVSum/bk")
    assert not is_cached("tvsum/BT")
    with pytest.raises(CheckpointError, match="no published model"):
        is_cached("tvsum/XX")
