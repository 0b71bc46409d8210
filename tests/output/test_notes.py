"""Every format says what limits an answer, at its own place for that, and keeps its moments."""

import csv
import io
import json
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import av
import opentimelineio as otio
import pytest
from support.files import read_texts
from support.groundings import make_grounding

from r2tuning.output.charts.grounding import plot_comparison, plot_grounding
from r2tuning.output.registry import WRITERS, write_format
from r2tuning.results import Grounding
from r2tuning.types import VideoInfo

VIDEO = VideoInfo("trip.mp4", 70.0, 0.0, 64, 48, 0, Fraction(25), False, "h264")
WARNINGS = {
    "domain": ({"domain_warning": "The video is unlike the training data"}, "The video is unlike the training data."),
    "truncated video": (
        {"video_truncated": True},
        "The file ends early or is damaged: the answer covers its first 70.0 seconds.",
    ),
    "cut query": ({"query_truncated": True}, "The query is too long: the model read only its beginning."),
    "language": ({"query_warning": "is not English"}, "The query is not English."),
    "absent": (
        {"presence": 0.25, "presence_threshold": 0.5},
        "Probably not in this video (presence 0.25, threshold 0.50).",
    ),
}
AWKWARD = "one\n\n--> <b>two</b> {\\an8}; =x #\n00:00:00.000 --> 00:00:09.000"
PLAIN = [form for form, writer in WRITERS.items() if writer.text]


def write(*results: Grounding, form: str) -> str:
    return write_format(list(results), form, VIDEO)


def read_cues(text: str, form: str) -> list[tuple[float, float, str]]:
    with av.open(io.BytesIO(text.encode()), format={"vtt": "webvtt"}.get(form, form)) as container:
        packets = [packet for packet in container.demux() if packet.pts is not None]
    return [(p.pts / 1000, (p.pts + p.duration) / 1000, bytes(p).decode()) for p in packets]


@pytest.mark.parametrize(("facts", "text"), WARNINGS.values(), ids=WARNINGS)
@pytest.mark.parametrize("form", PLAIN)
def test_no_format_keeps_a_warning_to_itself(form: str, facts: dict[str, object], text: str) -> None:
    assert make_grounding(**facts).notes[0].text == text
    shown = write(make_grounding(**facts), form=form)
    if form == "edl":
        shown = shown.replace("\n* COMMENT:", "")
    assert text in " ".join(shown.replace("\\", "").split())
    assert text not in write(make_grounding(), form=form)


@pytest.mark.parametrize(("facts", "text"), WARNINGS.values(), ids=WARNINGS)
def test_charts_have_it_below_the_title(tmp_path: Path, facts: dict[str, object], text: str) -> None:
    answer, clean = make_grounding(**facts), make_grounding(model="other")
    plot_grounding(answer, tmp_path / "a.svg")
    assert text in " ".join(read_texts(tmp_path / "a.svg"))
    plot_comparison([answer, clean], ["mine", "theirs"], tmp_path / "b.svg")
    assert f"mine: {text}" in " ".join(read_texts(tmp_path / "b.svg"))
    assert "theirs:" not in " ".join(read_texts(tmp_path / "b.svg"))


TWO = make_grounding(query_truncated=True), make_grounding(query="a dog")
CUT = "a red circle falls: The query is too long: the model read only its beginning."


def test_a_note_names_its_query_unless_it_holds_for_all() -> None:
    assert f"NOTE {CUT}\n\n" in write(*TWO, form="vtt")
    same = make_grounding(video_truncated=True), make_grounding(video_truncated=True, query="a dog")
    assert write(*same, form="vtt").count("NOTE The file ends early") == 1


def test_csv_has_a_column() -> None:
    rows = list(csv.DictReader(io.StringIO(write(*TWO, form="csv"), newline=""), strict=True))
    assert [row["notes"] for row in rows] == 2 * ["The query is too long: the model read only its beginning."] + 2 * [
        ""
    ]


def test_webvtt_has_comments_and_the_same_cues() -> None:
    answer = make_grounding(query=AWKWARD, query_truncated=True)
    text = write(answer, make_grounding(query="b"), form="vtt")
    notes = text.split("\n\n")[1]
    assert notes.startswith("NOTE one ")
    assert "-->" not in notes
    clean = write(make_grounding(query=AWKWARD), make_grounding(query="b"), form="vtt")
    assert read_cues(text, "vtt") == read_cues(clean, "vtt")


def test_srt_shows_warnings_at_the_start_of_the_video() -> None:
    """SubRip has no comments. That a query is probably in the video is no warning."""
    late = make_grounding(moments=((8.5, 9.0, 0.5),), start=8.25, query_truncated=True)
    first, second = read_cues(write(late, form="srt"), "srt")
    assert first == (8.25, 13.25, "The query is too long: the model read only its beginning.")
    assert second == (8.5, 9.0, "a red circle falls (0.50)")
    (only,) = read_cues(write(make_grounding(moments=(), threshold=0.9, best_score=0.75), form="srt"), "srt")
    assert only == (0.0, 5.0, "No moment scores 0.90 or more; the best has 0.75.")
    present = make_grounding(presence=0.75, presence_threshold=0.5, windows=3)
    assert write(present, form="srt") == write(make_grounding(), form="srt")
    assert write(present, form="vtt") != write(make_grounding(), form="vtt")


def test_chapters_have_the_comment_of_the_file() -> None:
    answers = make_grounding(query=AWKWARD, query_truncated=True), make_grounding(query="b")
    with av.open(io.BytesIO(write(*answers, form="ffmetadata").encode()), format="ffmetadata") as container:
        (key, value), *_ = container.metadata.items()
        assert len(container.chapters()) == 4
    assert key == "comment"
    assert value == f"{' '.join(AWKWARD.split())}: The query is too long: the model read only its beginning."


def test_an_edl_has_comments_on_its_first_event() -> None:
    text = write(*TWO, form="edl")
    assert max(map(len, text.splitlines())) <= 80
    first, *rest = otio.adapters.read_from_string(text, "cmx_3600", rate=25.0).find_clips()
    comments = [comment.removeprefix("COMMENT: ") for comment in first.metadata["cmx_3600"]["comments"]]
    assert comments[0] == "a red circle falls (0.88)"
    assert " ".join(comments[1:]) == CUT
    assert [len(clip.metadata["cmx_3600"]["comments"]) for clip in rest] == [1, 1, 1]
    # Before the first event, OpenTimelineIO reads no comments.
    empty = write(make_grounding(moments=(), query_truncated=True), form="edl")
    assert not list(otio.adapters.read_from_string(empty, "cmx_3600", rate=25.0).find_clips())


def test_otio_has_them_in_the_metadata_of_the_track() -> None:
    timeline = otio.adapters.read_from_string(write(*TWO, form="otio"), "otio_json")
    first, second = (json.loads(json.dumps(_plain(track.metadata["r2tuning"]))) for track in timeline.tracks)
    text = "The query is too long: the model read only its beginning."
    assert first == {"query": "a red circle falls", "notes": [{"kind": "query", "text": text}]}
    assert second == {"query": "a dog", "notes": []}


def _plain(value: object) -> object:
    if hasattr(value, "items"):
        return {key: _plain(inner) for key, inner in value.items()}
    return value if isinstance(value, str) else [_plain(inner) for inner in value]  # type: ignore[attr-defined]


def test_fcpxml_has_a_note_before_everything_else() -> None:
    """The DTD of FCPXML 1.8 wants ``note`` to be the first child of ``asset-clip`` and of ``sequence``."""
    text = write(*TWO, form="fcpxml")
    tree = ElementTree.fromstring(text)
    for place in ("library/event/asset-clip", "library/event/project/sequence"):
        assert (tree.find(place)[0].tag, tree.find(place)[0].text) == ("note", CUT)
    (timeline,) = otio.adapters.read_from_string(text, "fcpx_xml")
    assert len(list(timeline.find_clips())) == 4
