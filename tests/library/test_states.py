"""Files that are new, changed, moved, renamed, copied, replaced, deleted or unreadable get the right state."""

import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from support.videos import write_video

from r2tuning import Library
from r2tuning.errors import LibraryError, VideoError
from r2tuning.library.catalog import CATALOG_FILE
from r2tuning.library.indexing import VIDEO_FOLDER
from r2tuning.library.scanning import scan_roots


def states(library: Library) -> dict[str, str]:
    return {Path(one.file.path).name: one.state for one in library.list()}


def numbers(library: Library) -> dict[str, int | None]:
    return {Path(one.file.path).name: one.video.id if one.video else None for one in library.list()}


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    (folder / "inner").mkdir(parents=True)
    write_video(folder / "a.mp4", frames=20, fps=2)
    write_video(folder / "inner" / "b.mp4", frames=24, fps=2)
    (folder / "notes.txt").write_text("no video")
    (folder / ".hidden.mp4").write_text("no video")
    return folder


@pytest.fixture
def library(tmp_path: Path, videos: Path) -> Library:
    library = Library(tmp_path / "library", model="demo")
    added = library.add(videos)
    assert (added.scan.counts, added.indexed.videos, added.failures) == ({"new": 2}, 2, ())
    assert numbers(library) == {"a.mp4": 1, "b.mp4": 2}
    return library


def test_what_has_not_changed_is_not_read(library: Library, videos: Path, tmp_path: Path) -> None:
    for added in (library.add(videos), library.add([videos / "a.mp4", videos]), library.rescan()):
        assert (added.scan.counts, added.scan.files, added.indexed.videos) == ({"unchanged": 2}, [], 0)
    os.utime(videos / "a.mp4", (1, 1))  # touched, with the same content
    assert library.rescan().scan.counts == {"unchanged": 2}
    assert numbers(library) == {"a.mp4": 1, "b.mp4": 2}
    assert library.check() == []


def test_moved_renamed_and_copied_files_keep_their_video(library: Library, videos: Path) -> None:
    (videos / "a.mp4").rename(videos / "new name.mp4")
    (videos / "inner" / "b.mp4").rename(videos / "b.mp4")
    shutil.copy(videos / "b.mp4", videos / "inner" / "c.mp4")
    (videos / "inner" / "link.mp4").symlink_to(videos / "b.mp4")
    added = library.rescan()
    assert added.indexed.videos == 0
    assert {Path(path).name: change for path, change in added.scan.changes.items()} == {
        "new name.mp4": "renamed", "b.mp4": "moved", "c.mp4": "copy", "link.mp4": "copy",
    }  # fmt: skip
    assert numbers(library) == {"new name.mp4": 1, "b.mp4": 2, "c.mp4": 2, "link.mp4": 2}
    hits = library.search("a dog", top=50)
    assert sorted({Path(hit.video).name for hit in hits}) == ["b.mp4", "new name.mp4"]
    assert {len(hit.copies) for hit in hits} == {0, 2}
    assert library.info().videos == 2
    assert library.check() == []


def test_a_replaced_file_is_encoded_again_and_its_old_video_goes(library: Library, videos: Path) -> None:
    write_video(videos / "a.mp4", frames=30, fps=2)
    added = library.rescan()
    assert added.scan.counts == {"replaced": 1, "unchanged": 1}
    assert added.indexed.videos == 1
    assert numbers(library) == {"a.mp4": 3, "b.mp4": 2}
    assert sorted(path.name for path in (library.folder / VIDEO_FOLDER).iterdir()) == ["2.safetensors", "3.safetensors"]
    assert library.check() == []


def test_swapped_files_swap_their_videos(library: Library, videos: Path) -> None:
    a, b, aside = videos / "a.mp4", videos / "inner" / "b.mp4", videos / "aside"
    a.rename(aside)
    b.rename(a)
    aside.rename(b)
    added = library.rescan()
    assert (added.scan.counts, added.indexed.videos) == ({"replaced": 2}, 0)
    assert numbers(library) == {"a.mp4": 2, "b.mp4": 1}


def test_a_deleted_file_is_not_found_until_it_is_back(library: Library, videos: Path, tmp_path: Path) -> None:
    (videos / "a.mp4").rename(tmp_path / "aside.mp4")
    assert library.rescan().scan.counts == {"missing": 1, "unchanged": 1}
    assert states(library) == {"a.mp4": "missing", "b.mp4": "ready"}
    assert {Path(hit.video).name for hit in library.search("a dog", top=50)} == {"b.mp4"}
    (tmp_path / "aside.mp4").rename(videos / "a.mp4")
    assert library.rescan().indexed.videos == 0
    assert states(library) == {"a.mp4": "ready", "b.mp4": "ready"}
    (videos / "a.mp4").unlink()
    library.rescan()
    assert library.remove(missing=True) == [str(videos / "a.mp4")]
    assert states(library) == {"b.mp4": "ready"}
    assert library.info().videos == 1


def test_a_file_that_is_gone_turns_up_elsewhere(library: Library, videos: Path, tmp_path: Path) -> None:
    """First noticed as missing, then found in another folder that is added: it moved."""
    (tmp_path / "other").mkdir()
    (videos / "a.mp4").rename(tmp_path / "other" / "a.mp4")
    library.rescan()
    added = library.add(tmp_path / "other")
    assert (added.scan.counts, added.indexed.videos) == ({"moved": 1}, 0)
    assert numbers(library) == {"a.mp4": 1, "b.mp4": 2}


def test_unreadable_files_are_listed_and_tried_again_only_when_they_change(library: Library, videos: Path) -> None:
    (videos / "bad.mp4").write_text("not a video at all\n" * 50)
    (videos / "loop.mp4").symlink_to(videos / "loop.mp4")
    (videos / "nowhere.mp4").symlink_to(videos / "no such file")
    (videos / "again").symlink_to(videos, target_is_directory=True)
    os.mkfifo(videos / "pipe.mp4")
    added = library.add(videos)
    reasons = {Path(failure.path).name: failure.reason for failure in added.failures}
    assert sorted(reasons) == ["bad.mp4", "loop.mp4", "nowhere.mp4", "pipe.mp4"]
    assert "Too many levels of symbolic links" in reasons["loop.mp4"]
    assert "is no regular file" in reasons["pipe.mp4"]
    assert states(library)["bad.mp4"] == "failed"
    assert states(library)["a.mp4"] == "ready"
    calls: list[int] = []
    again = library.add(videos, announce=lambda _, tasks: calls.append(tasks))
    assert {Path(failure.path).name for failure in again.failures} == reasons.keys()
    library.add(videos, announce=lambda _, tasks: calls.append(tasks), retry=True)
    write_video(videos / "bad.mp4", frames=10, fps=2)
    library.add(videos, announce=lambda _, tasks: calls.append(tasks))
    assert calls == [0, 1, 1]
    assert states(library)["bad.mp4"] == "ready"
    assert library.check() == []


def test_removing_takes_out_files_folders_and_their_videos(library: Library, videos: Path) -> None:
    with pytest.raises(LibraryError, match="is not in the library"):
        library.remove([videos / "no.mp4"])
    shutil.copy(videos / "a.mp4", videos / "copy.mp4")
    library.rescan()
    library.remove([videos / "a.mp4"])
    assert numbers(library) == {"b.mp4": 2, "copy.mp4": 1}
    library.remove([videos])
    assert library.list() == []
    assert list((library.folder / VIDEO_FOLDER).iterdir()) == []
    with pytest.raises(LibraryError, match="has no folders yet"):
        library.rescan()
    # A number is never used again.
    library.add(videos / "a.mp4")
    assert numbers(library) == {"a.mp4": 3}


def test_what_was_removed_stays_out_until_it_is_added_by_name(library: Library, videos: Path) -> None:
    library.remove([videos / "a.mp4"])
    for look in (library.rescan, lambda: library.add(videos), lambda: library.add(videos / "inner")):
        look()
        assert states(library) == {"b.mp4": "ready"}
    write_video(videos / "a.mp4", frames=26, fps=2)  # it may change
    assert library.rescan().scan.counts == {"unchanged": 1}
    library.add(videos / "a.mp4")
    library.rescan()
    assert states(library) == {"a.mp4": "ready", "b.mp4": "ready"}
    # A folder stays out with what comes into it, but not what is added in it.
    library.remove([videos / "inner"])
    write_video(videos / "inner" / "c.mp4", frames=28, fps=2)
    write_video(videos / "inner" / "d.mp4", frames=30, fps=2)
    library.add([videos / "inner" / "c.mp4", videos])
    assert states(library) == {"a.mp4": "ready", "c.mp4": "ready"}
    library.add(videos / "inner")
    assert states(library) == dict.fromkeys(["a.mp4", "b.mp4", "c.mp4", "d.mp4"], "ready")
    # What is gone and taken out as such comes back.
    (videos / "a.mp4").rename(videos.parent / "a.mp4")
    library.rescan()
    library.remove(missing=True)
    (videos.parent / "a.mp4").rename(videos / "a.mp4")
    library.rescan()
    assert set(states(library)) == {"a.mp4", "b.mp4", "c.mp4", "d.mp4"}
    # With the whole folder, all that was noted of it is forgotten.
    library.remove([videos / "a.mp4"])
    library.remove([videos, videos / "inner"])
    library.add(videos)
    assert set(states(library)) == {"a.mp4", "b.mp4", "c.mp4", "d.mp4"}
    assert library.check() == []


def test_a_library_made_before_removals_were_noted_is_read_and_written(library: Library, videos: Path) -> None:
    with sqlite3.connect(library.folder / CATALOG_FILE) as connection:
        connection.execute("DROP TABLE removed")
    connection.close()
    again = Library(library.folder)
    assert states(again) == {"a.mp4": "ready", "b.mp4": "ready"}
    again.remove([videos / "a.mp4"])
    again.rescan()
    assert states(again) == {"b.mp4": "ready"}


def test_what_cannot_be_added_is_one_line(tmp_path: Path, videos: Path) -> None:
    library = Library(tmp_path / "new", model="demo")
    with pytest.raises(VideoError, match="no such file or folder"):
        library.add(videos / "no")
    with pytest.raises(LibraryError, match="has no library; make one with"):
        library.search("a dog")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(LibraryError, match="has other files"):
        Library(tmp_path / "full", model="demo").add(videos)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter.txt"]


def test_ten_thousand_tiny_files_are_scanned_once(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number}.mp4").write_text(str(number))
    first = scan_roots([str(tmp_path)], [])
    assert first.counts == {"new": 10_000}
    assert scan_roots([str(tmp_path)], first.files).counts == {"unchanged": 10_000}
    (tmp_path / "17.mp4").rename(tmp_path / "x.mp4")
    assert scan_roots([str(tmp_path)], first.files).counts == {"unchanged": 9_999, "renamed": 1}
