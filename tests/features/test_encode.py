"""Frames are decoded ahead of CLIP: the features are the same, and nothing goes on after an end of any kind."""

import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from support.models import save_tiny_clip
from support.videos import write_video

from r2tuning.backbones import Backbone, load_backbone
from r2tuning.errors import VideoWarning
from r2tuning.features.encode import encode_video, read_ahead
from r2tuning.video import sample_frames
from r2tuning.video.sample import FrameStream


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "a.mp4", frames=120)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return load_backbone(save_tiny_clip(tmp_path_factory.mktemp("clip")), layers=2)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before  # those of other tests may end meanwhile


def test_features_are_those_of_decoding_first_to_the_bit(video: Path, clip: Backbone) -> None:
    told = []
    encoded = encode_video(video, clip, 5, batch_size=3, progress=lambda *numbers: told.append(numbers))
    with sample_frames(video, 5, batch_size=3) as frames:
        values = torch.cat([clip.encode_frames(batch.pixels) for batch in list(frames)])
    assert torch.equal(encoded.read(0, 20), values.half().transpose(0, 1))
    assert told == [(done, 20) for done in (3, 6, 9, 12, 15, 18, 20)]
    assert encoded.facts.duration == 4


def test_frames_are_taken_while_others_are_worked_on() -> None:
    taken: list[int] = []

    def count() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            yield number

    numbers = read_ahead(count(), 2)
    assert next(numbers) == 0
    wait_until(lambda: taken == [0, 1, 2])
    time.sleep(0.05)
    assert taken == [0, 1, 2]  # and no further: what waits takes memory
    assert list(numbers) == list(range(1, 9))


def test_an_error_comes_after_what_was_there_before_it() -> None:
    def fail() -> Iterator[int]:
        yield 1
        raise KeyError("lost")

    items = read_ahead(fail(), 3)
    assert next(items) == 1
    with pytest.raises(KeyError, match="lost"):
        next(items)


def test_an_interrupt_while_the_thread_starts_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()
    start = threading.Thread.start

    def slow() -> Generator[int, None, None]:
        begun.set()
        time.sleep(0.2)
        yield 1

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        assert begun.wait(60)
        raise KeyboardInterrupt

    items = slow()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(read_ahead(items, 2))
    items.close()  # raises where a thread still is in it
    wait_until(lambda: not [thread for thread in threading.enumerate() if "read-ahead" in thread.name])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_whatever_stops_the_encoding_ends_decoding(
    error: type[BaseException], video: Path, clip: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams: list[FrameStream] = []

    def stop(done: int, expected: int) -> None:
        raise error

    def remember(*args: object, **kwargs: object) -> FrameStream:
        streams.append(sample_frames(*args, **kwargs))  # type: ignore[arg-type]
        return streams[-1]

    monkeypatch.setattr("r2tuning.features.encode.sample_frames", remember)
    with pytest.raises(error):
        encode_video(video, clip, 5, batch_size=1, progress=stop)
    with pytest.raises(StopIteration):  # the file is closed
        next(streams[0])


def test_damage_is_told_as_before(clip: Backbone, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "a.mkv", frames=120)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.warns(VideoWarning, match="cut off or damaged") as caught:
        encoded = encode_video(whole, clip, 5, batch_size=2)
    assert encoded.facts.truncated
    assert len(caught) == 1


def wait_until(condition: object) -> None:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.005)
    assert condition()  # type: ignore[operator]
