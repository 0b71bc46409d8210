"""Extraction of many: what is up to date stays, what is not is made again, and one bad video does not stop it."""

import multiprocessing
import os
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from support.models import MeanClip, save_tiny_clip
from support.planted import FatalStore, TerminatedStore
from support.videos import write_video

from r2tuning.backbones import Backbone, load_backbone
from r2tuning.errors import FeatureError, QueryWarning, VideoError, VideoWarning
from r2tuning.features import encode_video
from r2tuning.features.extraction import Extraction, QueryTask, VideoFolder, VideoTask, extract_queries, extract_videos
from r2tuning.features.layouts import QUERY
from r2tuning.features.store import FeatureStore, Layout

NAMES = ("a", "b", "c")
LAYOUTS: list[Layout] = ["safetensors", "npy"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(save_tiny_clip(tmp_path_factory.mktemp("clip")), layers=2)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        write_video(folder / f"{name}.mp4", frames=20 + 10 * number, fps=10)
    return folder


def make_tasks(videos: Path, names: Sequence[str] = NAMES, fps: float = 2) -> list[VideoTask]:
    return [VideoTask(name, videos / f"{name}.mp4", fps) for name in names]


def outcome(extraction: Extraction) -> tuple[int, int, list[str]]:
    return extraction.extracted, extraction.skipped, [failure.name for failure in extraction.failures]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_up_to_date_is_skipped(layout: Layout, tmp_path: Path, videos: Path, clip: Backbone) -> None:
    def extract(fps: float = 2, **options: str) -> tuple[int, int, list[str]]:
        store = FeatureStore.create(tmp_path / "s", clip, layout)
        return outcome(extract_videos(make_tasks(videos, fps=fps), store, clip, **options))

    assert extract() == (3, 0, [])
    assert extract() == (0, 3, [])
    store = FeatureStore.open(tmp_path / "s")
    assert [store.frames(name) for name in NAMES] == [4, 6, 8]
    for name in NAMES:
        direct = encode_video(videos / f"{name}.mp4", clip, 2)
        assert torch.equal(store.video(name), direct.read(0, direct.frames).transpose(0, 1))

    # As after a killed run: one file is missing, one is half there, one is half written under another name.
    files = sorted((tmp_path / "s").glob("*vid*/*"))
    shutil.copy(files[0], files[0].with_name(f".{files[0].name}.123.part"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:-100])
    assert extract() == (2, 1, [])
    # The source has changed since.
    later = files[2].stat().st_mtime + 10
    write_video(videos / "c.mp4", frames=60, fps=10)
    os.utime(videos / "c.mp4", (later, later))
    assert extract() == (1, 2, [])
    assert store.frames("c") == 12
    os.utime(videos / "c.mp4", (0, 0))
    assert extract(fps=5) == (3, 0, [])
    assert [store.frames(name) for name in NAMES] == [10, 15, 30]
    assert extract(fps=5, sampling="keyframe") == (3, 0, [])
    assert extract(fps=5, sampling="keyframe") == (0, 3, [])
    facts = store.video_facts("a")
    assert facts is not None
    assert (facts.fps, facts.sampling) == (5, "keyframe")
    (videos / "a.mp4").unlink()
    assert extract(fps=5, sampling="keyframe") == (0, 2, ["a"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_queries(layout: Layout, tmp_path: Path, clip: Backbone) -> None:
    store = FeatureStore.create(tmp_path, clip, layout)
    tasks = [QueryTask(str(number), "a dog " * (number % 5 + 1)) for number in range(100)]  # more than one batch
    seen: list[tuple[int, int]] = []
    done = extract_queries(tasks, store, clip, progress=lambda done, expected: seen.append((done, expected)))
    assert outcome(done) == (100, 0, [])
    assert seen == [(64, 100), (100, 100)]
    for task in tasks[::33]:
        (alone,) = clip.encode_queries([task.text])
        # In a batch, sums are made in another order: within the precision of fp16.
        torch.testing.assert_close(store.query(task.name), alone.values.half().transpose(0, 1), atol=2e-3, rtol=2e-3)
    assert outcome(extract_queries(tasks, store, clip)) == (0, 100, [])
    changed = [*tasks[:-1], QueryTask("99", "a cat")]
    assert outcome(extract_queries(changed, store, clip)) == (1, 99, [])
    facts = store.files.facts(QUERY, "99")
    assert facts is not None
    assert facts.text == "a cat"
    with pytest.warns(QueryWarning, match="1 queries were cut to the 77 tokens"):
        extract_queries([QueryTask("long", "a dog " * 50)], store, clip)
    assert store.query("long").shape[0] == 77


def test_one_bad_video_does_not_stop_the_others(tmp_path: Path, videos: Path, clip: Backbone) -> None:
    (videos / "b.mp4").write_text("not a video")
    store = FeatureStore.create(tmp_path / "s", clip)
    seen: list[tuple[int, int]] = []
    done = extract_videos(make_tasks(videos), store, clip, progress=lambda *counts: seen.append(counts))
    assert outcome(done) == (2, 0, ["b"])
    assert "b.mp4" in done.failures[0].reason
    assert "\n" not in done.failures[0].reason
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert [store.has_video(name) for name in NAMES] == [True, False, True]


def test_two_workers_do_what_one_process_does(tmp_path: Path, videos: Path, clip: Backbone) -> None:
    (videos / "bad.mp4").write_text("not a video")
    cut = write_video(videos / "cut.mp4", frames=100, fps=10, b_frames=0, container_options={"movflags": "faststart"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    tasks = make_tasks(videos, ["bad", "a", "b", "c", "cut"])
    one = FeatureStore.create(tmp_path / "one", clip)
    two = FatalStore.create(tmp_path / "two", clip)
    with pytest.warns(VideoWarning) as alone:
        assert outcome(extract_videos(tasks, one, clip)) == (4, 0, ["bad"])
    with pytest.warns(VideoWarning) as together:
        done = extract_videos(tasks, two, clip, jobs=2)
    assert [str(warning.message) for warning in together] == [str(warning.message) for warning in alone]
    reasons = {failure.name: failure.reason for failure in done.failures}
    assert outcome(done)[:2] == (3, 0)
    assert reasons.keys() == {"bad", "b"}
    assert "ended with code 9 while encoding it" in reasons["b"]
    for name in ("a", "c", "cut"):
        assert one.video_facts(name) == two.video_facts(name)
        # With another number of threads, sums may be made in another order: within the precision of fp16.
        torch.testing.assert_close(two.video(name), one.video(name), atol=2e-3, rtol=2e-3)
    assert not two.has_video("b")
    assert multiprocessing.active_children() == []


def test_workers_that_are_leaving_are_not_disturbed(
    tmp_path: Path, videos: Path, clip: Backbone, capfd: pytest.CaptureFixture[str]
) -> None:
    store = TerminatedStore.create(tmp_path / "s", clip)
    assert outcome(extract_videos(make_tasks(videos), store, clip, jobs=2)) == (3, 0, [])
    assert capfd.readouterr().err == ""


def test_a_store_that_cannot_be_written_stops_the_workers(tmp_path: Path, videos: Path, clip: Backbone) -> None:
    store = FeatureStore.create(tmp_path / "s", clip)
    (tmp_path / "s" / "videos").rmdir()
    with pytest.raises(FeatureError, match="there is no folder"):
        extract_videos(make_tasks(videos), store, clip)
    with pytest.raises(FeatureError, match="there is no folder"):
        extract_videos(make_tasks(videos, ["a"]), store, clip, jobs=2)
    assert multiprocessing.active_children() == []


def test_nothing_to_do_starts_no_process(tmp_path: Path, clip: Backbone) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert extract_videos([], FeatureStore.create(tmp_path, clip), clip, jobs=2) == Extraction(0, 0)


def test_videos_are_found_by_name(tmp_path: Path) -> None:
    (tmp_path / "part").mkdir()
    files = ["a_60.0_210.0.mp4", "part/b.MKV", "c.txt", "d.mp4", "part/d.webm", "e.mp4.json"]
    for file in files:
        (tmp_path / file).touch()
    folder = VideoFolder(tmp_path)
    assert folder.find("a_60.0_210.0") == tmp_path / "a_60.0_210.0.mp4"
    assert folder.find("b") == tmp_path / "part" / "b.MKV"
    assert folder.find("part/b.MKV") == tmp_path / "part" / "b.MKV"
    for name, message in (
        ("c", r"has no video called c; put c\.mp4 or the like there"),
        ("c.MTS", r"has no video called c\.MTS; put it there"),
        ("e", "has no video called e"),
        ("a_60.0_210", "has no video called"),
        ("nul\0", "has no video called"),
        ("d", r"several videos called d \(d.mp4 and part/d.webm\)"),
    ):
        with pytest.raises(VideoError, match=message) as caught:
            folder.find(name)
        assert "\n" not in str(caught.value)
    with pytest.raises(VideoError, match="no such folder"):
        VideoFolder(tmp_path / "no")


def test_other_processes_use_the_class_of_the_backbone(tmp_path: Path, videos: Path, clip: Backbone) -> None:
    mean = load_backbone(clip.name, layers=2, family=MeanClip)
    store = FeatureStore.create(tmp_path / "s", mean)
    assert outcome(extract_videos(make_tasks(videos), store, mean, jobs=2)) == (3, 0, [])
    for name in NAMES:
        stored, direct = store.video(name).float(), encode_video(videos / f"{name}.mp4", clip, 2)
        patches = direct.read(0, direct.frames).transpose(0, 1).float()[:, :, 1:]
        torch.testing.assert_close(stored[:, :, 1:], patches, rtol=0, atol=2e-3)
        torch.testing.assert_close(stored[:, :, 0], patches.mean(dim=2), rtol=0, atol=2e-3)
    facts = store.video_facts("a")
    assert facts is not None
    assert facts.summary == "mean"
