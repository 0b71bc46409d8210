"""Pieces of previews: what a browser appends one after the other has every picture at its time."""

import io
from pathlib import Path

import av
import numpy as np
import pytest
from support.videos import read_index, write_video

from r2tuning.output.media.footage import Footage
from r2tuning.server.pictures import Probe, Strip, Studio
from r2tuning.server.previews import Piece, Plan, plan_preview, write_piece
from r2tuning.server.workers import Failure


def plan(path: Path) -> Plan:
    return plan_preview(Footage(path))


def shown(content: bytes) -> list[tuple[float, int]]:
    """When each picture of a piece is shown, and the number of its mark."""
    with av.open(io.BytesIO(content)) as container:
        return [
            (
                float(frame.pts * frame.time_base),
                read_index(frame.to_ndarray(format="rgb24")[:, 8:56].transpose(2, 0, 1)),  # the square in the middle
            )
            for frame in container.decode(video=0)
            if frame.pts is not None
        ]


def times(content: bytes, kind: str) -> list[float]:
    """When the packets of the streams of a kind are shown or heard."""
    with av.open(io.BytesIO(content)) as container:
        return [
            float(packet.pts * packet.time_base)
            for packet in container.demux()
            if packet.stream.type == kind and packet.pts is not None
        ]


def test_what_browsers_play_is_played_as_it_is(tmp_path: Path) -> None:
    for name, codec, mime in (
        ("a.mp4", "libx264", "video/mp4"),
        ("a.webm", "libvpx", "video/webm"),
        ("b.webm", "libvpx-vp9", "video/webm"),
    ):
        found = plan(write_video(tmp_path / name, codec=codec, frames=20))
        assert (found.mode, found.mime, found.pieces, found.reason) == ("native", mime, (), "")


def test_other_containers_are_remuxed_and_other_codecs_encoded(tmp_path: Path) -> None:
    found = plan(write_video(tmp_path / "a.mkv", frames=300, fps=10, gop=10))
    assert found.mode == "remux"
    assert found.mime.startswith('video/mp4; codecs="avc1.')
    assert found.pieces == pytest.approx((0, 4, 8, 12, 16, 20, 24, 28))
    found = plan(write_video(tmp_path / "b.mkv", frames=320, fps=10, gop=400))
    assert found.mode == "transcode"  # one piece would be the whole file
    found = plan(write_video(tmp_path / "a.avi", codec="mpeg4", frames=90, fps=10, b_frames=0))
    assert (found.mode, found.mime) == ("transcode", 'video/mp4; codecs="avc1.640028"')
    assert found.pieces == pytest.approx((0, 4, 8))
    assert found.reason == "browsers do not play mpeg4 yuv420p in this container"
    found = plan(write_video(tmp_path / "sound.mkv", frames=60, fps=10, audio=6.0))
    assert "mp4a.40.2" in found.mime


@pytest.mark.parametrize(
    ("name", "codec", "b_frames", "audio"),
    [
        ("a.mkv", "libx264", 0, None),
        ("b.mkv", "libx264", 2, None),
        ("c.mkv", "libx264", 3, 10.0),
        ("a.avi", "mpeg4", 0, None),
    ],
)
def test_every_picture_is_at_its_time(
    tmp_path: Path, name: str, codec: str, b_frames: int, audio: float | None
) -> None:
    path = write_video(tmp_path / name, codec=codec, frames=100, fps=10, gop=10, b_frames=b_frames, audio=audio)
    footage = Footage(path)
    pieces = plan_preview(footage).pieces
    assert len(pieces) == 3
    # A piece that is appended takes the place of what was there at its times.
    timeline: dict[int, float] = {}
    sound: list[float] = []
    for number, begin in enumerate(pieces):
        content = write_piece(footage, Piece(str(path), number))
        sound += times(content, "audio")
        found = shown(content)
        assert found[0][0] == pytest.approx(begin, abs=0.001)
        timeline |= {index: time for time, index in found}
    with av.open(str(path)) as container:
        expected = [float(frame.pts * frame.time_base) for frame in container.decode(video=0) if frame.pts is not None]
    assert [timeline[index] for index in range(100)] == pytest.approx(expected, abs=0.001)
    heard = [time for time in times(path.read_bytes(), "audio") if time >= 0]
    assert sorted({round(time, 3) for time in sound}) == pytest.approx(heard, abs=0.001)
    assert bool(sound) == bool(audio)


def test_turned_videos_are_upright(tmp_path: Path) -> None:
    """Browsers turn files, but not pieces."""
    path = write_video(tmp_path / "a.mkv", frames=50, fps=10, size=(48, 64), rotation=90, gop=10)
    footage = Footage(path)
    assert plan_preview(footage).mode == "transcode"
    with av.open(io.BytesIO(write_piece(footage, Piece(str(path), 0)))) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (48, 64)
    assert read_index(frame.to_ndarray(format="rgb24")[8:56].transpose(2, 0, 1)) == 0


def test_a_piece_has_its_sound_and_is_small(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", codec="mpeg4", frames=60, fps=10, size=(1920, 1080), audio=6.0, b_frames=0)
    footage = Footage(path)
    assert plan_preview(footage).mime == 'video/mp4; codecs="avc1.640028,mp4a.40.2"'
    content = write_piece(footage, Piece(str(path), 0))
    with av.open(io.BytesIO(content)) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        assert (video.width, video.height, video.codec_context.pix_fmt) == (1280, 720, "yuv420p")
        seconds = sum(frame.samples for frame in container.decode(sound)) / sound.rate
        assert seconds == pytest.approx(4, abs=0.1)
    assert content[4:8] == b"ftyp"
    assert content.count(b"moof") == 1


def test_pieces_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", codec="mpeg4", frames=20, fps=10, b_frames=0)
    studio = Studio()
    (found,) = studio.make_all([Piece(str(path), 1)])
    assert isinstance(found, Failure)
    assert "has no piece 1 of 1" in str(found.error)


def test_one_bad_file_does_not_spoil_the_others(tmp_path: Path) -> None:
    good, bad = write_video(tmp_path / "a.mp4", frames=20), tmp_path / "b.mp4"
    bad.write_bytes(b"nothing")
    made = Studio().make_all(
        [Probe(str(bad)), Strip(str(tmp_path / "c.mp4"), (0.0,), 32), Strip(str(good), (0.0,), 32)]
    )
    assert [isinstance(one, Failure) for one in made] == [True, True, False]
    picture = made[2]
    assert isinstance(picture, bytes)
    with av.open(io.BytesIO(picture)) as container:
        assert np.asarray(next(container.decode(video=0)).to_image()).shape == (32, 43, 3)
