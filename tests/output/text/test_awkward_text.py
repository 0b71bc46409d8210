"""Queries and file names that mean something to a format: in none do they become more than text."""

import csv
import io
import json
from fractions import Fraction
from typing import Any
from xml.etree import ElementTree

import av
import opentimelineio as otio
import pytest
from markdown_it import MarkdownIt
from support.groundings import make_grounding

from r2tuning.errors import show_on_one_line
from r2tuning.output.registry import WRITERS, write_format
from r2tuning.types import VideoInfo

QUERIES = {
    "html": "</script><b>bold</b> &amp; <!-- --> ]]>",
    "subtitle": "one\n\n00:00:01,000 --> 00:00:02,000\r\n{\\an8}two\\N --> three",
    "quotes": "she says \"it's\", 'no'; `ls` $HOME",
    "cells": "a|b || * _c_ [d](e) # f\n\n- g\n1. h ~i~ https://a.org @you ![j](k)",
    "chapter": ";FFMETADATA1\n[CHAPTER]\nSTART=0 #a=b\\",
    "edl": "002  AX V C\nFCM: DROP FRAME * LOC: 01:00:00:00 RED x",
    "letters": "🎬 切蔬菜 é שלום \N{RIGHT-TO-LEFT OVERRIDE}",
    "not characters": "nul\0 bell\a escape\x1b[31m half\udcff \ufffe\u2028line\x85",
    "formula": '=HYPERLINK("a")',
    "spaces": " \t a  b \n",
    "nothing": "",
    "long": "long " * 400,
}
NAMES = ['a b\'s "x".mp4', "🎬 50% #1?.mp4", "x" * 251 + ".mp4", "caf\udce9\n|<b>.mp4", "-o=;,.mp4"]
FORMS = [form for form, writer in WRITERS.items() if writer.text]


def write(form: Any, query: str = "a dog", name: str = "trip.mp4") -> str:
    """Answers to an awkward query and to a plain one, as UTF-8 lets them through."""
    video = VideoInfo(f"films/{name}", 70.0, 0.0, 64, 48, 0, Fraction(25), False, "h264")
    results = [make_grounding(query=query, video=video.path), make_grounding(query="plain", video=video.path)]
    return write_format(results, form, video).encode("utf-8").decode("utf-8")


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_subtitles(form: Any, query: str) -> None:
    with av.open(io.BytesIO(write(form, query).encode()), format={"vtt": "webvtt"}.get(form, form)) as container:
        packets = [packet for packet in container.demux() if packet.pts is not None]
    assert [(p.pts, p.duration) for p in packets] == 2 * [(2000, 4000)] + 2 * [(61500, 2750)]
    text = bytes(packets[0]).decode().replace("\N{WORD JOINER}", "")
    if form == "vtt":
        text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    assert text == f"{show_on_one_line(query)} (0.88)".lstrip()


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_srt_shows_the_query_and_styles_nothing(query: str) -> None:
    with av.open(io.BytesIO(write("srt", query).encode()), format="srt") as container:
        codec = av.CodecContext.create("subrip", "r")
        packet = next(packet for packet in container.demux() if packet.pts is not None)
        (line,) = (shape.ass for shape in codec.decode2(packet))
    text = line.decode().split(",", maxsplit=8)[8].replace("\N{WORD JOINER}", "")
    assert text == f"{show_on_one_line(query)} (0.88)".lstrip()


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_chapters(query: str) -> None:
    with av.open(io.BytesIO(write("ffmetadata", query).encode()), format="ffmetadata") as container:
        titles = [chapter["metadata"]["title"] for chapter in container.chapters()]
        assert container.metadata == {}
    # the plain query asks for the same moments, which are taken
    assert titles == [
        "…",
        f"{show_on_one_line(query)} (0.88)".lstrip(),
        "…",
        f"{show_on_one_line(query)} (0.50)".lstrip(),
    ]


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_csv(query: str) -> None:
    rows = list(csv.reader(io.StringIO(write("csv", query), newline=""), strict=True))
    assert [len(row) for row in rows] == 5 * [7]
    kept = "".join(c if c in "\t\n\r\x85" or ord(c) >= 32 else "\N{REPLACEMENT CHARACTER}" for c in query)
    quote = "'" if query.startswith("=") else ""  # against spreadsheets, which would run it
    assert rows[1][3] == quote + kept.replace("\udcff", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_json_and_its_lines(query: str) -> None:
    lines = write("jsonl", query).split("\n")
    assert len(lines) == 3
    assert [json.loads(line) for line in lines[:2]] == json.loads(write("json", query))
    assert json.loads(lines[0])["query"] == query


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_markdown(query: str) -> None:
    text = write("md", query)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    assert [token.type for token in tokens].count("td_open") == 4 * 6
    cells = [token for token in tokens if token.type == "inline"]
    assert {child.type for cell in cells for child in cell.children} <= {"text", "text_special"}
    shown = ["".join(child.content for child in cell.children) for cell in cells]
    assert shown[:2] == ["trip.mp4", "query"]
    assert shown[7] == show_on_one_line(query)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_edl(query: str) -> None:
    text = write("edl", query)
    assert text.isascii()
    assert text.isprintable() or set(text) - {"\n"} <= {chr(c) for c in range(32, 127)}
    assert max(map(len, text.split("\n"))) <= 80
    clips = list(otio.adapters.read_from_string(text, "cmx_3600", rate=25.0).find_clips())
    assert len(clips) == 4
    for clip in clips:
        assert clip.name == "trip.mp4"
        assert len(clip.metadata["cmx_3600"]["comments"]) == 1
        assert not clip.markers


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_otio(query: str) -> None:
    timeline = otio.adapters.read_from_string(write("otio", query), "otio_json")
    clips = list(timeline.find_clips())
    assert clips[0].name == f"{show_on_one_line(query)} (0.88)".lstrip()
    assert clips[0].metadata["r2tuning"]["query"] == timeline.tracks[0].name == show_on_one_line(query)


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
def test_fcpxml(query: str) -> None:
    text = write("fcpxml", query)
    clips = ElementTree.fromstring(text).findall("library/event/project/sequence/spine/asset-clip")
    assert clips[0].attrib["name"] == f"{show_on_one_line(query)} (0.88)".lstrip()
    (timeline,) = otio.adapters.read_from_string(text, "fcpx_xml")
    assert [clip.name for clip in timeline.find_clips()] == [clip.attrib["name"] for clip in clips]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_names_of_files(form: Any, name: str) -> None:
    text = write(form, name=name)
    shown = show_on_one_line(name)
    if form in ("json", "jsonl"):
        first = json.loads(text)[0] if form == "json" else json.loads(text.splitlines()[0])
        assert first["video"] == f"films/{name}"
    elif form == "csv":
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        assert rows[1][0] == f"films/{name}".replace("\udce9", "\N{REPLACEMENT CHARACTER}")
    elif form == "md":
        (heading,) = (t for t in MarkdownIt().parse(text) if t.type == "inline" and t.level == 1 and t.map == [0, 1])
        assert "".join(child.content for child in heading.children) == shown
    elif form == "txt":
        assert shown in " ".join(text.split()) or len(shown) > 120  # long names are wrapped
        assert not any(ord(c) < 32 or c == "\udce9" for c in text.replace("\n", ""))
    elif form == "edl":
        (title,) = (line for line in text.splitlines() if line.startswith("TITLE: "))
        assert len(title) <= 80
        assert len(list(otio.adapters.read_from_string(text, "cmx_3600", rate=25.0).find_clips())) == 4
    elif form == "otio":
        assert otio.adapters.read_from_string(text, "otio_json").name == shown
    elif form == "fcpxml":
        assert ElementTree.fromstring(text).find("resources/asset").attrib["name"] == shown
    else:
        assert shown not in text  # subtitles and chapters go with their video and do not name it
