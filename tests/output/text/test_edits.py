"""Edit lists read back by OpenTimelineIO, its adapters and an XML parser: the frames are those of the moments."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit
from xml.etree import ElementTree

import av
import opentimelineio as otio
import pytest
from support.files import shared_file
from support.groundings import make_grounding
from support.videos import write_video

from r2tuning.errors import OutputWarning
from r2tuning.output.registry import write_format
from r2tuning.output.text.edits import Timecode, choose_rate
from r2tuning.results import Grounding
from r2tuning.types import VideoInfo
from r2tuning.video import probe

HOUR = 3600.0
START = 8.33
MOMENTS = ((3595.31, 3599.97, 0.9), (0.0, 4.004, 0.8), (1234.567, 1240.1, 0.7), (1237.0, 1239.0, 0.6))
RATES = {
    "23.976": Fraction(24000, 1001),
    "24": Fraction(24),
    "25": Fraction(25),
    "29.97": Fraction(30000, 1001),
    "29.97, estimated": Fraction(2997003, 100000),
    "59.94": Fraction(60000, 1001),
    "60": Fraction(60),
}


def video_of(rate: Fraction, *, variable: bool = False, path: str = "/films/trip.mp4", **changes: Any) -> VideoInfo:
    values = {"duration": HOUR, "start": START, "width": 640, "height": 360, "rotation": 0, "codec": "h264"} | changes
    return VideoInfo(path=path, frame_rate=rate, variable_frame_rate=variable, **values)


CASES = [pytest.param(video_of(rate), id=name) for name, rate in RATES.items()]
CASES.append(pytest.param(video_of(Fraction(2817, 100), variable=True), id="variable"))


def answer(video: VideoInfo, moments: Sequence[tuple[float, float, float]] = MOMENTS, **changes: Any) -> Grounding:
    """An answer whose moments are given in seconds from the first frame of the video."""
    shown = [(video.start + start, video.start + end, score) for start, end, score in moments]
    return make_grounding((), shown, video=video.path, duration=video.duration, start=video.start, **changes)


@dataclass(frozen=True)
class Event:
    """What a foreign reader found: exact or nearly exact seconds in the video and in the edit."""

    label: str
    start: Fraction | float
    end: Fraction | float
    place: Fraction | float


def read_edl(text: str, rate: Fraction) -> list[Event]:
    timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=float(rate))
    (track,) = timeline.tracks
    return [event_of(clip, comment(clip)) for clip in track.find_clips()]


def comment(clip: Any) -> str:
    (text,) = clip.metadata["cmx_3600"]["comments"]
    return str(text.removeprefix("COMMENT: "))


def read_otio(text: str, rate: Fraction) -> list[Event]:
    timeline = otio.adapters.read_from_string(text, "otio_json")
    return [event_of(clip, clip.name) for track in timeline.tracks for clip in track.find_clips()]


def event_of(clip: Any, label: str) -> Event:
    inside = clip.source_range
    place = clip.transformed_time(inside.start_time, clip.parent())
    return Event(label, inside.start_time.to_seconds(), inside.end_time_exclusive().to_seconds(), place.to_seconds())


def read_fcpxml(text: str, rate: Fraction) -> list[Event]:
    clips = ElementTree.fromstring(text).iterfind("library/event/project/sequence/spine/asset-clip")
    return [
        Event(clip.attrib["name"], seconds(clip, "start"), seconds(clip, "start", "duration"), seconds(clip, "offset"))
        for clip in clips
    ]


def seconds(element: ElementTree.Element, *attributes: str) -> Fraction:
    return sum((Fraction(element.attrib[name].removesuffix("s")) for name in attributes), Fraction(0))


Reader = Callable[[str, Fraction], list[Event]]
READERS: dict[str, Reader] = {"edl": read_edl, "otio": read_otio, "fcpxml": read_fcpxml}


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize("video", CASES)
def test_moments_of_an_hour_come_back_to_half_a_frame(form: Any, video: VideoInfo) -> None:
    rate = choose_rate(video)
    events = READERS[form](write_format([answer(video), answer(video, query="a dog")], form, video), rate)
    assert len(events) == 2 * len(MOMENTS)
    half = float(1 / rate / 2) + 1e-9
    length = Fraction(0)
    for event, (start, end, score) in zip(events, (*MOMENTS, *MOMENTS), strict=True):
        assert event.label.endswith(f" ({score:.2f})")
        assert abs(event.start - start) <= half
        assert abs(event.end - end) <= half
        # they follow each other; OpenTimelineIO keeps the whole number of frames as a float
        assert abs(event.place - length) <= 1e-9
        length += round((event.end - event.start) * rate) / rate
    assert events[0].label.startswith("a red circle falls")
    assert events[-1].label.startswith("a dog")


@pytest.mark.parametrize("video", CASES)
def test_fcpxml_is_read_by_a_program_that_counts_whole_frames_a_second(video: VideoInfo) -> None:
    """The adapter cuts off 29.97 to 29 frames a second, and so each time to a frame of those."""
    text = write_format([answer(video)], "fcpxml", video)
    (timeline,) = otio.adapters.read_from_string(text, "fcpx_xml")
    clips = list(timeline.find_clips())
    assert [clip.name[-6:] for clip in clips] == ["(0.90)", "(0.80)", "(0.70)", "(0.60)"]
    rate = choose_rate(video)
    for clip, (start, _, _) in zip(clips, MOMENTS, strict=True):
        read = clip.source_range.start_time.to_seconds()
        assert -1 / int(rate) - 1e-9 <= read - round(Fraction(start) * rate) / rate <= 1e-9
        assert clip.media_reference.target_url == "file:///films/trip.mp4"


def test_times_of_fcpxml_are_whole_frames_written_as_fractions() -> None:
    video = video_of(Fraction(30000, 1001))
    document = ElementTree.fromstring(write_format([answer(video)], "fcpxml", video))
    assert document.find("resources/format").attrib["frameDuration"] == "1001/30000s"
    names = ("start", "duration", "offset")
    times = [element.attrib[name] for element in document.iter() for name in names if name in element.attrib]
    assert len(times) > 20
    for time in times:
        assert time == "0s" or (time.endswith("/30000s") and int(time.partition("/")[0]) % 1001 == 0)


def test_timecode_is_that_of_smpte_without_dropped_frames() -> None:
    # 107,892 frames of 29.97 are an hour and 3.6 s less on the timecode: 59 min 56 s and 12 frames
    video = video_of(Fraction(30000, 1001))
    lines = write_format([answer(video, ((3590.0, 3600.0, 0.5),))], "edl", video).splitlines()
    assert lines == [
        "TITLE: trip.mp4",
        "FCM: NON-DROP FRAME",
        "",
        "001  AX       V     C        00:59:46:12 00:59:56:12 01:00:00:00 01:00:10:00",
        "* FROM CLIP NAME: trip.mp4",
        "* COMMENT: a red circle falls (0.50)",
    ]


@pytest.mark.parametrize("form", READERS)
def test_cuts_have_a_frame_and_stay_in_the_video(form: Any) -> None:
    video = video_of(Fraction(25))
    moments = ((10.0, 10.001, 0.5), (-3.0, 1.0, 0.4), (3599.0, 3700.0, 0.3), (3600.0, 3600.0, 0.2))
    events = READERS[form](write_format([answer(video, moments)], form, video), Fraction(25))
    found = [(float(event.start), float(event.end)) for event in events]
    assert found == [(10.0, 10.04), (0.0, 1.0), (3599.0, 3600.0), (3599.96, 3600.0)]


def test_every_query_has_its_track_and_its_keyword() -> None:
    video = video_of(Fraction(25))
    results = [answer(video), answer(video, query="a dog, then a cat"), answer(video, (), query="nothing")]
    timeline = otio.adapters.read_from_string(write_format(results, "otio", video), "otio_json")
    assert [track.name for track in timeline.tracks] == ["a red circle falls", "a dog, then a cat", "nothing"]
    first, second, _ = timeline.tracks
    assert second[0].schema_name() == "Gap"
    assert second[0].duration() == first.duration()
    assert dict(first[0].metadata["r2tuning"]) == {
        "query": "a red circle falls",
        "rank": 1,
        "score": 0.9,
        "start": pytest.approx(START + 3595.31),
        "end": pytest.approx(START + 3599.97),
    }
    document = ElementTree.fromstring(write_format(results, "fcpxml", video))
    keywords = document.findall("library/event/asset-clip/keyword")
    assert [k.attrib["value"] for k in keywords] == 4 * ["a red circle falls"] + 4 * ["a dog; then a cat"]
    assert [seconds(k, "start") for k in keywords[:2]] == [Fraction(89883, 25), 0]


def test_sound_comes_along_where_there_is_any(tmp_path: Path) -> None:
    assert not probe(write_video(tmp_path / "mute.mp4", frames=5)).has_audio
    assert probe(write_video(tmp_path / "loud.mp4", frames=5, audio=0.2)).has_audio

    video = video_of(Fraction(25), has_audio=True)
    results = [answer(video), answer(video, query="a dog")]
    timeline = otio.adapters.read_from_string(write_format(results, "otio", video), "otio_json")
    assert [track.kind for track in timeline.tracks] == ["Video", "Video", "Audio", "Audio"]
    for picture, sound in zip(timeline.video_tracks(), timeline.audio_tracks(), strict=True):
        assert [clip.range_in_parent() for clip in picture] == [clip.range_in_parent() for clip in sound]
    timeline = otio.adapters.read_from_string(write_format(results, "edl", video), "cmx_3600", rate=25.0)
    assert [(track.kind, len(track)) for track in timeline.tracks] == [("Video", 8), ("Audio", 8)]
    document = ElementTree.fromstring(write_format(results, "fcpxml", video))
    assert document.find("resources/asset").attrib["hasAudio"] == "1"
    silent = ElementTree.fromstring(write_format(results, "fcpxml", video_of(Fraction(25))))
    assert "hasAudio" not in silent.find("resources/asset").attrib


@pytest.mark.parametrize("form", READERS)
def test_no_moments(form: Any) -> None:
    video = video_of(Fraction(25))
    text = write_format([answer(video, ())], form, video)
    if form == "edl":
        assert text == "TITLE: trip.mp4\nFCM: NON-DROP FRAME\n"
    else:
        assert READERS[form](text, Fraction(25)) == []


@pytest.mark.parametrize(
    ("rate", "variable", "chosen"),
    [
        (Fraction(24000, 1001), False, Fraction(24000, 1001)),
        (Fraction(23976, 1000), False, Fraction(24000, 1001)),
        (Fraction(24), False, Fraction(24)),
        (Fraction(2997, 100), False, Fraction(30000, 1001)),
        (Fraction(15000, 1001), False, Fraction(30000, 1001)),
        (Fraction(25, 2), False, Fraction(25)),
        (Fraction(10), False, Fraction(30)),
        (Fraction(1), False, Fraction(24)),
        (Fraction(100), False, Fraction(60)),
        (Fraction(3002, 100), False, Fraction(60)),
        (Fraction(30), True, Fraction(60)),
    ],
)
def test_rates(rate: Fraction, variable: bool, chosen: Fraction) -> None:
    assert choose_rate(video_of(rate, variable=variable)) == chosen


def test_rates_of_files(tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mkv", fps=Fraction(24000, 1001), frames=30)  # stamped in milliseconds
    assert choose_rate(probe(film)) == Fraction(24000, 1001)
    times = [0, 0.04, 0.1, 0.13, 0.3, 0.31, 0.5, 0.62]
    assert choose_rate(probe(write_video(tmp_path / "phone.mp4", times=times))) == 60


@pytest.mark.parametrize("name", ['a b\'s "x".mp4', "🎬 50% #1?.mp4", "x" * 251 + ".mp4", "caf\udce9\n.mp4"])
def test_files_are_named_by_urls(name: str) -> None:
    video = video_of(Fraction(25), path=f"films/{name}")
    timeline = otio.adapters.read_from_string(write_format([answer(video)], "otio", video), "otio_json")
    (url,) = {clip.media_reference.target_url for clip in timeline.find_clips()}
    assert (
        ElementTree.fromstring(write_format([answer(video)], "fcpxml", video)).find("resources/asset").attrib["src"]
        == url
    )
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("file", "", "", "")
    assert url.isascii()
    assert os.fsdecode(unquote_to_bytes(parts.path)) == str(Path.cwd() / "films" / name)


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(60000, 1001)])
def test_drop_frame_timecode_is_that_of_opentimelineio(rate: Fraction) -> None:
    timecode = Timecode(round(rate), drop=True)
    day = timecode.count(24, 0, 0, 0)
    for number in [*range(0, 2000, 7), *range(17_970, 18_100), *range(35_900, 36_100), *range(3, day, 9973), day - 1]:
        text = otio.opentime.to_timecode(otio.opentime.RationalTime(number, float(rate)), float(rate), True)
        assert timecode.write(number) == text
        hours, minutes, seconds, frames = (int(part) for part in text.replace(";", ":").split(":"))
        assert timecode.count(hours, minutes, seconds, frames) == number
    assert timecode.write(day + 5) == timecode.write(5)


TIMECODES = {
    "10:00:00:00": (Fraction(25), 900_000, "10:00:02:12"),
    "01:00:00:00": (Fraction(30000, 1001), 108_000, "01:00:02:15"),
    "00:59:58;28": (Fraction(30000, 1001), 107_860, "01:00:01;13"),
    "23:59:59:23": (Fraction(24000, 1001), 2_073_599, "00:00:02:11"),
    "00:00:59;58": (Fraction(60000, 1001), 3598, "00:01:02;32"),
    "10:00:00:05": (Fraction(10), 1_080_015, "10:00:03:00"),
    "not one": (Fraction(25), 0, "00:00:02:12"),
    "10:61:00:00": (Fraction(25), 0, "00:00:02:12"),
}
"""Rate, number of the first frame, and timecode 2.5 s later, to the nearest frame, by the arithmetic of SMPTE ST 12-1.

``ffmpeg -i 16… -vf "drawtext=timecode='10\\:00\\:00\\:00':rate=25"`` counts in the same way.
"""


@pytest.mark.parametrize("timecode", TIMECODES)
def test_edit_lists_carry_the_timecode(timecode: str) -> None:
    rate, begin, later = TIMECODES[timecode]
    video = video_of(rate, timecode=timecode)
    answers = [answer(video, [(2.5, 4.0, 0.9)])]
    drop = ";" in timecode
    edl = write_format(answers, "edl", video).splitlines()
    assert edl[1] == ("FCM: DROP FRAME" if drop else "FCM: NON-DROP FRAME")
    event = edl[3].split()
    assert (event[4], event[6]) == (later, "01:00:00;00" if drop else "01:00:00:00")

    (clip,) = otio.adapters.read_from_string(write_format(answers, "otio", video), "otio_json").find_clips()
    counted = choose_rate(video)
    first = begin + round(Fraction(5, 2) * counted)
    assert clip.source_range.start_time.value == first
    assert clip.media_reference.available_range.start_time.value == begin

    tree = ElementTree.fromstring(write_format(answers, "fcpxml", video).partition("<!DOCTYPE fcpxml>")[2])
    asset, project = tree.find(".//asset"), tree.find(".//spine/asset-clip")
    assert seconds_of(asset.get("start")) == begin / counted
    assert seconds_of(project.get("start")) == seconds_of(tree.find(".//keyword").get("start")) == first / counted
    assert {node.get("tcFormat") for node in tree.iter() if node.get("tcFormat")} == {"DF" if drop else "NDF"}

    zero = write_format(answers, "edl", video, timecode="zero")
    assert zero == write_format(answers, "edl", video_of(rate))


def seconds_of(text: str) -> Fraction:
    return Fraction(text.removesuffix("s"))


def test_timecode_is_read_from_the_file(tmp_path: Path) -> None:
    """``ffprobe -show_entries stream_tags=timecode 16…`` shows 10:00:00:00; other containers store it elsewhere."""
    assert probe(shared_file("bugs/16_timecode_10h.mov")).timecode == "10:00:00:00"
    for name, codec in {"a.mov": "libx264", "a.mp4": "libx264", "a.mkv": "libx264", "a.mxf": "mpeg2video"}.items():
        write_video(tmp_path / f"plain-{name}", frames=5, fps=25, codec=codec, b_frames=0)
        with av.open(str(tmp_path / f"plain-{name}")) as source, av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream_from_template(source.streams.video[0], True)
            container.metadata["timecode"] = "09:58:57:24"
            for packet in source.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    container.mux(packet)
        assert probe(tmp_path / name).timecode == "09:58:57:24", name
    assert probe(tmp_path / "plain-a.mkv").timecode is None


def test_more_events_than_an_edl_can_number_are_warned_of() -> None:
    video = video_of(Fraction(25))
    with pytest.warns(OutputWarning, match="an EDL of 1000 events: .* read the first 999; write .otio or .fcpxml"):
        text = write_format([answer(video, [(i, i + 1, 0.5) for i in range(1000)])], "edl", video)
    assert "\n1000  AX" in text
    write_format([answer(video, [(i, i + 1, 0.5) for i in range(999)])], "edl", video)
