import os
from pathlib import Path

import pytest

from r2tuning.errors import OutputError
from r2tuning.files import cache_folder, check_target, write_atomically

AWKWARD = ["a b.json", 'it\'s "quoted".json', "🎬 切.json", "-", "x" * 255]


@pytest.mark.parametrize("name", AWKWARD)
def test_content_arrives_and_nothing_else(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, "é\r\n切", force=False)
    assert (tmp_path / name).read_bytes() == "é\r\n切".encode()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    write_atomically(str(tmp_path / name), b"\x00\xff", force=True)
    assert (tmp_path / name).read_bytes() == b"\x00\xff"


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"out\.json exists.*--force"):
        write_atomically(path, "new", force=False)
    assert path.read_text() == "old"


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "ours", "", force=False)
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_leads_to_its_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomically(tmp_path / "link", "new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing/out.json", "no folder .*missing: create it"),
        ("file/out.json", "no folder .*file: create it"),
        (".", "is a folder"),
        ("y" * 256, "choose another name"),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_places_that_cannot_be_written_are_refused_on_one_line(
    tmp_path: Path, name: str, words: str, force: bool
) -> None:
    (tmp_path / "file").write_text("")
    for attempt in (
        lambda: check_target(tmp_path / name, force=force),
        lambda: write_atomically(tmp_path / name, "", force=force),
    ):
        with pytest.raises(OutputError, match=words) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="a device or a pipe"):
        write_atomically(tmp_path / "pipe", "new", force=True)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="not writable"):
        write_atomically(tmp_path / "out.json", "", force=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_what_the_system_refuses_leaves_old_content_and_no_rest(tmp_path: Path) -> None:
    import resource
    import signal

    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OutputError, match="File too large"):
            write_atomically(path, bytes(2000), force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.bin"]


def test_the_folder_can_be_chosen(monkeypatch, tmp_path):
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("R2TUNING_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() != tmp_path
    assert cache_folder().name == "r2tuning"
