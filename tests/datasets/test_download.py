"""Downloads of a benchmark from a hub on this machine, and everything that may stop them."""

import re
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from support.hub import (
    FOLDER,
    QUERY_ARCHIVE,
    VIDEO_ARCHIVE,
    VIDEOS,
    Hub,
    charades_files,
    cut,
    features,
    make_archive,
    member,
    serve_hub,
    to_npy,
    use_hub,
)

from r2tuning.datasets import download, find_benchmark, load_annotations
from r2tuning.datasets.download import UNPACKED_RATIO, dataset_folder, download_benchmark
from r2tuning.errors import DataError, DownloadError, OutputError, R2TuningWarning
from r2tuning.hub import fetch_file, list_files

CHARADES = find_benchmark("charades-sta")
PARTS = [f"{VIDEO_ARCHIVE}.a{letter}" for letter in "abc"]
ALL = ["charades_train.jsonl", "charades_test.jsonl", *PARTS, QUERY_ARCHIVE]


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    with serve_hub(charades_files()) as hub:
        use_hub(monkeypatch, hub.url)
        monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)  # what is kept of a cut download is whole chunks
        yield hub


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "data" / "charades"


def fetched(hub: Hub) -> list[str]:
    """Names of the files asked for, in order."""
    return [Path(request.path).name for request in hub.requests if "/resolve/" in request.path]


def check_features(folder: Path) -> None:
    assert sorted(p.stem for p in (folder / "clip_b32_vid_k4").iterdir()) == sorted(VIDEOS)
    assert sorted(p.stem for p in (folder / "clip_b32_txt_k4").iterdir()) == ["0", "1", "2"]
    for file in folder.glob("clip_b32_*_k4/*.npy"):
        assert np.array_equal(np.load(file), features(file.stem))


def content(folder: Path) -> list[str]:
    """Names in the folder but the lock's."""
    return sorted(p.name for p in folder.iterdir() if p.name != ".download.lock")


COMPLETE = ["charades_test.jsonl", "charades_train.jsonl", "clip_b32_txt_k4", "clip_b32_vid_k4", "download.json"]


def test_everything_is_fetched_once_and_ready_to_use(hub, folder):
    announced = []
    assert download_benchmark(CHARADES, folder, announce=announced.append) == folder
    assert content(folder) == COMPLETE
    check_features(folder)
    assert len(load_annotations(CHARADES.find_file(folder, "test"), CHARADES)) == len(VIDEOS)
    assert fetched(hub) == [file.name for file in announced[0]] == ALL
    assert [file.size for file in announced[0]] == [len(hub.files[FOLDER + name]) for name in ALL]
    hub.requests.clear()
    assert download_benchmark(CHARADES, folder, announce=announced.append) == folder
    assert hub.requests == []
    assert announced[1] == []


def test_annotations_alone_and_the_rest_later(hub, folder):
    download_benchmark(CHARADES, folder, annotations_only=True)
    assert content(folder) == ["charades_test.jsonl", "charades_train.jsonl", "download.json"]
    assert fetched(hub) == ALL[:2]
    hub.requests.clear()
    download_benchmark(CHARADES, folder)
    assert fetched(hub) == ALL[2:]
    check_features(folder)


def test_the_default_folder_is_in_the_cache(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "ours"))
    assert dataset_folder(CHARADES) == tmp_path / "ours" / "datasets" / "charades-sta"
    assert download_benchmark(CHARADES, annotations_only=True) == dataset_folder(CHARADES)
    assert CHARADES.find_file(dataset_folder(CHARADES), "train").is_file()


def test_a_cut_connection_is_resumed(hub, folder):
    hub.cut_after = 100  # less than a chunk: it starts over
    download_benchmark(CHARADES, folder, annotations_only=True)
    assert (fetched(hub)[:2], hub.ranges) == ([ALL[0], ALL[0]], [])
    hub.cut_after = 2500
    download_benchmark(CHARADES, folder)
    assert hub.ranges == ["bytes=2000-"]
    check_features(folder)


def test_the_next_run_goes_on_where_one_was_stopped(hub, folder):
    download_benchmark(CHARADES, folder, annotations_only=True)
    hub.requests.clear()
    hub.cut_after, hub.status_after_cut = 2500, 503
    with pytest.raises(DownloadError) as caught:
        download_benchmark(CHARADES, folder)
    assert str(caught.value) == (
        f"{PARTS[0]}: cannot be downloaded: {hub.url} answered 503; connect and run it again to resume"
    )
    assert [p.stat().st_size for p in (folder / "archives").iterdir()] == [2000]
    hub.status = None
    hub.requests.clear()
    download_benchmark(CHARADES, folder)
    assert hub.ranges == ["bytes=2000-"]
    assert fetched(hub) == ALL[2:]
    assert content(folder) == COMPLETE
    check_features(folder)


def test_a_new_version_is_not_glued_to_the_beginning_of_the_old(hub, folder):
    hub.cut_after, hub.status_after_cut = 2500, 503
    with pytest.raises(DownloadError):
        download_benchmark(CHARADES, folder)
    hub.status = None
    hub.files |= cut(VIDEO_ARCHIVE, make_archive({f"{vid}.npy": to_npy(features(vid)) for vid in VIDEOS}), 3)
    download_benchmark(CHARADES, folder)
    assert hub.ranges == []
    assert content(folder) == COMPLETE
    check_features(folder)


@pytest.mark.parametrize("name", [PARTS[1], "charades_test.jsonl"], ids=["SHA-256", "Git's id"])
def test_wrong_content_is_removed_and_named(name, hub, folder):
    right = hub.files[FOLDER + name]
    hub.damaged[FOLDER + name] = right[:-1] + b"x"
    with pytest.raises(DownloadError, match=rf"^{name}: .* has hash \w{{8}}…, the hub states \w{{8}}…; it was removed"):
        download_benchmark(CHARADES, folder)
    assert not list(folder.rglob(f"{name}*"))
    hub.damaged.clear()
    hub.requests.clear()
    download_benchmark(CHARADES, folder)
    assert fetched(hub) == ALL[ALL.index(name) :]
    check_features(folder)


def test_archives_are_kept_on_request_and_used_again(hub, folder):
    download_benchmark(CHARADES, folder, keep_archives=True)
    assert content(folder / "archives") == sorted([QUERY_ARCHIVE, *PARTS])
    hub.requests.clear()
    (folder / "archives" / PARTS[2]).write_bytes(b"damaged since")
    for file in (folder / "clip_b32_vid_k4").iterdir():
        file.unlink()
    (folder / "clip_b32_vid_k4").rmdir()
    download_benchmark(CHARADES, folder, keep_archives=True)
    assert fetched(hub) == [PARTS[2]]
    check_features(folder)


class Killed(BaseException):
    """What no handler of errors catches, as when a process is stopped."""


def test_a_stop_while_unpacking_leaves_nothing_that_looks_whole(hub, folder):
    @contextmanager
    def stop(step: str):
        def report(done: int, total: int) -> None:
            if step.startswith("Unpacking") and (unpacked := list(folder.glob(".r2tuning-*/*"))):
                assert len(unpacked) < len(VIDEOS)
                raise Killed

        yield report

    with pytest.raises(Killed):
        download_benchmark(CHARADES, folder, progress=stop)
    assert content(folder) == ["archives", "charades_test.jsonl", "charades_train.jsonl", "download.json"]
    assert content(folder / "archives") == PARTS
    unpacking = folder / ".r2tuning-0.part"
    unpacking.mkdir()  # as if killed at once, without time to tidy up
    (unpacking / "half.npy").write_bytes(b"half")
    hub.requests.clear()
    download_benchmark(CHARADES, folder)
    assert fetched(hub) == [QUERY_ARCHIVE]
    assert content(folder) == COMPLETE
    check_features(folder)


def test_two_at_once_share_the_work(hub, folder):
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(download_benchmark, CHARADES, folder) for _ in range(2)]
        assert [run.result() for run in runs] == [folder, folder]
    assert sorted(fetched(hub)) == sorted(ALL)
    check_features(folder)


@pytest.fixture
def disk(monkeypatch):
    """Sets the bytes that are free."""
    return lambda free: monkeypatch.setattr(download, "free_space", lambda place: free)


def test_too_little_disk_is_said_before_anything_is_written(hub, folder, disk):
    size = {name: len(hub.files[FOLDER + name]) for name in ALL}
    videos, queries = sum(size[part] for part in PARTS), size[QUERY_ARCHIVE]
    annotations = size["charades_train.jsonl"] + size["charades_test.jsonl"]
    unpacked = round(UNPACKED_RATIO * videos)
    # The videos are unpacked first, and their archive is gone when the queries come.
    peak = annotations + max(videos + unpacked, unpacked + queries + round(UNPACKED_RATIO * queries))
    disk(peak - 1)
    with pytest.raises(OutputError) as caught:
        download_benchmark(CHARADES, folder)
    assert re.fullmatch(
        rf"{folder}: charades-sta needs about \S+ GB of disk, \S+ GB are free; "
        "free the rest or choose a folder on another disk",
        str(caught.value),
    )
    assert not folder.parent.exists()
    assert fetched(hub) == []
    disk(peak)
    with pytest.raises(OutputError, match="needs about"):
        download_benchmark(CHARADES, folder, keep_archives=True)
    download_benchmark(CHARADES, folder)
    check_features(folder)


def test_what_is_there_already_needs_no_more_disk(hub, folder, disk):
    for file in list_files("yeliudev/R2-Tuning"):
        if file.name in PARTS:
            fetch_file(file, folder / "archives")
    size = {name: len(hub.files[FOLDER + name]) for name in ALL}
    videos, queries = sum(size[part] for part in PARTS), size[QUERY_ARCHIVE]
    annotations = size["charades_train.jsonl"] + size["charades_test.jsonl"]
    unpacked = round(UNPACKED_RATIO * videos)
    peak = annotations + max(unpacked, unpacked - videos + queries + round(UNPACKED_RATIO * queries))
    disk(peak - 1)
    with pytest.raises(OutputError, match="needs about"):
        download_benchmark(CHARADES, folder)
    disk(peak)
    download_benchmark(CHARADES, folder)
    check_features(folder)


UNSAFE = {
    "a path upwards": ([member("clip_b32_vid_k4/../../evil.npy")], "outside the destination"),
    "a link out": ([member("evil.npy", tarfile.SYMTYPE, "/etc/passwd")], "absolute path"),
    "a link upwards": ([member("a/evil.npy", tarfile.SYMTYPE, "../../../evil")], "outside the destination"),
    "a link inside": ([member("evil.npy", tarfile.SYMTYPE, f"{VIDEOS[0]}.npy")], "'evil.npy' is a link"),
    "a hard link": ([member("evil.npy", tarfile.LNKTYPE, f"clip_b32_vid_k4/{VIDEOS[0]}.npy")], "is a link"),
    "a pipe": ([member("evil.npy", tarfile.FIFOTYPE)], "special file"),
    "a device": ([member("evil.npy", tarfile.CHRTYPE)], "special file"),
    "a name twice": ([member(f"other/{VIDEOS[0]}.npy")], f"has {VIDEOS[0]}.npy twice"),
}


@pytest.mark.parametrize(("members", "reason"), UNSAFE.values(), ids=UNSAFE)
def test_an_unsafe_archive_is_refused_and_leaves_nothing(members, reason, hub, folder, tmp_path):
    archive = make_archive({f"clip_b32_vid_k4/{vid}.npy": to_npy(features(vid)) for vid in VIDEOS}, members)
    hub.files |= cut(VIDEO_ARCHIVE, archive, 3)
    with pytest.raises(DataError, match=f"^{re.escape(PARTS[0])} and 2 more parts: refused, since .*{reason}"):
        download_benchmark(CHARADES, folder)
    assert content(folder) == ["archives", "charades_test.jsonl", "charades_train.jsonl", "download.json"]
    assert content(folder / "archives") == []
    assert not list(tmp_path.rglob("evil*"))


def test_a_damaged_archive_is_refused(hub, folder):
    name = FOLDER + PARTS[2]
    for damaged in (None, b"\0" * len(hub.files[name])):  # the last part is missing; the checksum is wrong
        hub.files.pop(name) if damaged is None else hub.files.update({name: damaged})
        with pytest.raises(DataError, match=r"not a whole \.tar\.gz archive \(.+\); download it again$"):
            download_benchmark(CHARADES, folder)
        assert content(folder / "archives") == []
        assert not (folder / "clip_b32_vid_k4").exists()


def test_folders_in_the_archive_do_not_matter(hub, folder):
    files = {f"./data/k4/{vid}.npy": to_npy(features(vid)) for vid in VIDEOS} | {"./data/k4/._3MSZA.npy": b"of a Mac"}
    hub.files |= cut(VIDEO_ARCHIVE, make_archive(files | {"README.txt": b"hello"}), 2)
    del hub.files[FOLDER + PARTS[2]]
    with pytest.warns(R2TuningWarning, match=r"2 files that are not \.npy, \.json, \.jsonl were left out"):
        download_benchmark(CHARADES, folder)
    check_features(folder)


def test_an_archive_without_features_is_refused(hub, folder):
    hub.files[FOLDER + QUERY_ARCHIVE] = make_archive({"clip_b32_txt_k4/a.json": b"{}"})
    with pytest.raises(DataError, match=rf"^{re.escape(QUERY_ARCHIVE)}: has no \.npy files"):
        download_benchmark(CHARADES, folder)
    assert not (folder / "clip_b32_txt_k4").exists()


@pytest.mark.parametrize("name", ["charades_test.jsonl", PARTS[0], PARTS[1], QUERY_ARCHIVE])
def test_a_file_that_the_hub_lacks_is_named(name, hub, folder):
    del hub.files[FOLDER + name]
    with pytest.raises(DownloadError) as caught:
        download_benchmark(CHARADES, folder)
    assert str(caught.value) == (
        f"charades-sta: datasets/charades/{name} is not in yeliudev/R2-Tuning on the hub; "
        "fetch it by other means, or upgrade r2tuning"
    )
    assert fetched(hub) == []
    assert not folder.exists()


def test_without_a_hub_the_error_says_why(hub, folder, monkeypatch):
    hub.status = 503
    with pytest.raises(DownloadError, match=f"cannot be listed: {hub.url} answered 503; connect and try again$"):
        download_benchmark(CHARADES, folder)
    use_hub(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"cannot be listed: .*Connection refused"):
        download_benchmark(CHARADES, folder)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadError, match=r"offline mode is on \(HF_HUB_OFFLINE\)"):
        download_benchmark(CHARADES, folder)
    assert not folder.exists()


def test_files_of_others_are_not_touched(hub, folder):
    (folder / "clip_b32_vid_k4").mkdir(parents=True)
    (folder / "clip_b32_vid_k4" / "mine.npy").write_bytes(b"mine")
    with pytest.raises(OutputError, match="clip_b32_vid_k4: exists but was not downloaded; move it away or choose"):
        download_benchmark(CHARADES, folder)
    assert hub.requests == []
    assert (folder / "clip_b32_vid_k4" / "mine.npy").read_bytes() == b"mine"
    download_benchmark(CHARADES, folder, annotations_only=True)


def test_a_damaged_record_or_a_file_in_the_way_is_an_error(hub, tmp_path):
    (tmp_path / "download.json").write_text("{}nonsense")
    with pytest.raises(DataError, match=r"download\.json: not JSON: .*; it is no record of a download; move"):
        download_benchmark(CHARADES, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file: cannot be written \(File exists\)"):
        download_benchmark(CHARADES, tmp_path / "file")
