"""Files that are not videos, not whole, or not readable."""

import os
import warnings

import av
import numpy as np
import pytest
from PIL import Image
from support.files import shared_file
from support.videos import read_index, write_video

from r2tuning.errors import VideoError, VideoWarning
from r2tuning.types import Preprocessing
from r2tuning.video import probe, sample_frames

FASTSTART = {"movflags": "faststart"}


def sample(path, fps=4.0, sampling="exact"):
    """Indices of all frames, what is known of them, and the warnings given."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with sample_frames(path, fps, Preprocessing(96), sampling=sampling) as stream:
            frames = [pixels for batch in stream for pixels in batch.pixels]
    return frames, stream.sampled, [(w.category, str(w.message)) for w in caught]


def refusal(path):
    """The one line that both doors refuse ``path`` with."""
    with pytest.raises(VideoError) as probed:
        probe(path)
    with pytest.raises(VideoError) as sampled:
        sample_frames(path, 1)
    assert str(probed.value) == str(sampled.value)
    assert str(path) in str(probed.value)
    assert len(str(probed.value).splitlines()) == 1
    return str(probed.value)


def test_missing_file(tmp_path):
    assert "does not exist; check the path" in refusal(tmp_path / "a.mp4")
    assert "does not exist" in refusal(tmp_path / "protocol:a.mp4")
    assert "does not exist" in refusal("http://localhost:1/a.mp4")


def test_folder(tmp_path):
    assert "is a folder; name one video file in it" in refusal(tmp_path)


def test_file_under_a_file(tmp_path):
    (tmp_path / "a").write_text("")
    assert "cannot be opened (Not a directory)" in refusal(tmp_path / "a" / "b.mp4")


def test_name_with_a_null_character():
    with pytest.raises(VideoError, match="embedded null byte"):
        probe("a\0.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_no_permission(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=2)
    path.chmod(0)
    assert "permission denied" in refusal(path)


def test_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    assert "not a regular file; save the video to disk first" in refusal(tmp_path / "a.mp4")


def test_empty_file(tmp_path):
    (tmp_path / "a.mp4").touch()
    assert "is empty (0 bytes); copy or download it again" in refusal(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["notes.mp4", "notes.md", "notes.mkv"])
def test_text(tmp_path, name):
    (tmp_path / name).write_text("no video at all\n" * 100)
    assert "cannot be read as video (Invalid data" in refusal(tmp_path / name)


def test_text_that_ffmpeg_would_show_as_letters(tmp_path):
    (tmp_path / "notes.txt").write_text("no video at all\n" * 100)
    assert "is a text file, not a video" in refusal(tmp_path / "notes.txt")


def test_playlists_cannot_reach_the_network(tmp_path):
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXTINF:10,\nhttp://localhost:1/a.ts\n#EXT-X-ENDLIST\n")
    assert "cannot be read as video" in refusal(tmp_path / "a.m3u8")


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.webp", "photo.bmp"])
def test_still_image(tmp_path, name):
    Image.new("RGB", (64, 48), "red").save(tmp_path / name)
    assert "is a still image, not a video" in refusal(tmp_path / name)


def test_sound_only(tmp_path):
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert "has no video stream (found: audio)" in refusal(path)


def test_cover_art_is_not_a_video(tmp_path):
    path = tmp_path / "song.mp3"
    Image.new("RGB", (64, 48), "red").save(tmp_path / "cover.png")
    with av.open(str(path), "w") as container, av.open(str(tmp_path / "cover.png")) as cover:
        sound = container.add_stream("libmp3lame", rate=16000)
        picture = container.add_stream_from_template(cover.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        packet = next(p for p in cover.demux() if p.size)
        packet.stream = picture
        container.mux(packet)
        container.mux(sound.encode(None))
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1  # FFmpeg takes the cover for one
    assert "has no video stream" in refusal(path)


def test_no_frame_decodes(tmp_path):
    path = write_video(tmp_path / "a.mkv", codec="libvpx-vp9", frames=20)
    with av.open(str(path)) as container:
        packets = [bytes(p) for p in container.demux(video=0) if p.size]
    content = path.read_bytes()
    for packet in packets:
        content = content.replace(packet, b"\xff" * len(packet))
    path.write_bytes(content)
    assert "none of its 20 video frames can be decoded" in refusal(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"container_options": FASTSTART}),
        ("a.mkv", {}),
        ("a.webm", {"codec": "libvpx-vp9"}),
    ],
)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_file_that_is_cut_off_gives_what_is_left(tmp_path, name, options, share):
    path = write_video(tmp_path / name, frames=300, **options)
    whole, _, _ = sample(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    frames, sampled, warned = sample(path)
    assert sampled.truncated
    assert sampled.frames == len(frames) == max(1, int(sampled.duration * 4 + 0.5))
    assert 10 * share - 3 < sampled.duration < 9.97
    # The last frames may be half there.
    assert [read_index(f) for f in frames[:-2]] == [read_index(f) for f in whole[: len(frames) - 2]]
    ((category, message),) = warned
    assert category is VideoWarning
    assert message.startswith(f"{path} was cut off or damaged: {sampled.duration:.3f} s of the declared 10.0")
    assert len(message.splitlines()) == 1


def test_a_cut_off_avi_file(tmp_path):
    path = write_video(tmp_path / "a.avi", codec="mpeg4", frames=300)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, sampled, warned = sample(path)
    assert (sampled.truncated, sampled.frames) == (True, len(frames))
    assert 3 < sampled.duration < 7
    assert [category for category, _ in warned] == [VideoWarning]


# FFmpeg forgets the length of these when they are cut off, or takes it for that of the sound.
@pytest.mark.parametrize("audio", [None, 5])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wmv", {"codec": "wmv2"}),
        ("a.asf", {"codec": "mpeg4"}),
        ("a.avi", {"codec": "mpeg4"}),
        ("a.rm", {"codec": "rv20", "size": (176, 144)}),
        ("a.swf", {"codec": "flv", "b_frames": 0}),
        ("a.flv", {}),
        ("a.mxf", {"codec": "mpeg2video", "fps": 25, "gop": 25}),
        ("a.mkv", {}),
    ],
)
def test_other_containers_that_are_cut_off(tmp_path, name, options, audio):
    if audio and name in ("a.swf", "a.mxf"):
        pytest.skip("FFmpeg cannot write this sound into it")
    path = write_video(tmp_path / name, audio=audio, **{"frames": 150, "fps": 30} | options)
    content = path.read_bytes()
    if name == "a.mkv":  # as written by others than FFmpeg
        content = content.replace(b"DURATION", b"DURATIOM")
    for share in (1, 0.95, 0.6):
        path.write_bytes(content[: int(len(content) * share)])
        _, sampled, warned = sample(path)
        assert (sampled.truncated, len(warned)) == (share < 1, int(share < 1))


def test_a_cut_off_file_is_noticed_with_key_frames_too(tmp_path):
    path = write_video(tmp_path / "a.mkv", frames=300)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, sampled, warned = sample(path, sampling="keyframe")
    assert sampled.truncated
    assert len(frames) == sampled.frames < 40
    assert [category for category, _ in warned] == [VideoWarning]


def test_a_file_without_its_index_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=300)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "check that it is one and was copied completely" in refusal(path)


@pytest.mark.parametrize(
    ("name", "options"),
    [("a.ts", {}), ("a.mp4", {"container_options": FASTSTART}), ("b.mp4", {"codec": "libx265"})],
)
def test_damage_in_the_middle_is_bridged(tmp_path, name, options):
    path = write_video(tmp_path / name, frames=300, **options)
    whole, whole_sampled, _ = sample(path)
    content = bytearray(path.read_bytes())
    middle, length = len(content) * 4 // 10, len(content) // 10
    content[middle : middle + length] = np.random.default_rng(1).bytes(length)
    path.write_bytes(bytes(content))
    frames, sampled, warned = sample(path)
    assert sampled.truncated
    assert (sampled.frames, sampled.duration) == (whole_sampled.frames, whole_sampled.duration)
    assert [read_index(f) for f in frames[:6]] == [read_index(f) for f in whole[:6]]
    assert [read_index(f) for f in frames[-12:]] == [read_index(f) for f in whole[-12:]]
    ((category, message),) = warned
    assert category is VideoWarning
    assert "is damaged: " in message
    assert "frames cannot be decoded" in message


def test_matroska_does_not_tell_of_frames_lost_in_the_middle_but_they_are_bridged(tmp_path):
    path = write_video(tmp_path / "a.mkv", frames=300)
    whole, _, _ = sample(path)
    content = bytearray(path.read_bytes())
    middle, length = len(content) * 4 // 10, len(content) // 10
    content[middle : middle + length] = bytes(length)
    path.write_bytes(bytes(content))
    frames, sampled, _ = sample(path)
    assert (len(frames), sampled.duration) == (40, 10.0)
    indices = [read_index(f) for f in whole]
    assert [read_index(f) for f in frames[:10]] == indices[:10]
    assert [read_index(f) for f in frames[-12:]] == indices[-12:]


def test_a_stream_that_appears_midway_is_no_matter(tmp_path):
    parts = [{"frames": 900}, {"frames": 30, "audio": 1, "start": 30}, {"frames": 900, "start": 31}]
    path = tmp_path / "a.ts"
    for number, options in enumerate(parts):
        part = write_video(tmp_path / f"{number}.ts", **options)
        with path.open("ab") as whole:
            whole.write(part.read_bytes())
    frames, sampled, _ = sample(path, fps=1)
    assert 60 <= len(frames) == sampled.frames <= 63


def test_a_single_damaged_frame_of_many_is_no_matter(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames=300, gop=1, b_frames=0)
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][150]
        position, length = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[position + 4 : position + length] = b"\xff" * (length - 4)
    path.write_bytes(bytes(content))
    frames, sampled, warned = sample(path)
    assert (len(frames), sampled.duration, sampled.truncated, warned) == (40, 10.0, False, [])


def test_a_damaged_timestamp_does_not_stretch_the_video_to_days(tmp_path):
    times = [i / 30 for i in range(90)]
    path = write_video(tmp_path / "a.mkv", times=[*times, 200_000], b_frames=0)
    frames, sampled, warned = sample(path)
    assert (len(frames), sampled.truncated) == (12, True)
    assert sampled.duration == pytest.approx(3, abs=0.001)
    assert [category for category, _ in warned] == [VideoWarning]


def test_a_recording_that_begins_between_key_frames_starts_at_the_first_that_decodes(tmp_path):
    path = write_video(tmp_path / "a.ts", frames=120, gop=30, b_frames=0)
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        cut = packets[10].pos
    path.write_bytes(path.read_bytes()[cut:])
    frames, sampled, warned = sample(path, fps=2)
    assert read_index(frames[0]) == 30 + 7
    assert sampled.duration == pytest.approx(3.0, abs=0.001)
    assert sampled.truncated
    assert [category for category, _ in warned] == [VideoWarning]


def test_real_damaged_video():
    path = shared_file("media/corrupt_28_of_50_frames.mp4")
    frames, sampled, warned = sample(path)
    assert (len(frames), sampled.truncated) == (20, True)
    assert [category for category, _ in warned] == [VideoWarning]
