"""Writers that are killed or meet each other, and readers beside them."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest
from support.videos import write_video

from r2tuning import Library
from r2tuning.errors import LibraryError
from r2tuning.library.catalog import CATALOG_FILE, FORMAT_VERSION, is_network_folder, open_catalog
from r2tuning.library.records import Keep
from r2tuning.library.segments import segment_path
from r2tuning.processes import hold


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(3):
        write_video(folder / f"{number}.mp4", frames=20 + number, fps=2)
    return folder


@pytest.fixture
def library(tmp_path: Path, videos: Path) -> Library:
    library = Library(tmp_path / "library", model="demo")
    library.add(videos)
    return library


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_killed_writer_leaves_a_library_that_goes_on() -> None:
    """A sample of the points of ``python -m support.kill_library``."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "support.kill_library", "--points", "6", "--seed", "3"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 6


def test_a_second_writer_is_told_who_writes_and_readers_go_on(library: Library, videos: Path) -> None:
    before = [hit.video for hit in library.search("a dog", top=50)]
    with hold(library.folder, LibraryError):
        for write in (library.rescan, lambda: library.add(videos), lambda: library.remove([videos / "0.mp4"])):
            with pytest.raises(LibraryError, match=f"is being written by process {os.getpid()}"):
                write()
        assert [hit.video for hit in Library(library.folder).search("a dog", top=50)] == before
        assert library.check() == []


def test_readers_answer_from_one_state_while_a_writer_is_at_work(library: Library, videos: Path) -> None:
    """A file is taken out and put in again and again; the hits of a reader are all of the files of one state."""
    stop, problems, seen = threading.Event(), [], set()

    def read() -> None:
        reader = Library(library.folder)
        while not stop.is_set():
            try:
                hits = reader.search("a dog", top=50)
            except LibraryError as error:
                problems.append(str(error))
                return
            seen.add(frozenset(Path(hit.video).name for hit in hits))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(4):
            library.remove([videos / "1.mp4"])
            library.add(videos / "1.mp4")
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert problems == []
    every = frozenset(("0.mp4", "1.mp4", "2.mp4"))
    assert seen <= {every, every - {"1.mp4"}}
    assert library.check() == []


def test_rows_of_removed_videos_are_compacted_past_a_fifth(library: Library, videos: Path) -> None:
    assert library.info().dead == 0
    library.remove([videos / "0.mp4"])  # a third of the videos
    info = library.info()
    assert (info.videos, info.dead) == (2, 0)
    assert [path.name for path in (library.folder / "segments").iterdir()] == ["2.f16"]
    assert {Path(hit.video).name for hit in library.search("a dog", top=50)} == {"1.mp4", "2.mp4"}
    assert library.check() == []


def test_another_way_to_encode_is_a_new_generation_that_takes_over(library: Library, videos: Path) -> None:
    old = library.info().generation
    assert old is not None
    other = Library(library.folder, model="demo", sampling="keyframe")
    with pytest.raises(LibraryError, match=r"was made by demo \(sampling is exact, not keyframe\)"):
        other.add(videos)
    added = other.rescan()
    assert added.indexed.videos == 3
    new = other.info().generation
    assert new is not None
    assert (new.current, new.facts.sampling, other.info().building) == (True, "keyframe", None)
    # An open reader of the old one goes on with the new.
    assert len(library.search("a dog", top=50)) > 0
    assert other.check() == []
    assert sorted(path.name for path in (library.folder / "videos").iterdir()) == [
        f"{n}.safetensors" for n in (4, 5, 6)
    ]


def test_each_tier_keeps_what_it_says(videos: Path, tmp_path: Path) -> None:
    for keep, files, refined in (("vectors", 0, False), ("answers", 3, True), ("raw", 6, True)):
        library = Library(tmp_path / keep, model="demo", keep=keep)  # type: ignore[arg-type]
        library.add(videos)
        assert len(list((library.folder / "videos").iterdir())) == files
        hits = library.search("a dog", top=50)
        assert {hit.refined for hit in hits} == {refined}
        assert {Path(hit.video).name for hit in hits} == {"0.mp4", "1.mp4", "2.mp4"}
        assert all(0 <= hit.moment.start < hit.moment.end <= 12 for hit in hits)
        assert library.check() == []


def read_files(library: Library) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (library.folder / "videos").iterdir()}


def test_keeping_less_encodes_nothing_and_keeping_more_does(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "library"
    reference = {keep: Library(tmp_path / keep, model="demo", keep=keep) for keep in get_args(Keep)}
    for each in reference.values():
        each.add(videos)
    Library(folder, model="demo", keep="raw").add(videos)
    reader = Library(folder)
    assert reader.search("a dog", top=50).hits == reference["raw"].search("a dog", top=50).hits
    # Less, more, much less, more: videos are encoded again, under new numbers, only where more is to be kept.
    numbers = [1, 2, 3]
    for keep, encoded in (("answers", 0), ("raw", 3), ("vectors", 0), ("answers", 3), ("vectors", 0)):
        before = read_files(reader)
        assert Library(folder, keep=keep).rescan().indexed.videos == encoded
        numbers = [number + encoded for number in numbers]
        info = reader.info()
        assert info.generation is not None
        assert (info.generation.facts.keep, info.building, info.dead) == (keep, None, 0)
        assert [one.video.id for one in reader.list() if one.video] == numbers
        kept = {"vectors": [], "answers": [""], "raw": ["", ".raw"]}[keep]
        after = read_files(reader)
        assert sorted(after) == sorted(f"{number}{kind}.safetensors" for number in numbers for kind in kept)
        if not encoded:
            assert after == {name: before[name] for name in after}
        hits, expected = (each.search("a dog", top=50) for each in (reader, reference[keep]))
        assert [(h.video, h.moment, h.refined) for h in hits] == [(h.video, h.moment, h.refined) for h in expected]
        assert reader.check() == []
    # What a new video keeps is what the library keeps by then.
    write_video(videos / "3.mp4", frames=24, fps=2)
    Library(folder).rescan()
    assert read_files(reader) == {}
    assert reader.check() == []


def test_what_a_killed_rescan_had_no_time_to_remove_goes_later(library: Library) -> None:
    with open_catalog(library.folder) as catalog:
        (generation,) = catalog.list_generations()
        catalog.choose_generation(generation.facts.model_copy(update={"keep": "vectors"}))
    assert len(read_files(library)) == 3
    assert library.check() == []
    assert {hit.refined for hit in library.search("a dog")} == {False}
    assert library.rescan().indexed.videos == 0
    assert read_files(library) == {}


def test_several_jobs_make_the_same_library(library: Library, videos: Path, tmp_path: Path) -> None:
    other = Library(tmp_path / "other", model="demo")
    (videos / "bad.mp4").write_text("no video")
    added = other.add(videos, jobs=2)
    assert [Path(failure.path).name for failure in added.failures] == ["bad.mp4"]
    one, two = ({h.video: h.score for h in each.search("a dog", top=3)} for each in (library, other))
    assert one.keys() == two.keys()
    assert list(one.values()) == pytest.approx(list(two.values()), abs=1e-3)
    assert other.check() == []


@pytest.mark.parametrize("damage", ["segment", "short segment", "v̂", "cut v̂"])
def test_damage_is_found_and_mended(damage: str, library: Library) -> None:
    path = segment_path(library.folder, 1) if "segment" in damage else library.folder / "videos" / "2.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage == "short segment":
        path.write_bytes(content[:-2])
    elif damage == "cut v̂":
        path.write_bytes(content[: len(content) // 2])
    problems = library.check()
    assert problems
    assert all(len(problem.splitlines()) == 1 for problem in problems)
    assert list(library.check(repair_it=True)) == list(problems)
    assert library.check() == []
    assert library.rescan().indexed.videos >= 1
    assert library.check() == []
    assert {one.state for one in library.list()} == {"ready"}
    assert {Path(hit.video).name for hit in library.search("a dog", top=50)} == {"0.mp4", "1.mp4", "2.mp4"}


def test_catalogs_of_others_and_of_the_future_are_refused(library: Library, tmp_path: Path) -> None:
    catalog = library.folder / CATALOG_FILE
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT_VERSION + 1}")
    with pytest.raises(LibraryError, match=r"was made by a newer r2tuning \(format 2.*upgrade r2tuning"):
        library.search("a dog")
    other = tmp_path / "other"
    other.mkdir()
    with closing(sqlite3.connect(other / CATALOG_FILE)) as connection:
        connection.execute("CREATE TABLE mine (a)")
        connection.commit()
    with pytest.raises(LibraryError, match="is a database of another program"):
        Library(other, model="demo").search("a dog")
    (other / CATALOG_FILE).write_text("not a database at all " * 100)
    with pytest.raises(LibraryError, match="file is not a database"):
        Library(other, model="demo").search("a dog")


def test_a_library_can_be_asked_where_it_cannot_be_written(library: Library, tmp_path: Path) -> None:
    with open_catalog(library.folder) as catalog:
        catalog._all("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = tmp_path / "copy"
    shutil.copytree(library.folder, copy)
    copy.chmod(0o555)
    try:
        assert len(Library(copy).search("a dog")) > 0
    finally:
        copy.chmod(0o755)


def test_other_machines_folders_are_told_by_their_mounts(tmp_path: Path) -> None:
    mounts = "/dev/sda1 / ext4 rw 0 0\nnas:/v /mnt/my\\040videos nfs4 rw 0 0\n//pc/c /mnt/c cifs rw 0 0\n"
    assert [is_network_folder(Path(p), mounts) for p in ("/a/b", "/mnt", "/mnt/my videos/x", "/mnt/c")] == [
        False, False, True, True,
    ]  # fmt: skip
    assert not is_network_folder(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of processes are POSIX")
def test_a_full_disk_is_one_line_and_loses_nothing(library: Library, videos: Path) -> None:
    """A process that may write no file beyond some size stands for a disk that is full."""
    for number in range(3, 6):
        write_video(videos / f"{number}.mp4", frames=30 + number, fps=2)
    code = (
        "import resource, signal, sys; from r2tuning import Library, R2TuningError\n"
        "library = Library(sys.argv[1])\n"
        "library.search('a dog')  # loads the model\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)\n"
        "try:\n    library.add(sys.argv[2])\n"
        "except R2TuningError as error:\n    print(error)\n"
    )
    for limit in (1000, 60_000):
        command = [sys.executable, "-c", code, str(library.folder), str(videos), str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert (done.returncode, done.stderr) == (0, "")
        assert "free space" in done.stdout or "library check" in done.stdout
        assert len(done.stdout.splitlines()) == 1
        assert library.check() == []
        assert {Path(hit.video).name for hit in library.search("a dog", top=50)} >= {"0.mp4", "1.mp4", "2.mp4"}
    library.add(videos)
    assert [one.state for one in library.list()] == ["ready"] * 6
    assert library.check() == []


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE videos SET duration = 'long'", "UPDATE videos SET frames = 1e15", "UPDATE videos SET sampling = 7",
        "UPDATE ranges SET frames = x'00'", "UPDATE ranges SET frames = 5", "UPDATE segments SET rows = 'many'",
        "UPDATE ranges SET first = first - 1000", "UPDATE generations SET facts = '{}'",
        "UPDATE files SET size = 'big'", "UPDATE segments SET width = 1000000000", "DROP TABLE ranges",
    ],
)  # fmt: skip
def test_any_value_in_a_catalog_is_one_line(damage: str, library: Library) -> None:
    with closing(sqlite3.connect(library.folder / CATALOG_FILE)) as connection, connection:
        connection.execute(damage)
    with pytest.raises(LibraryError) as caught:
        Library(library.folder).search("a dog")
    assert str(library.folder)[:20] in str(caught.value)
