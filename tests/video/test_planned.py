"""Frames of groups decoded side by side are, bit for bit, those of decoding everything in order."""

import warnings
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import get_args

import numpy as np
import pytest
from av.packet import PacketSideData, PktSideDataT
from hypothesis import given
from hypothesis import strategies as st
from support.files import shared_file
from support.videos import X264, write_moving

from r2tuning.errors import VideoError
from r2tuning.types import Preprocessing
from r2tuning.video import sample_frames
from r2tuning.video.container import decode_frames, open_video, read_packets
from r2tuning.video.planned.groups import decode_picks
from r2tuning.video.planned.index import PacketFacts, PacketIndexer, choose_facts_reader
from r2tuning.video.preprocess import Preprocessor
from r2tuning.video.probe import survey
from r2tuning.video.selection import count_clips
from r2tuning.video.timeline import read_timeline

SIZE = 48
X265 = "log-level=none:keyint=20:min-keyint=20:bframes=4:pools=1:frame-threads=1:"


def sample_in_order(path, fps):
    """The oracle: decodes all frames in one thread, and takes for each clip the last before its centre."""
    facts = survey(path)
    preprocess = Preprocessor(Preprocessing(SIZE), facts.info.rotation)
    with open_video(path) as stream:
        stream.codec_context.thread_count = 1
        frames = [(frame.pts * stream.time_base, frame) for frame in decode_frames(stream, read_packets(stream))]
    first = frames[0][0]
    fps = Fraction(fps).limit_denominator(1000)
    pixels, times = [], []
    for clip in range(count_clips(facts.timeline.duration, fps)):
        centre = first + (clip + Fraction(1, 2)) / fps
        time, frame = next((pair for pair in reversed(frames) if pair[0] < centre), frames[0])
        pixels.append(preprocess(frame))
        times.append(facts.info.start + float(time - first))
    return np.stack(pixels), np.array(times)


def count_entries(path):
    index = survey(path).index
    return 0 if index is None else int(index.entries.sum())


def picks_without_help(path, fps, cheap=False, threads=None):
    """What the packets' plan gives by itself; fails where decoding in order would have to help out."""
    facts = survey(path)
    make = partial(Preprocessor, Preprocessing(SIZE), facts.info.rotation)
    fps = Fraction(fps).limit_denominator(1000)
    picks = list(decode_picks(facts, fps, make, cheap=cheap, threads=threads))
    times = [facts.info.start + float(time) for time, _ in picks]
    return np.stack([image for _, image in picks]), np.array(times)


def sample(path, fps, **options):
    with sample_frames(path, fps, Preprocessing(SIZE), batch_size=7, **options) as stream:
        batches = list(stream)
    return np.concatenate([b.pixels for b in batches]), np.concatenate([b.times for b in batches]), stream.sampled


GAPS = np.random.default_rng(3).choice([0.011, 0.033, 0.04, 0.2, 0.5], size=100)
X264_PYRAMID = X264 | {"g": "20", "bf": "4", "b-pyramid": "normal"}
# Name → encoder, its options, further arguments, and how many places decoding can begin at; 0: packets do not tell.
PLANNED = {
    "closed_groups.mp4": ("libx264", X264_PYRAMID, {}, 5),
    "closed_groups.mkv": ("libx264", X264_PYRAMID, {}, 5),
    "closed_groups.ts": ("libx264", X264_PYRAMID, {}, 5),
    "open_groups.mp4": ("libx264", X264_PYRAMID | {"x264-params": "open-gop=1"}, {}, 1),
    "no_b_frames.mp4": ("libx264", X264 | {"g": "25", "bf": "0", "refs": "4"}, {}, 4),
    "interlaced.mp4": ("libx264", X264_PYRAMID | {"x264-params": "interlaced=1"}, {}, 5),
    "one_group.mp4": ("libx264", X264 | {"g": "1000", "sc_threshold": "0"}, {}, 1),
    "only_key_frames.mp4": ("libx264", X264 | {"g": "1"}, {}, 100),
    "refreshed_without_key_frames.mp4": ("libx264", X264 | {"g": "20", "intra-refresh": "1"}, {}, 1),
    "variable_rate.mp4": ("libx264", X264_PYRAMID, {"times": np.cumsum(GAPS).tolist()}, 5),
    "delayed_start.mp4": ("libx264", X264_PYRAMID, {"start": Fraction(833, 100)}, 5),
    "rotated.mp4": ("libx264", X264_PYRAMID, {"rotation": 90}, 5),
    "hevc_open_groups.mp4": ("libx265", {"x265-params": X265 + "open-gop=1"}, {}, 5),
    "hevc_open_groups.mkv": ("libx265", {"x265-params": X265 + "open-gop=1"}, {}, 5),
    "hevc_open_groups.ts": ("libx265", {"x265-params": X265 + "open-gop=1:repeat-headers=1"}, {}, 5),
    "hevc_closed_groups.mp4": ("libx265", {"x265-params": X265 + "open-gop=0"}, {}, 5),
    "hevc_decodable_leading.mp4": ("libx265", {"x265-params": X265 + "open-gop=0:radl=2"}, {}, 5),
    "hevc_layers.mp4": ("libx265", {"x265-params": X265 + "open-gop=1:temporal-layers=3:b-adapt=0"}, {}, 5),
    "vp9_hidden_frames.webm": ("libvpx-vp9", {"g": "20", "b": "200k", "auto-alt-ref": "1", "cpu-used": "5"}, {}, 5),
    "vp9.mp4": ("libvpx-vp9", {"g": "20", "b": "200k", "deadline": "realtime", "cpu-used": "8"}, {}, 5),
    "av1.mp4": ("libsvtav1", {"g": "20", "preset": "12", "crf": "40"}, {}, 5),
    "av1.mkv": ("libsvtav1", {"g": "20", "preset": "12", "crf": "40"}, {}, 5),
    "av1_open_groups.mkv": ("libsvtav1", {"g": "20", "preset": "12", "svtav1-params": "irefresh-type=1"}, {}, 1),
    "mpeg4.mp4": ("mpeg4", {"g": "20", "bf": "2", "b": "300k"}, {}, 0),
    "no_presentation_times.avi": ("libx264", X264_PYRAMID, {}, 0),
    "vp8.webm": ("libvpx", {"g": "20", "b": "200k", "cpu-used": "8"}, {}, 0),
}


@pytest.fixture(scope="module", params=PLANNED)
def planned_video(request, tmp_path_factory):
    codec, options, arguments, _ = PLANNED[request.param]
    return write_moving(tmp_path_factory.mktemp("planned") / request.param, codec, options, **arguments)


@pytest.mark.parametrize(("fps", "threads"), [(1, 3), (4, 1), (40, 3)])
def test_pixels_are_those_of_decoding_in_order(planned_video, fps, threads):
    if planned_video.suffix == ".avi":
        pytest.skip("has no times to pick by; the contract of awkward videos covers it")
    expected_pixels, expected_times = sample_in_order(planned_video, fps)
    pixels, times, sampled = sample(planned_video, fps, threads=threads)
    np.testing.assert_array_equal(times, expected_times)
    np.testing.assert_array_equal(pixels, expected_pixels)
    assert (sampled.frames, sampled.truncated) == (len(pixels), False)
    if count_entries(planned_video):
        pixels, times = picks_without_help(planned_video, fps, threads=threads)
        np.testing.assert_array_equal(times, expected_times)
        np.testing.assert_array_equal(pixels, expected_pixels)


def test_packets_tell_where_decoding_can_begin(planned_video):
    assert count_entries(planned_video) == PLANNED[planned_video.name][3]


def test_few_frames_are_decoded_for_few_picks(planned_video):
    facts = survey(planned_video)
    if facts.index is None or not (facts.index.droppable.any() or facts.index.entries.sum() > 1):
        pytest.skip("every frame may be needed for the next")
    groups = facts.index.group(facts.timeline.ticks[38:39])
    assert len(groups) == 1
    assert len(groups[0].packets) < 36  # of 39 frames up to the pick, of which a closed group leaves half at most


@pytest.mark.parametrize("fps", [1, 4])
def test_fast_sampling_takes_key_frames_of_clips_and_other_references_else(planned_video, fps):
    facts = survey(planned_video)
    pixels, times, sampled = sample(planned_video, fps, sampling="fast")
    assert sampled.sampling == "fast"
    if facts.index is None:
        expected, expected_times, _ = sample(planned_video, fps)
        np.testing.assert_array_equal(pixels, expected)
        np.testing.assert_array_equal(times, expected_times)
        return
    np.testing.assert_array_equal(pixels, picks_without_help(planned_video, fps, cheap=True)[0])
    all_pixels, all_times = every_frame(planned_video)
    index, base = facts.index, facts.timeline.time_base
    first = facts.timeline.ticks[0]
    keys = [(int(tick - first) * base) for tick in np.sort(index.ticks[index.entries])]
    references = [(int(tick - first) * base) for tick in np.sort(index.ticks[~index.droppable])]
    for clip, (image, time) in enumerate(zip(pixels, times, strict=True)):
        begin, centre, end = ((clip + Fraction(part, 2)) / Fraction(fps) for part in range(3))
        inside = [key for key in keys if begin <= key < end]
        expected_time = min(inside or references, key=lambda shown: abs(shown - centre))
        assert time == facts.info.start + float(expected_time)
        np.testing.assert_array_equal(image, all_pixels[all_times.index(expected_time)])


def every_frame(path):
    facts = survey(path)
    preprocess = Preprocessor(Preprocessing(SIZE), facts.info.rotation)
    with open_video(path) as stream:
        frames = [(frame.pts, preprocess(frame)) for frame in decode_frames(stream, read_packets(stream))]
        base = stream.time_base
    return [image for _, image in frames], [(pts - frames[0][0]) * base for pts, _ in frames]


def sample_both_ways(path, fps):
    """Frames, times, facts and warnings of sampling with the packets' plan, and without it."""
    results = []
    for planned in (True, False):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                stream = sample_frames(path, fps, Preprocessing(SIZE))
                if not planned:
                    stream._survey = replace(stream._survey, index=None)
                batches = list(stream)
            except VideoError as error:
                results.append((str(error), None, None, []))
                continue
        pixels = np.concatenate([b.pixels for b in batches])
        times = np.concatenate([b.times for b in batches])
        results.append((pixels, times, stream.sampled, [str(w.message) for w in caught]))
    return results


def assert_same_both_ways(path, fps):
    (pixels, *rest), (expected_pixels, *expected) = sample_both_ways(path, fps)
    np.testing.assert_array_equal(pixels, expected_pixels)
    np.testing.assert_array_equal(rest[0], expected[0])
    assert rest[1:] == expected[1:]
    return rest[1]


@pytest.mark.parametrize("fps", [1, 25])
def test_every_real_video_gives_what_decoding_in_order_gives(fps):
    with_index = 0
    for path in sorted(shared_file("media").iterdir()):
        assert_same_both_ways(path, fps)
        with suppress(VideoError):
            with_index += survey(path).index is not None
    assert with_index >= 3


DAMAGED = ["closed_groups.mkv", "closed_groups.ts", "hevc_open_groups.mkv", "vp9_hidden_frames.webm", "av1.mkv"]


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("seed", range(3))
def test_damage_gives_what_decoding_in_order_gives(tmp_path, name, seed):
    codec, options, arguments, _ = PLANNED[name]
    path = write_moving(tmp_path / name, codec, options, **arguments)
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(seed)
    length = int(random.choice([3, 40, 400]))
    place = int(random.integers(len(content) // 5, len(content) - length))
    content[place : place + length] = random.bytes(length)
    path.write_bytes(bytes(content))
    assert_same_both_ways(path, 25)


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize(("share", "fps"), [(0.5, 25), (0.97, 25), (0.97, 0.7)])
def test_a_file_that_is_cut_off_gives_what_decoding_in_order_gives(tmp_path, name, share, fps):
    codec, options, arguments, _ = PLANNED[name]
    path = write_moving(tmp_path / name, codec, options, **arguments)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    assert_same_both_ways(path, fps)


def test_another_picture_size_midway_is_decoded_in_order(tmp_path):
    codec, options, _, _ = PLANNED["closed_groups.ts"]
    parts = [
        write_moving(tmp_path / "a.ts", codec, options),
        write_moving(tmp_path / "b.ts", codec, options, start=5, size=(128, 96)),
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert (count_entries(parts[0]), count_entries(parts[1]), count_entries(path)) == (5, 5, 0)
    pixels, _, _ = sample(path, 1)
    np.testing.assert_array_equal(pixels, sample_in_order(path, 1)[0])
    assert len(pixels) == 9


def test_an_edit_list_that_hides_frames_is_decoded_in_order(tmp_path):
    path = write_moving(tmp_path / "a.mp4", *PLANNED["closed_groups.mp4"][:2], start=Fraction(-1, 2))
    assert count_entries(path) == 0
    assert_same_both_ways(path, 3)


@pytest.mark.parametrize(("kind", "understood"), [("replay_gain", True), ("new_extradata", False), ("palette", False)])
def test_a_header_that_changes_midway_is_not_planned_for(tmp_path, kind, understood):
    path = write_moving(tmp_path / "a.mp4", *PLANNED["closed_groups.mp4"][:2])

    def change(packets):
        for number, packet in enumerate(packets):
            if number == 7:
                packet.set_sidedata(PacketSideData(get_args(PktSideDataT).index(kind), 4))
                assert packet.has_sidedata(kind)
            yield packet

    with open_video(path) as stream:
        indexer = PacketIndexer(stream)
        timeline = read_timeline(stream, indexer.watch(change(read_packets(stream))))
    assert (indexer.finish(timeline) is not None) == understood


@given(data=st.binary(max_size=60), codec=st.sampled_from(["h264", "hevc", "vp9", "av1"]), boxed=st.booleans())
def test_any_bytes_can_be_read(data, codec, boxed):
    read = choose_facts_reader(codec, b"\1" + bytes([0xFF] * 30) if boxed else None)
    assert read is not None
    facts = read(memoryview(data))
    assert facts is None or isinstance(facts, PacketFacts)


def test_key_frames_of_hevc_come_in_order_and_none_is_lost(tmp_path):
    # Over 128 frames apart: without those between, the decoder counts wrongly in which order they are shown.
    options = X265.replace("keyint=20:min-keyint=20", "keyint=150:min-keyint=150") + "open-gop=1"
    path = write_moving(tmp_path / "a.mkv", "libx265", {"x265-params": options, "preset": "ultrafast"}, frames=700)
    times = np.concatenate(
        [batch.times for batch in sample_frames(path, 0.5, Preprocessing(SIZE), sampling="keyframe")]
    )
    centres, keys = np.arange(14) * 2.0 + 1.0, np.arange(5) * 6.0
    nearest = np.abs(centres[:, None] - keys).argmin(axis=1)  # of two equally near, the earlier
    np.testing.assert_allclose(times, keys[nearest], atol=1e-6)
