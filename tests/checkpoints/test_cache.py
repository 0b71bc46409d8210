from r2tuning.checkpoints.published import find_published
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
    entry = find_published("tvsum/BK")
    assert not entry.is_cached
    entry.cached_folder.mkdir(parents=True)
    (entry.cached_folder / "model.safetensors").touch()
    assert not entry.is_cached
    (entry.cached_folder / "config.json").touch()
    assert entry.is_cached
    assert not find_published("tvsum/BT").is_cached
