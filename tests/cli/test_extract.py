"""``r2tuning extract`` as a user runs it: what it makes, keeps, reports and leaves behind when it is stopped."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from support.cli import run
from support.models import save_tiny_clip
from support.videos import write_video

from r2tuning.backbones import load_backbone
from r2tuning.features import EncodedVideo, encode_video
from r2tuning.features.store import FeatureStore


@pytest.fixture(scope="module")
def clip(folder: Path) -> Path:
    return save_tiny_clip(folder / "clip")


@pytest.fixture(scope="module")
def videos(folder: Path) -> Path:
    (folder / "videos" / "more").mkdir(parents=True)
    for name, frames in (("trip.mp4", 40), ("more/s1.avi", 60), ("s1-cam-002.mkv", 80)):
        write_video(folder / "videos" / name, frames=frames, fps=10, codec="mpeg4")
    return folder / "videos"


def write_moments(path: Path, *vids: str) -> Path:
    lines = [
        {"qid": f"{vid}_{i}", "vid": vid, "query": f"a dog {i}", "duration": 9, "relevant_windows": [[1, 3]]}
        for vid in vids
        for i in range(2)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


extract = partial(run, "extract")


def test_a_benchmark_in_the_authors_layout(tmp_path: Path, clip: Path, videos: Path) -> None:
    annotations = write_moments(tmp_path / "a.jsonl", "trip", "s1")
    options = ["--benchmark", "charades-sta", "--backbone", clip, "--layers", 3, "--layout", "npy"]
    result = extract(annotations, videos, tmp_path / "s", *options)
    assert (result.exit_code, result.stderr) == (0, "")
    counts = "videos: 2 extracted, 0 skipped, 0 failed; queries: 4 extracted, 0 skipped"
    assert result.stdout == f"{tmp_path / 's'}: {counts}\n"
    assert sorted(path.name for path in (tmp_path / "s" / "clip_vid_k3").iterdir()) == ["s1.npy", "trip.npy"]
    assert sorted(path.name for path in (tmp_path / "s" / "clip_txt_k3").iterdir())[:2] == ["s1_0.npy", "s1_1.npy"]
    store = FeatureStore.open(tmp_path / "s")
    direct = encode_video(videos / "trip.mp4", load_backbone(clip, layers=3), 1)  # Charades-STA: 1 fps
    assert torch.equal(store.video("trip"), direct.read(0, 4).transpose(0, 1))
    again = extract(annotations, videos, tmp_path / "s", *options)
    assert "videos: 0 extracted, 2 skipped, 0 failed; queries: 0 extracted, 4 skipped" in again.stdout
    refused = extract(annotations, videos, tmp_path / "s", *options[:-2])
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "layout npy, not safetensors" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_names_and_rates_are_the_benchmarks(tmp_path: Path, clip: Path, videos: Path) -> None:
    tacos = write_moments(tmp_path / "tacos.jsonl", "s1")
    result = extract(tacos, videos, tmp_path / "t", "--benchmark", "tacos", "--backbone", clip)
    assert result.exit_code == 0, result.output
    store = FeatureStore.open(tmp_path / "t")
    assert (store.frames("s1-cam-002"), store.has_query("s1_1")) == (4, True)  # 8 s at 0.5 fps

    line = {"qid": "trip", "vid": "trip", "query": "dog", "duration": 4, "domain": "dog", "match": [1, 0, -1, 0, 1]}
    (tmp_path / "y.jsonl").write_text(json.dumps(line))
    options = ["--benchmark", "YouTube-Highlights", "--backbone", clip]
    result = extract(tmp_path / "y.jsonl", videos, tmp_path / "y", *options)
    assert result.exit_code == 0, result.output
    store = FeatureStore.open(tmp_path / "y")
    assert store.frames("trip") == 5  # one for each label: 5 in 4 s
    result = extract(tmp_path / "y.jsonl", videos, tmp_path / "y", *options, "--fps", 2)
    assert store.frames("trip") == 8


def test_own_videos_and_their_failures(tmp_path: Path, clip: Path, videos: Path) -> None:
    (tmp_path / "videos").mkdir()
    for name in ("good.mp4", "good too.mp4"):
        shutil.copy(videos / "trip.mp4", tmp_path / "videos" / name)
    (tmp_path / "videos" / "bad.mp4").write_text("not a video")
    rows = [
        ("gone", "a cat"),
        ("bad.mp4", "a cat"),
        ("good.mp4", "a dog"),
        ("good too", "a dog"),
        ("good.mp4", "a cat"),
    ]
    lines = [f"{video},0,1,{query}" for video, query in rows]
    (tmp_path / "own.csv").write_text("\n".join(["video,start,end,query", *lines]))
    arguments = [tmp_path / "own.csv", tmp_path / "videos", tmp_path / "s", "--backbone", clip, "--fps", 1]
    result = extract(*arguments)
    assert result.exit_code == 1
    counts = "videos: 2 extracted, 0 skipped, 2 failed; queries: 2 extracted, 0 skipped"
    assert result.stdout == f"{tmp_path / 's'}: {counts}\n"
    missing, bad = result.stderr.splitlines()
    assert missing.startswith(f"failed: gone: {tmp_path / 'videos'}: has no video called gone")
    assert bad.startswith("failed: bad.mp4: ")
    assert str(tmp_path / "videos" / "bad.mp4") in bad
    store = FeatureStore.open(tmp_path / "s")
    assert torch.equal(store.video("good.mp4"), store.video("good too"))
    assert store.has_query("a dog")
    assert store.layers == 4
    shutil.copy(videos / "trip.mp4", tmp_path / "videos" / "bad.mp4")
    shutil.copy(videos / "trip.mp4", tmp_path / "videos" / "gone.mp4")
    result = extract(*arguments)
    assert result.exit_code == 0
    assert "videos: 2 extracted, 2 skipped, 0 failed; queries: 0 extracted, 2 skipped" in result.stdout


def test_limit_takes_the_first_videos_with_all_their_queries(tmp_path: Path, clip: Path, videos: Path) -> None:
    rows = ["trip.mp4,0,1,one", "more/s1.avi,0,1,two", "trip.mp4,0,1,three", "gone.mp4,0,1,four"]
    (tmp_path / "own.csv").write_text("\n".join(["video,start,end,query", *rows]))
    result = extract(tmp_path / "own.csv", videos, tmp_path / "s", "--backbone", clip, "--fps", 1, "--limit", 1)
    assert result.exit_code == 0, result.output
    assert "videos: 1 extracted, 0 skipped, 0 failed; queries: 2 extracted, 0 skipped" in result.stdout
    store = FeatureStore.open(tmp_path / "s")
    assert (store.has_video("trip.mp4"), store.has_query("three"), store.has_query("two")) == (True, True, False)


def test_what_cannot_work_is_refused_in_one_line(tmp_path: Path, clip: Path, videos: Path) -> None:
    annotations = write_moments(tmp_path / "a.jsonl", "trip")
    charades = ["--benchmark", "charades-sta", "--backbone", clip]
    for arguments, message in (
        ([annotations, videos, tmp_path / "s", "--benchmark", "charades"], "did you mean charades-sta?"),
        ([tmp_path / "no.jsonl", videos, tmp_path / "s", *charades], "no.jsonl"),
        ([annotations, tmp_path / "no", tmp_path / "s", *charades], "no: no such folder"),
        ([annotations, videos, tmp_path, *charades], "has files, but none of a store"),
        ([annotations, videos, tmp_path / "s", *charades, "--layers", 9], "last 9 layers"),
        ([annotations, videos, tmp_path / "s", *charades, "--device", "gpu"], "gpu: not a device"),
        ([annotations, videos, tmp_path / "s", "--fps", 1, "--backbone", clip], "video: is missing"),
    ):
        result = extract(*arguments)
        assert (result.exit_code, result.stdout) == (1, ""), result.output
        assert message in result.stderr
        assert len(result.stderr.splitlines()) == 1
    for option, value in (("--fps", 0), ("--fps", "nan"), ("--jobs", 0), ("--layout", "h5"), ("--limit", 0)):
        assert extract(annotations, videos, tmp_path / "s", *charades, option, value).exit_code == 2
    own = extract(annotations, videos, tmp_path / "s")
    assert own.exit_code == 2
    assert "--fps" in own.stderr
    assert not (tmp_path / "s").exists()


@pytest.mark.skipif(os.name != "posix", reason="sends a signal to a group of processes, as a terminal does")
def test_interrupted_work_stops_at_once_and_goes_on_later(tmp_path: Path, clip: Path, videos: Path) -> None:
    (tmp_path / "videos").mkdir()
    names = [f"{number:03}" for number in range(200)]
    source = write_video(tmp_path / "long.mp4", frames=200, fps=10, codec="mpeg4")
    for name in names:
        shutil.copy(source, tmp_path / "videos" / f"{name}.mp4")
    annotations = write_moments(tmp_path / "a.jsonl", *names)
    arguments = [annotations, tmp_path / "videos", tmp_path / "s", "--benchmark", "charades-sta", "--backbone", clip]
    arguments += ["--fps", 10]
    command = [sys.executable, "-m", "r2tuning", "extract", *arguments, "--jobs", 2]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"TMPDIR": str(temporary)},
    )
    while process.poll() is None and not list((tmp_path / "s").glob("videos/*.safetensors")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    # Returns once no process holds the pipes any more, the workers included.
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, ""), stderr
    assert stderr == f"stopped; what is complete is in {tmp_path / 's'}; run the same command again to continue\n"
    complete = sorted((tmp_path / "s" / "videos").iterdir())
    assert 0 < len(complete) < len(names)
    assert all(EncodedVideo.load(path).frames == 200 for path in complete)
    assert not list((tmp_path / "s").rglob("*.part"))
    assert not list(temporary.iterdir())
    done = int(complete[-1].stem) + 1
    result = extract(*arguments, "--limit", done)
    assert result.exit_code == 0, result.output
    assert f"videos: {done - len(complete)} extracted, {len(complete)} skipped, 0 failed" in result.stdout
