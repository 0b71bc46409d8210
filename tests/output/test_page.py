"""The page as a file: what it holds, what it refers to, and what it cannot be made to do."""

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urljoin, urlsplit

import pytest
from support.groundings import make_grounding
from support.videos import write_video

from r2tuning.errors import OutputError
from r2tuning.output import page as report
from r2tuning.output.page import check_embedding, link_file, write_page
from r2tuning.output.registry import write_format
from r2tuning.types import Moment

HOSTILE = (
    "</script><script>alert(1)</script><!-- <script \"'`&amp;\\ ${data} $data 🎬 \u2028\u2029 \x00\x1b\r\n \ud83d é"
)
NAMES = ["a b.mp4", 'it\'s "it".mp4', "#1? 50%.mp4", "-$data;&amp;<b>.mp4", "🎬 切.mp4", "a\nb.mp4", "caf\udce9.mp4"]
NAMES += ["x" * 251 + ".mp4", "http:a.mp4"]


class Page(HTMLParser):
    """A page as a browser's parser sees it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = False
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")

        self.inside = True

    def handle_endtag(self, tag: str) -> None:
        self.inside = False  # what follows belongs to no element that is looked at

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data

    def all(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, text) for (name, attrs), text in zip(self.elements, self.texts, strict=True) if name == tag]

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(next(text for attrs, text in self.all("script") if attrs.get("id") == "data"))

    @property
    def answers(self) -> list[dict[str, Any]]:
        return json.loads(self.data["files"][0]["text"])

    @property
    def source(self) -> str:
        ((attributes, _),) = self.all("video")
        return attributes["src"] or ""


def write(folder: Path, *results: Any, **options: Any) -> Page:
    write_page(results or (make_grounding(),), folder / "page.html", **options)
    return Page(folder / "page.html")


def test_it_refers_to_the_video_and_nothing_else(tmp_path: Path) -> None:
    page = write(tmp_path, make_grounding(video=str(tmp_path / "trip.mp4")))
    addresses = [value for _, a in page.elements for name, value in a.items() if name in ("src", "href", "srcset")]
    assert [urlsplit(address).scheme for address in addresses] == ["data", ""]
    assert page.source == "trip.mp4"
    assert [(name, a) for name, a in page.elements if "style" in a or any(key.startswith("on") for key in a)] == []
    for _, text in (*page.all("style"), *page.all("script")):
        assert re.findall(r"url\(|@import|fetch\(|innerHTML|XMLHttp|import\(|eval\(", text) == []


def test_only_its_own_script_and_style_may_run(tmp_path: Path) -> None:
    page = write(tmp_path, make_grounding(query=HOSTILE))
    ((_, style),), scripts = page.all("style"), page.all("script")
    assert [attributes for attributes, _ in scripts] == [{"type": "application/json", "id": "data"}, {"type": "module"}]
    (policy,) = [a["content"] for a, _ in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for name, text in (("style-src", style), ("script-src", scripts[1][1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules.pop(name) == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'"
    assert rules["media-src"] == "'self' file:"
    # Only what stands below it in the page is bound by the policy.
    names = [name for name, _ in page.elements]
    assert names[:4] == ["html", "head", "meta", "meta"]


@pytest.mark.parametrize("text", [HOSTILE, "", "-->", "<!--<script>", "\udfff\ud800"])
def test_any_query_and_name_arrive_as_they_are(tmp_path: Path, text: str) -> None:
    page = write(tmp_path, make_grounding(query=text), make_grounding(query="a dog"))
    assert [answer["query"] for answer in page.answers] == [text, "a dog"]
    assert len(page.all("script")) == 2


@pytest.mark.parametrize("name", NAMES)
def test_the_address_leads_to_the_video(tmp_path: Path, name: str) -> None:
    for folder in ("pages", "videos #1"):
        (tmp_path / folder).mkdir()
    (tmp_path / "videos #1" / name).touch()
    page = write(tmp_path / "pages", make_grounding(video=str(tmp_path / "videos #1" / name)))
    address = urlsplit(urljoin((tmp_path / "pages" / "page.html").as_uri(), page.source))
    assert (address.scheme, address.query, address.fragment) == ("file", "", "")
    assert os.path.isfile(unquote_to_bytes(address.path))  # noqa: PTH113 (bytes are no Path)
    assert re.fullmatch(r"[\w.~%/-]+", page.source, re.ASCII)
    shown = "".join(text for _, text in page.all("title"))
    assert shown == " ".join(name.split()).replace("\udce9", "\N{REPLACEMENT CHARACTER}")


def test_relative_paths_are_those_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert link_file("a.mp4", Path()) == "a.mp4"
    assert link_file("a.mp4", Path("out")) == "../a.mp4"
    assert link_file(str(tmp_path / "b" / "a.mp4"), Path("out")) == "../b/a.mp4"


def test_the_downloads_are_what_other_commands_write(tmp_path: Path) -> None:
    results = [make_grounding(query="a dog, a cat"), make_grounding(query="two")]
    write_page(results, tmp_path / "my answers.html")
    files = Page(tmp_path / "my answers.html").data["files"]
    assert [file["name"] for file in files] == ["my answers.json", "my answers.csv", "my answers.srt"]
    for file, form in zip(files, ("json", "csv", "srt"), strict=True):
        assert file["text"] == write_format(results, form)


def test_what_limits_an_answer_is_said(tmp_path: Path) -> None:
    limits = {"sampling": "keyframe", "video_truncated": True, "query_truncated": True, "windows": 3}
    page = write(tmp_path, make_grounding(**limits), make_grounding(presence=0.25, presence_threshold=0.5))
    first, second = ([note["text"] for note in answer["notes"]] for answer in page.answers)
    for note, word in zip(first, ("key frames", "first 70.0", "too long", "3 overlapping windows"), strict=True):
        assert word in note
    assert second == ["Probably not in this video (presence 0.25, threshold 0.50)."]


def test_peaks_stand_for_moments_that_are_not_there(tmp_path: Path) -> None:
    page = write(tmp_path, make_grounding(moments=()), make_grounding([0.0, -0.5], ()), make_grounding())
    assert page.data["peaks"] == [[{"start": 14.0, "end": 42.0, "score": 0.5}], [], []]


def test_a_video_may_be_embedded(tmp_path: Path) -> None:
    video = tmp_path / "trip.webm"
    write_video(video, codec="libvpx")
    page = write(tmp_path, make_grounding(video=str(video)), embed=True)
    head, _, content = page.source.partition(",")
    assert head == "data:video/webm;base64"
    assert base64.b64decode(content, validate=True) == video.read_bytes()
    (policy,) = [a["content"] or "" for a, _ in page.all("meta") if a.get("http-equiv")]
    assert "media-src data:;" in policy


def test_what_cannot_be_embedded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = tmp_path / "trip.mp4"
    video.write_bytes(b"x" * 1_000_001)
    monkeypatch.setattr(report, "MAX_EMBEDDED", 1_000_000)
    refused = {
        str(video): r"trip\.mp4 has 1\.0 MB.* up to 1 MB",
        str(tmp_path / "no.mp4"): r"no\.mp4 cannot be embedded",
    }
    for name, words in refused.items():
        for attempt in (
            lambda name=name: check_embedding(name),
            lambda name=name: write_page([make_grounding(video=name)], tmp_path / "p.html", embed=True),
        ):
            with pytest.raises(OutputError, match=f"{words}.*leave --embed away"):
                attempt()
    assert list(tmp_path.iterdir()) == [video]


def test_nothing_is_written_of_a_result_that_is_not_finite(tmp_path: Path) -> None:
    for bad in (replace(make_grounding(), moments=[Moment(0, 1, float("nan"))]), make_grounding([float("inf")], ())):
        with pytest.raises(OutputError):
            write_page([bad], tmp_path / "p.html")
    assert list(tmp_path.iterdir()) == []


def test_a_page_may_be_about_several_videos(tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a 1.mp4", "b.mp4")]
    results = [make_grounding(video=video, query=query) for video in names for query in ("a dog", "a cat")]
    page = write(tmp_path, *results)
    assert page.source == "a%201.mp4"
    assert page.data["videos"] == [
        {"name": "a 1.mp4", "link": "a 1.mp4", "source": None},
        {"name": "b.mp4", "link": "b.mp4", "source": "b.mp4"},
    ]
    assert page.data["of"] == [0, 0, 1, 1]
    assert [file["name"] for file in page.data["files"]] == ["page.json", "page.csv"]  # subtitles are of one video
    assert "".join(text for _, text in page.all("title")) == "2 videos: a 1.mp4, b.mp4"


def test_a_page_overwrites_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(OutputError, match="--force"):
        write(tmp_path)
    assert write(tmp_path, make_grounding(query="new"), force=True).answers[0]["query"] == "new"
