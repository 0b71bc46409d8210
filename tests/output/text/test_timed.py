"""Formats with a player's times, read back by FFmpeg, by the standard library and by a Markdown parser."""

import csv
import io
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support.groundings import make_grounding

from r2tuning.datasets.custom import load_custom
from r2tuning.errors import OutputError
from r2tuning.output.registry import WRITERS, find_target, write_format
from r2tuning.output.text.json import to_json
from r2tuning.results import Grounding

HOUR = ((3595.31, 3599.9704, 0.875), (8.3335, 9.1, 0.5), (-0.25, 1.75, 0.25))


def read_cues(text: str, form: str) -> list[tuple[float, float, str]]:
    """Start, end and text of subtitles as FFmpeg demuxes them."""
    with av.open(io.BytesIO(text.encode()), format={"vtt": "webvtt"}.get(form, form)) as container:
        packets = [packet for packet in container.demux() if packet.pts is not None]
        return [
            (float(p.pts * p.time_base), float((p.pts + p.duration) * p.time_base), bytes(p).decode()) for p in packets
        ]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_cues_are_the_moments_in_time_order(form: Any) -> None:
    results = [
        make_grounding(moments=HOUR, start=8.33),
        make_grounding(moments=((3598.0, 3599.0, 1.0),), query="a dog"),
    ]
    assert read_cues(write_format(results, form), form) == [
        (0.0, 1.75, "a red circle falls (0.25)"),
        (8.334, 9.1, "a red circle falls (0.50)"),
        (3595.31, 3599.97, "a red circle falls (0.88)"),
        (3598.0, 3599.0, "a dog (1.00)"),
    ]


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_hours_and_the_shortest_cue(form: Any) -> None:
    ((start, end, _),) = read_cues(write_format([make_grounding(moments=((360_000.0, 360_000.0, 1.0),))], form), form)
    assert (start, end) == (360_000.0, 360_000.001)


def read_chapters(text: str) -> list[tuple[float, float, str]]:
    with av.open(io.BytesIO(text.encode()), format="ffmetadata") as container:
        return show_chapters(container)


def show_chapters(container: Any) -> list[tuple[float, float, str]]:
    return [
        (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"])
        for c in container.chapters()
    ]


def test_chapters_give_overlaps_to_the_better_moment() -> None:
    results = [
        make_grounding(moments=((10.0, 20.0, 0.9), (14.0, 26.0, 0.6), (30.0, 31.0, 0.2)), query="a dog"),
        make_grounding(moments=((8.0, 22.0, 0.5), (3590.0, 3599.5, 0.8)), query="a cat"),  # 2 of 14 s are free
    ]
    assert read_chapters(write_format(results, "ffmetadata")) == [
        (0.0, 10.0, "…"),
        (10.0, 20.0, "a dog (0.90)"),
        (20.0, 26.0, "a dog (0.60)"),
        (26.0, 30.0, "…"),
        (30.0, 31.0, "a dog (0.20)"),
        (31.0, 3590.0, "…"),
        (3590.0, 3599.5, "a cat (0.80)"),
    ]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 60), st.integers(1, 9)), max_size=12))
def test_chapters_follow_each_other_and_the_best_is_whole(spans: list[tuple[int, int, int]]) -> None:
    moments = [(start / 4, (start + length) / 4, score / 10) for start, length, score in spans]
    chapters = read_chapters(write_format([make_grounding(moments=moments)], "ffmetadata"))
    assert all(end == start for (_, end, _), (start, _, _) in pairwise(chapters))
    assert all(start < end for start, end, _ in chapters)
    named = [chapter for chapter in chapters if chapter[2] != "…"]
    assert bool(named) == bool(moments)
    for start, end, title in named:
        score = float(title[-5:-1])
        # a piece of a moment with that score, at least half of it
        assert any(
            m[2] == score
            and m[0] <= start
            and end <= max(m[1], m[0] + 0.001)
            and 2 * (end - start) >= m[1] - m[0] - 1e-9
            for m in moments
        )
    if moments:
        best = max(moments, key=lambda m: m[2])
        assert (best[0], max(best[1], round(best[0] + 0.001, 3)), f"a red circle falls ({best[2]:.2f})") in named


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_chapters_live_in_a_video(tmp_path: Path, suffix: str) -> None:
    moments = ((0.5, 1.25, 0.9), (1.5, 1.9, 0.8))
    text = write_format([make_grounding(moments=moments, query="a=b; #1 \\ 🎬")], "ffmetadata")
    with (
        av.open(io.BytesIO(text.encode()), format="ffmetadata") as source,
        av.open(str(tmp_path / f"a{suffix}"), "w") as target,
    ):
        target.set_chapters(source.chapters())
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(20):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        target.mux(stream.encode(None))
    with av.open(str(tmp_path / f"a{suffix}")) as video:
        assert show_chapters(video) == [
            (0.0, 0.5, "…"),
            (0.5, 1.25, "a=b; #1 \\ 🎬 (0.90)"),
            (1.25, 1.5, "…"),
            (1.5, 1.9, "a=b; #1 \\ 🎬 (0.80)"),
        ]


def test_csv_is_rfc_4180_and_a_table_to_train_from(tmp_path: Path) -> None:
    results = [make_grounding(), make_grounding(moments=((1.0, 2.5, 0.25),), query='two\nlines, "quoted"')]
    text = write_format(results, "csv")
    assert text.endswith("\r\n")
    assert list(csv.DictReader(io.StringIO(text, newline=""), strict=True))[1:] == [
        {
            "video": "trip.mp4",
            "start": "61.500",
            "end": "64.250",
            "query": "a red circle falls",
            "rank": "2",
            "score": "0.500000",
            "notes": "",
        },
        {
            "video": "trip.mp4",
            "start": "1.000",
            "end": "2.500",
            "query": 'two\nlines, "quoted"',
            "rank": "1",
            "score": "0.250000",
            "notes": "",
        },
    ]
    (tmp_path / "moments.csv").write_bytes(text.encode())
    first, second = load_custom(tmp_path / "moments.csv")
    assert (first.vid, first.query, first.moments) == ("trip.mp4", "a red circle falls", ((2.0, 6.0), (61.5, 64.25)))
    assert (second.query, second.moments) == ('two\nlines, "quoted"', ((1.0, 2.5),))


def test_every_line_of_jsonl_is_an_answer_of_json() -> None:
    results = [make_grounding(), make_grounding(query="two\nlines\u2028")]
    lines = write_format(results, "jsonl").removesuffix("\n").split("\n")
    assert [json.loads(line) for line in lines] == json.loads(to_json(results))


def read_tables(text: str) -> list[tuple[str, list[list[str]]]]:
    """Every heading of a Markdown text with the cells of the table below it, all as plain text."""
    found: list[tuple[str, list[list[str]]]] = []
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in pairwise(tokens):
        if token.type != "inline":
            continue
        assert {child.type for child in token.children} <= {"text", "text_special"}, token.content
        content = "".join(child.content for child in token.children)
        if before.type == "heading_open":
            found.append((content, []))
        elif before.type in ("th_open", "td_open"):
            rows = found[-1][1]
            if not rows or len(rows[-1]) == 6:
                rows.append([])
            rows[-1].append(content)
    return found


def test_markdown_has_a_table_for_each_video() -> None:
    results = [make_grounding(), make_grounding(moments=HOUR[2:], query="a | b"), make_grounding(video="other/b.mp4")]
    first, second = read_tables(write_format(results, "md"))
    assert first == (
        "trip.mp4",
        [
            ["query", "rank", "start", "end", "length", "score"],
            ["a red circle falls", "1", "0:02.0", "0:06.0", "0:04.0", "0.875"],
            ["a red circle falls", "2", "1:01.5", "1:04.2", "0:02.8", "0.500"],
            ["a | b", "1", "0:00.0", "0:01.8", "0:02.0", "0.250"],
        ],
    )
    assert second[0] == "b.mp4"
    assert write_format([make_grounding(moments=())], "md") == "# trip.mp4\n\nNo moments.\n"


@pytest.mark.parametrize("form", [form for form, writer in WRITERS.items() if writer.text])
def test_numbers_that_are_none_are_an_error(form: str) -> None:
    for moment in ((float("nan"), 1.0, 0.5), (0.0, float("inf"), 0.5), (0.0, 1.0, float("nan"))):
        with pytest.raises(OutputError) as caught:
            write_format([make_grounding(moments=(moment,))], form)
        assert "\n" not in str(caught.value)


def test_what_formats_ask_for() -> None:
    two: list[Grounding] = [make_grounding(), make_grounding(video="other.mp4")]
    with pytest.raises(ValueError, match="srt is about one video, not 2"):
        write_format(two, "srt")
    with pytest.raises(OutputError, match=r"trip\.mp4 does not exist.*edl counts frames"):
        write_format(two[:1], "edl")


@pytest.mark.parametrize(
    ("text", "form", "path"),
    [
        ("A.B.VTT", "vtt", "A.B.VTT"),
        ("json:-", "json", "-"),
        ("csv:a.dat", "csv", "a.dat"),
        ("sheet:a.PNG", "sheet", "a.PNG"),
        ("C:a.srt", "srt", "C:a.srt"),
        ("at 10:30.md", "md", "at 10:30.md"),
    ],
)
def test_the_format_is_that_of_the_suffix_or_the_prefix(text: str, form: str, path: str) -> None:
    target = find_target(text)
    assert (target.form, target.path) == (form, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.avi", "a.avi ends in .avi, which names no format: use .json, .jsonl"),
        ("a.sheet", "let its name end in .png or .svg or .pdf"),
        ("answers", "answers has no suffix"),
        ("-", "name the format too, such as json:-"),
        ("png:-", "- cannot hold the format png: let its name end in .png"),
        ("sheet:a.gif", "a.gif cannot hold the format sheet: let its name end in .png or .svg or .pdf"),
    ],
)
def test_files_of_no_format_are_refused(text: str, message: str) -> None:
    with pytest.raises(OutputError, match=re.escape(message)):
        find_target(text)
