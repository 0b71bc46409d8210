"""The clock of a recording: joined, damaged, paused, or lost in part; all frames count, at the times a player shows.

Frames carry their number as a mark, so that what is shown when is known without any clock. Values of the shared files
were worked out from ``ffprobe -show_entries packet=pts,dts,duration FILE``, as each test says.
"""

import os
import signal
import subprocess
import sys
import time
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
from support.files import shared_file
from support.videos import read_index, write_video

from r2tuning.errors import VideoError, VideoWarning
from r2tuning.features.encoded import EncodedVideo, FeatureWriter
from r2tuning.output.media import cut
from r2tuning.output.text.edits import choose_rate
from r2tuning.types import Preprocessing
from r2tuning.video import probe, sample_frames

SMALL = Preprocessing(size=64)
HEAD = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:{0}\n#EXTINF:{0},\n"


def sample(path, fps):
    """Numbers of all sampled frames, what is known of them, and the warnings given."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with sample_frames(path, fps, SMALL) as stream:
            indices = [read_index(image) for batch in stream for image in batch.pixels]
    assert all(issubclass(w.category, VideoWarning) for w in caught)
    return indices, stream.sampled, [str(w.message) for w in caught]


def count_and_probe(path):
    """Facts of a file of the shared material, whether it is truncated, and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with sample_frames(path, 1, SMALL) as stream:
            frames = sum(len(batch.times) for batch in stream)
    assert frames == stream.sampled.frames
    return stream.info, stream.sampled.truncated, [str(w.message) for w in caught]


def change_packets(source, target, change=lambda number, packet: None, omit=()):
    """Copies a video packet by packet."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        stream = read.streams.video[0]
        copy = written.add_stream_from_template(stream)
        for number, packet in enumerate(p for p in read.demux(stream) if p.size):
            if number not in omit:
                change(number, packet)
                packet.stream = copy
                written.mux(packet)
    return target


def join(path, *parts):
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


# ``ffprobe -show_entries packet=pts,dts FILE`` lists 100 packets of 0.1 s in 01 and 80 in 17, in two rows each; in 02,
# 100 of 0.1 s by their DTS; in 04, 120 whose last ends at 05:00:03; in 06, 99 whose last ends at 4 s, and whose gaps
# are 1/25 s but for one; in 10, 20 whose last ends 2 s after the first; in 15, the last sound ends at 30.023 s, and the
# first picture is shown at 0.023 s.
@pytest.mark.parametrize(
    ("name", "duration", "start", "rate"),
    [
        ("01_clock_restarts.ts", 10.0, 0.0, 10),
        ("02_two_times_far_off.mp4", 10.0, 0.0, 10),
        ("04_pauses_of_hours.mkv", 18003.0, 0.0, 10),
        ("06_25fps_one_frame_lost.mp4", 4.0, 0.0, 25),
        ("10_sound_longer_than_pictures.wmv", 2.0, 0.046, 10),
        ("15_last_picture_outlived_by_sound.mkv", 30.0, 0.023, None),
        ("17_joins_overlap.ts", 8.0, 0.0, 10),
        ("03_playlist_without_end/noend.m3u8", 10.0, 0.0, 10),
    ],
)
def test_shared_recordings_last_as_long_as_a_player_shows_them(name, duration, start, rate):
    info, truncated, warned = count_and_probe(shared_file(f"bugs/{name}"))
    assert (info.duration, info.start) == (pytest.approx(duration, abs=1e-3), pytest.approx(start, abs=1e-3))
    assert rate is None or (info.frame_rate, info.variable_frame_rate) == (rate, False)
    assert (truncated, warned) == (False, [])


def test_a_missing_segment_is_said():
    info, truncated, (warned,) = count_and_probe(shared_file("bugs/03_playlist_without_end/missing.m3u8"))
    assert (info.duration, truncated) == (pytest.approx(10), True)
    assert "gone.ts is missing" in warned


@pytest.mark.parametrize("ending", ["ts", "vob"])
@pytest.mark.parametrize("starts", [(0, 0, 0), (0, 65, 133), (133, 65, 0), (2500, 0, 1250), (0, 90000, 13)], ids=str)
def test_joined_recordings_go_on(tmp_path, ending, starts):
    codec = "mpeg2video" if ending == "vob" else "libx264"
    parts = [
        write_video(tmp_path / f"{i}.{ending}", codec=codec, fps=25, frames=75, start=Fraction(start, 25), gop=15)
        for i, start in enumerate(starts)
    ]
    indices, sampled, warned = sample(join(tmp_path / f"all.{ending}", *parts), 25)
    assert indices == [*range(75)] * 3
    assert (sampled.duration, sampled.truncated, warned) == (pytest.approx(9), False, [])


def read_flv_tags(data):
    """The tags of an FLV file after its header, as (type, bytes)."""
    place, tags = 13, []
    while place + 11 <= len(data):
        end = place + 15 + int.from_bytes(data[place + 1 : place + 4], "big")
        tags.append((data[place], data[place:end]))
        place = end
    return tags


def test_a_flash_recording_whose_clock_restarts(tmp_path):
    content = write_video(tmp_path / "a.flv", fps=10, frames=50).read_bytes()
    again = b"".join(tag for kind, tag in read_flv_tags(content) if kind == 9)
    (tmp_path / "b.flv").write_bytes(content + again)
    indices, sampled, _ = sample(tmp_path / "b.flv", 10)
    assert (indices, sampled.duration) == ([*range(50)] * 2, pytest.approx(10))
    (tmp_path / "c.flv").write_bytes(content + content)  # FFmpeg stops reading at the second header
    _, sampled, (warned,) = sample(tmp_path / "c.flv", 10)
    assert sampled.truncated
    assert "another recording follows" in warned


def test_a_playlist_with_joints(tmp_path):
    for i, start in enumerate((0, 5.5)):
        write_video(tmp_path / f"{i}.ts", fps=10, frames=30, start=start, gop=10)
    joint = "#EXT-X-DISCONTINUITY\n#EXTINF:3,\n"
    text = HEAD.format(3) + f"0.ts\n{joint}0.ts\n{joint}1.ts\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.m3u8").write_text(text)
    assert sample(tmp_path / "a.m3u8", 10)[0] == [*range(30)] * 3


@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("numbers", [{43, 44}, {10, 50, 90}, {95}, {98}])
@pytest.mark.parametrize("seconds", [300, 5])
def test_times_far_off_are_put_right(tmp_path, b_frames, numbers, seconds):
    def change(number, packet):
        if number in numbers:
            packet.pts += round(seconds / packet.time_base)

    whole = write_video(tmp_path / "a.mp4", fps=10, frames=100, b_frames=b_frames, gop=25)
    indices, sampled, warned = sample(change_packets(whole, tmp_path / "b.mp4", change), 10)
    assert indices == [*range(100)]
    assert (sampled.duration, sampled.truncated, warned) == (pytest.approx(10), False, [])


PAUSES = {
    "after_one_key_frame.mkv": {"times": [0] + [7200 + i / 10 for i in range(50)], "gop": 1},
    "before_one_key_frame.mkv": {"times": [i / 10 for i in range(50)] + [7200], "gop": 1},
    "every_two_hours.mkv": {"times": [7200 * i for i in range(20)]},
    "in_a_broadcast.ts": {"times": [i / 10 for i in range(50)] + [3600 + i / 10 for i in range(50)]},
}


@pytest.mark.parametrize("name", PAUSES)
def test_honest_pauses_stay(tmp_path, name):
    times = PAUSES[name]["times"]
    path = write_video(tmp_path / name, fps=10, **PAUSES[name])
    indices, sampled, warned = sample(path, 0.01)
    assert (sampled.duration, sampled.truncated, warned) == (pytest.approx(times[-1] + 0.1, abs=0.002), False, [])
    centers = (np.arange(len(indices)) + 0.5) * 100
    assert indices == [max(int(np.searchsorted(np.array(times), c - 1e-6)) - 1, 0) for c in centers]


def test_work_is_bounded_by_the_pictures(tmp_path):
    path = write_video(tmp_path / "a.mkv", times=[i * 86400 for i in range(300)], gop=1)
    with pytest.raises(VideoError, match=r"claims 7,176 hours of video with 300 pictures"):
        sample_frames(path, 0.5)


def test_a_long_still_is_stored_once_and_read_as_often_as_it_is_shown(tmp_path):
    from support.groundings import make_facts

    values = np.random.default_rng(0).normal(size=(4, 2, 3, 5)).astype(np.float16)
    counts = [1, 40, 3, 100]
    import torch

    writer = FeatureWriter()
    for value, count in zip(values, counts, strict=True):
        writer.append(torch.from_numpy(value[None]), np.array([False, *[True] * (count // 2)]))
        if count - 1 - count // 2 > 0:
            writer.append(None, np.array([True] * (count - 1 - count // 2)))
    expected = torch.from_numpy(np.repeat(values, [1 + c // 2 + max(c - 1 - c // 2, 0) for c in counts], axis=0))
    encoded = writer.finish(make_facts(video="a.mp4"))
    encoded.save(tmp_path / "a.safetensors")
    for video in (encoded, EncodedVideo.load(tmp_path / "a.safetensors"), encoded.expand()):
        assert torch.equal(video.read(0, video.frames), expected.transpose(0, 1))
        assert torch.equal(video.read(30, 60), expected[30:60].transpose(0, 1))
    assert encoded.distinct < 10


@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001)])
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_lost_frames_are_no_variable_rate(tmp_path, fps, ending):
    whole = write_video(tmp_path / f"a.{ending}", fps=fps, frames=200, b_frames=0, gop=20)
    info = probe(change_packets(whole, tmp_path / f"b.{ending}", omit={31, 32, 70, 150}))
    assert (info.frame_rate, info.variable_frame_rate) == (fps, False)
    assert choose_rate(info) == fps


@pytest.mark.parametrize("tag", ["00:00:1e999999999", "00:00:1/0", "00:00:nan", "-9:00:00", "\u0661:00:00"])
def test_duration_tags_that_are_none(tmp_path, tag):
    content = write_video(tmp_path / "a.mkv").read_bytes()
    place = content.index(b"00:00:", content.index(b"DURATION"))
    (tmp_path / "b.mkv").write_bytes(content[:place] + tag.encode().ljust(18, b"\0") + content[place + 18 :])
    assert sample(tmp_path / "b.mkv", 1)[1:] == sample(tmp_path / "a.mkv", 1)[1:]


def find_check_sum(data):
    """CRC of ISO/IEC 13818-1, annex A."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value >> 31 else value << 1) & 0xFFFFFFFF
    return value.to_bytes(4, "big")


def write_programmes(folder, *programmes):
    """Writes a transport stream with several programmes, their packets in turn."""
    parts, table = [], b"\0\1\xc1\0\0"
    for number, options in enumerate(programmes):
        numbers = {"service_id": number + 1, "pmt_start_pid": 0x1000 + number, "start_pid": 0x100 + number * 0x10}
        muxer = {f"mpegts_{key}": str(value) for key, value in numbers.items()} | {"mpegts_copyts": "1"}
        content = write_video(folder / f"{number}.ts", fps=25, container_options=muxer, **options).read_bytes()
        packets = [content[place : place + 188] for place in range(0, len(content), 188)]
        # Without the tables that list programmes (0) and name them (17).
        parts.append([p for p in packets if (p[1] & 0x1F) << 8 | p[2] not in (0, 17)])
        table += (number + 1).to_bytes(2, "big") + (0xE000 | numbers["pmt_start_pid"]).to_bytes(2, "big")
    section = b"\0" + (0xB000 | len(table) + 4).to_bytes(2, "big") + table
    written = [(b"\x47\x40\0\x10\0" + section + find_check_sum(section)).ljust(188, b"\xff")]
    longest = max(map(len, parts))
    for turn in range(longest):
        for part in parts:
            written += part[turn * len(part) // longest : (turn + 1) * len(part) // longest]
    (folder / "all.ts").write_bytes(b"".join(written))
    return folder / "all.ts"


# Sound begins at -1024/16000 s, as AAC does; FFmpeg's muxer moves a programme so that nothing is before zero.
@pytest.mark.parametrize("start", [20, 0])
@pytest.mark.parametrize("audio", [4.8, None])
@pytest.mark.parametrize("frames", [(50, 120), (120, 50)])
def test_times_are_those_of_the_programme_that_is_used(tmp_path, start, audio, frames):
    """``ffprobe -select_streams v:N -show_entries packet=pts`` of each programme alone gives the same times."""
    other = {"frames": frames[0], "start": start}
    path = write_programmes(tmp_path, {"frames": frames[1], "start": 7, "size": (96, 64), "audio": audio}, other)
    with av.open(str(path)) as container:
        assert sorted(stream.width for stream in container.streams.video) == [64, 96]
    info = probe(path)
    expected = {
        64: (0, frames[0] / 25, False),
        96: (7.064 if audio else 0, frames[1] / 25, audio is not None),
    }[info.width]
    assert (info.start, info.duration, info.has_audio) == (pytest.approx(expected[0]), *expected[1:])
    assert sample(path, 25)[0] == [*range(frames[info.width == 96])]
    # The sound of the other programme is not in the clip.
    cut(str(path), info.start, info.start + 1, tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert len(container.streams.audio) == expected[2]


def test_a_playlist_without_end_does_not_wait(tmp_path):
    write_video(tmp_path / "0.ts", fps=10, frames=30)
    (tmp_path / "a.m3u8").write_text(HEAD.format(9999999) + "0.ts\n")
    begin = time.monotonic()
    assert sample(tmp_path / "a.m3u8", 10)[0] == [*range(30)]
    assert time.monotonic() - begin < 1000  # FFmpeg would wait for four months


SEGMENT = HEAD.format(3) + "0.ts\n"
AUDIO = (
    '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="b",URI={}\n#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\nb.m3u8\n'
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD.format(3) + "pipe.ts\n#EXT-X-ENDLIST\n", "pipe.ts, which is not a regular file"),
        (HEAD.format(3) + "/dev/zero\n", "/dev/zero, which is not a regular file"),
        (HEAD.format(3) + "# \0pipe.ts\n#EXT-X-ENDLIST\n", "pipe.ts, which is not a regular file"),
        (SEGMENT.replace("#EXTINF", "#EXT-X-MAP:URI=pipe.ts\n#EXTINF"), "pipe.ts, which is not a regular file"),
        (SEGMENT.replace("#EXTINF", '#EXT-X-MAP:URI="pi\\pe.ts"\n#EXTINF'), "pipe.ts, which is not a regular file"),
        (HEAD.format(3) + "./" * 2045 + "pipe.ts" + "x" * 99, "a line of 4,196 letters"),
        (HEAD.format(3) + "gone.ts\n", "none of them exists"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n", "no list of segments"),
        ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlive.txt\n", "live.txt, which has no #EXT-X-ENDLIST"),
        (AUDIO.format("live.txt"), "live.txt, which has no #EXT-X-ENDLIST"),
        (HEAD.format(3) + "live.txt\n#EXT-X-ENDLIST\n", "live.txt, which has no #EXT-X-ENDLIST"),
        (
            SEGMENT.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF'),
            r"encrypted \(AES-128\) and its key k is not a local file",
        ),
        (
            SEGMENT.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-128,URI="live.txt"\n#EXTINF'),
            r"its key live.txt has 1\d\d bytes instead of 16",
        ),
        (SEGMENT.replace("#EXTINF", '#EXT-X-KEY:METHOD=AES-256,URI="k"\n#EXTINF'), r"AES-256\), which FFmpeg cannot"),
        ("ffconcat version 1.0\nfile pipe.ts\n", "pipe.ts, which is not a regular file"),
        ("ffconcat version 1.0\nfile 'pi'\\pe.ts\n", "pipe.ts, which is not a regular file"),
        ("ffconcat version 1.0\n# \0file pipe.ts\n", "pipe.ts, which is not a regular file"),
        ("ffconcat version 1.0\nfile live.txt\n", "live.txt, which is no list of segments"),
        ("ffconcat version 1.0\nfile ../0.ts\n", "cannot be read as video"),
        ('<?xml version="1.0"?>\n<!-- a -->\n<MPD type="static"><BaseURL>0.ts</BaseURL></MPD>', "is a DASH manifest"),
        ("<!---->" * 290 + "<MPE>", "cannot be read as video"),
        ("<SmoothStreamingMedia/>", "is a Smooth Streaming manifest"),
        (
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n",
            "is an SDP description",
        ),
        ("[playlist]\nFile1=0.ts\n", "is a playlist"),
        ('<ASX version="3"><entry><ref href="http://localhost:1/a.wmv"/></entry></ASX>', "is a playlist"),
        ("RTSPtextrtsp://localhost:1/a\n", "cannot be read as video"),
    ],
)
def test_playlists_that_cannot_be_read_say_so_at_once(tmp_path, text, message):
    os.mkfifo(tmp_path / "pipe.ts")
    write_video(tmp_path / "0.ts", frames=2)
    (tmp_path / "live.txt").write_text(HEAD.format(9999999) + "0.ts\n# no #EXT-X-ENDLIST\n" + "#" * 50)
    (tmp_path / "b.m3u8").write_text(SEGMENT + "#EXT-X-ENDLIST\n")
    (tmp_path / "a.m3u8").write_text(text)
    with pytest.raises(VideoError, match=message) as raised:
        probe(tmp_path / "a.m3u8")
    assert len(str(raised.value).splitlines()) == 1


def test_an_encrypted_playlist_with_its_key(tmp_path):
    """FFmpeg's own muxer encrypts; ``openssl enc -d -aes-128-cbc -K … -iv 0`` gives the transport stream back."""
    (tmp_path / "k.key").write_bytes(bytes(range(16)))
    (tmp_path / "keys").write_text(f"k.key\n{tmp_path}/k.key\n")
    path = tmp_path / "a.m3u8"
    muxer = {"hls_time": "2", "hls_key_info_file": str(tmp_path / "keys"), "hls_list_size": "0"}
    write_video(path, fps=10, frames=60, gop=10, container_options=muxer)
    assert (tmp_path / "a0.ts").read_bytes()[0] != 0x47
    indices, sampled, warned = sample(path, 10)
    assert (indices, sampled.duration, warned) == ([*range(60)], pytest.approx(6), [])
    path.write_text(path.read_text().replace("#EXT-X-ENDLIST", ""))
    assert sample(path, 10)[0] == indices
    (tmp_path / "k.key").write_bytes(bytes(16))
    with pytest.raises(VideoError, match=r"is encrypted and its key k.key does not open it") as raised:
        probe(path)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_signal_ends_the_search_for_more_pictures(tmp_path, name, number, code):
    """FFmpeg searches what follows the pictures, here 256 GiB of zeros, for minutes and without looking up."""
    path = write_video(tmp_path / name, codec="mpeg4", frames=30)
    os.truncate(path, 256 << 30)
    text = "import sys; from r2tuning.processes import unwind_on_signals; from r2tuning.video import probe\n"
    text += "unwind_on_signals(); print('ready', flush=True); probe(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", text, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"ready\n"
        time.sleep(1)
        child.send_signal(number)
        try:
            _, said = child.communicate(timeout=60)
        finally:
            child.kill()
    assert child.returncode == code
    assert b"ignored" not in said
