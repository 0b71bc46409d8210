"""``extract --shard``: shares that several processes put into one store at the same time."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import refused, run
from support.interrupt import find_leftovers
from support.models import save_tiny_clip
from support.videos import write_video

from r2tuning.backbones import load_backbone
from r2tuning.errors import FeatureError
from r2tuning.features.store import STORE_FILE, FeatureStore, StoreFacts
from r2tuning.processes import Shard, hold

NAMES = [f"v{number}" for number in range(9)]


@pytest.fixture(scope="module")
def clip(folder: Path) -> Path:
    return save_tiny_clip(folder / "clip")


@pytest.fixture(scope="module")
def arguments(folder: Path, clip: Path) -> list[object]:
    """What ``extract`` needs, but for the store, which comes third."""
    (folder / "videos").mkdir()
    for number, name in enumerate(NAMES):
        write_video(folder / "videos" / f"{name}.mp4", frames=20 + number, fps=10, codec="mpeg4")
    rows = [f"{name}.mp4,0,1,query {i} of {name}" for name in [*NAMES, "gone"] for i in range(2)]
    (folder / "own.csv").write_text("\n".join(["video,start,end,query", *rows]))
    return [folder / "own.csv", folder / "videos", "--backbone", clip, "--fps", 5]


def start(arguments: list[object], store: Path, shard: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "r2tuning", "extract", *arguments[:2], store, *arguments[2:], "--shard", shard]
    one = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(list(map(str, command)), env=one, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(folder: Path, arguments: list[object], one_thread: None) -> dict[str, bytes]:
    """The files of a store that one run filled."""
    result = run("extract", *arguments[:2], folder / "store", *arguments[2:])
    assert "videos: 9 extracted, 0 skipped, 1 failed; queries: 20 extracted" in result.stdout
    (folder / "store").rename(folder / "whole")
    return contents(folder / "whole")


@pytest.fixture
def store(folder: Path, whole: dict[str, bytes]) -> Iterator[Path]:
    """A place as far from the videos as that of the one run: the files say where the videos are."""
    yield folder / "store"
    shutil.rmtree(folder / "store")


def test_shards_that_run_at_once_fill_what_one_run_fills(
    store: Path, arguments: list[object], whole: dict[str, bytes]
) -> None:
    running = [start(arguments, store, f"{number}/2") for number in (1, 2)]
    told = [process.communicate(timeout=120) for process in running]
    shares = [[name for name in NAMES if Shard(number, 2).takes(f"{name}.mp4")] for number in (1, 2)]
    unlucky = next(number for number in (1, 2) if Shard(number, 2).takes("gone.mp4"))
    for number, (process, (stdout, stderr)) in enumerate(zip(running, told, strict=True), start=1):
        lost = int(number == unlucky)
        assert (process.returncode, stderr.count("failed: gone.mp4:")) == (lost, lost), stderr
        done = f"shard {number}/2: videos: {len(shares[number - 1])} extracted, 0 skipped, {lost} failed"
        assert f"{store}: {done}; queries: {20 * (number == 1)} extracted" in stdout
    assert contents(store) == whole


@pytest.mark.skipif(os.name != "posix", reason="kills with a signal")
def test_a_killed_shard_goes_on(store: Path, arguments: list[object], whole: dict[str, bytes]) -> None:
    process = start(arguments, store, "1/1")
    while process.poll() is None and not list(store.glob("videos/*.safetensors")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    complete = len(list(store.glob("videos/*.safetensors")))
    stdout, _ = start(arguments, store, "1/1").communicate(timeout=120)
    assert f"videos: {9 - complete} extracted, {complete} skipped, 1 failed" in stdout
    assert contents(store) == whole
    assert find_leftovers(store) == []


def test_writers_that_could_meet_are_refused_by_name(tmp_path: Path, arguments: list[object]) -> None:
    def refuse(*words: str, options: tuple[object, ...] = ()) -> None:
        refused(run("extract", *arguments[:2], tmp_path, *arguments[2:], *options), 1, *words)

    with holding(tmp_path, "2/3") as second, holding(tmp_path, "1/3") as first:
        refuse(f"shard 2/3 is being written by process {second.pid} on", options=("--shard", "2/3"))
        refuse(f"is being written by processes with --shard (the last to begin was process {first.pid} on")
    with holding(tmp_path, "2/3"):
        with holding(tmp_path, "1/3"):
            pass  # the first who leaves takes nobody's lock away
        refuse("is being written by processes with --shard")
        with hold(tmp_path, FeatureError, Shard(3, 3)):
            pass
    with holding(tmp_path, "") as alone:
        refuse(f"is being written by process {alone.pid} on", options=("--shard", "2/3"))
    assert list(tmp_path.iterdir()) == []


def holding(folder: Path, shard: str) -> "Holding":
    return Holding(folder, shard)


class Holding(ExitStack):
    """Another process, which holds a folder or its shard while the block runs."""

    def __init__(self, folder: Path, shard: str) -> None:
        super().__init__()
        self.arguments = [str(folder), shard]

    def __enter__(self) -> subprocess.Popen[str]:  # type: ignore[override]
        code = (
            "import sys; from pathlib import Path; from r2tuning.errors import FeatureError\n"
            "from r2tuning.processes import Shard, hold\n"
            "shard = Shard.parse(sys.argv[2]) if sys.argv[2] else None\n"
            "with hold(Path(sys.argv[1]), FeatureError, shard):\n    print('held', flush=True); input()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *self.arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.callback(process.communicate, "\n")
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process


def test_of_processes_that_begin_a_store_at_once_one_describes_it(tmp_path: Path, clip: Path) -> None:
    backbones = [load_backbone(clip, layers=layers) for layers in (2, 3)]
    for attempt in range(10):
        store, together, results = tmp_path / str(attempt), threading.Barrier(6), {}

        def begin(number: int, store: Path = store, together: threading.Barrier = together, results=results) -> None:
            together.wait()
            try:
                results[number] = FeatureStore.create(store, backbones[number % 2]).layers
            except FeatureError as error:
                results[number] = str(error)

        threads = [threading.Thread(target=begin, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        layers = StoreFacts.read(store).layers
        other = f"{store}: has features of layers {layers}, not {5 - layers}; "
        for number, result in results.items():
            assert result == layers if number % 2 == layers - 2 else str(result).startswith(other), results
        assert [path.name for path in store.iterdir() if path.is_file()] == [STORE_FILE]


@given(st.lists(st.text(), max_size=9), st.integers(1, 9))
def test_every_name_is_in_one_share(names: list[str], count: int) -> None:
    for name in names:
        assert [Shard(number, count).takes(name) for number in range(1, count + 1)].count(True) == 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/3", "1/3/5", "a/b", "", "1/٣"])
def test_other_shards_are_refused(text: str, tmp_path: Path, arguments: list[object]) -> None:
    result = run("extract", *arguments[:2], tmp_path / "s", *arguments[2:], "--shard", text)
    refused(result, 2, "--shard", "n")
    assert not (tmp_path / "s").exists()
