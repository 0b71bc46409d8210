"""Moments leave in every format, with the times that were asked for."""

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import av
import pytest
from support.server import Client

from r2tuning.datasets import load_custom

MOMENTS = [{"query": "a blue cross", "start": 20.0, "end": 24.5, "score": 0.75}, {"start": 61.25, "end": 65.0}]


def export(client: Client, form: str, moments: list[dict[str, Any]], **more: Any) -> tuple[str, bytes]:
    """Name and content of an export."""
    reply = client.post("/export", {"format": form, "moments": moments} | more)
    if reply.status == 202:
        job = client.wait(reply.json["id"])
        assert (job["state"], job["error"]) == ("done", "")
        reply = client.get(f"/jobs/{job['id']}/result")
    assert reply.status == 200, reply.content
    name = reply.headers["content-disposition"].partition("; filename")[2]
    return name.removeprefix("*=utf-8''").removeprefix("=").strip('"'), reply.content


def test_text_has_the_moments(client: Client, ids: dict[str, str]) -> None:
    video = next(iter(ids.values()))
    moments = [one | {"video": video} for one in MOMENTS]
    name, content = export(client, "srt", moments)
    assert name == "moments.srt"
    assert b"00:00:20,000 --> 00:00:24,500\na blue cross (0.75)" in content.replace(b"\r\n", b"\n")
    assert b"00:01:01,250 --> 00:01:05,000" in content
    name, content = export(client, "json", moments)
    found = {answer["query"]: answer["moments"] for answer in json.loads(content)}
    assert found == {
        "a blue cross": [{"start": 20.0, "end": 24.5, "score": 0.75}],
        "": [{"start": 61.25, "end": 65.0, "score": 1.0}],
    }
    for form in ("jsonl", "csv", "md", "txt", "vtt", "ffmetadata", "edl", "otio", "fcpxml"):
        name, content = export(client, form, moments)
        assert name == f"moments.{form}"
        assert content


def test_several_videos_become_an_archive(client: Client, ids: dict[str, str]) -> None:
    moments = [MOMENTS[0] | {"video": video} for video in ids.values()]
    name, content = export(client, "srt", moments)
    assert name == "moments.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == ["moments-91000000.srt", "moments-91000002.srt"]
        assert b"00:00:20,000" in archive.read("moments-91000000.srt")


def test_corrected_moments_are_annotations_to_train_from(client: Client, ids: dict[str, str], tmp_path: Path) -> None:
    (first, one), (second, two) = ids.items()
    moments: list[dict[str, Any]] = [
        {"video": one, "query": "=a blue cross", "start": 20.125, "end": 24.5},
        {"video": two, "query": "a red heart"},
        {"video": one, "query": "=a blue cross", "start": 3, "end": 5},
    ]
    name, content = export(client, "custom", moments)
    assert name == "moments.csv"
    assert next(csv.reader(io.StringIO(content.decode()))) == ["video", "start", "end", "query"]
    (tmp_path / name).write_bytes(content)
    found = load_custom(tmp_path / name)
    assert [(each.vid, each.query, each.moments, each.absent) for each in found] == [
        (first, "=a blue cross", ((3.0, 5.0), (20.125, 24.5)), False),
        (second, "a red heart", (), True),
    ]
    client.post("/export", {"format": "srt", "moments": moments}).refused(422, "only custom takes others")


def length(content: bytes) -> float:
    with av.open(io.BytesIO(content)) as container:
        assert container.duration is not None
        return container.duration / 1e6


def test_clips_and_a_reel_last_as_long_as_the_moments(client: Client, ids: dict[str, str]) -> None:
    """The videos have a frame a second."""
    video = next(iter(ids.values()))
    moments: list[dict[str, Any]] = [
        {"video": video, "query": "one", "start": 20, "end": 24},
        {"video": video, "query": "two", "start": 60, "end": 65},
    ]
    name, content = export(client, "clips", moments, pad=1)
    assert name == "moments.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        assert names == ["01-one-0m20.0s-0m24.0s.mp4", "02-two-1m00.0s-1m05.0s.mp4"]
        assert [length(archive.read(each)) for each in names] == pytest.approx([6, 7], abs=0.05)
    name, content = export(client, "clips", moments[:1])
    assert (name, length(content)) == ("01-one-0m20.0s-0m24.0s.mp4", pytest.approx(4, abs=0.05))
    name, content = export(client, "mp4", moments)
    assert (name, length(content)) == ("moments.mp4", pytest.approx(9, abs=0.05))
    for form, start in (("gif", b"GIF89a"), ("sheet", b"\x89PNG"), ("html", b"<!DOCTYPE html>")):
        _, content = export(client, form, moments[:1])
        assert content[:15].lower().startswith(start.lower()), form


def test_moments_outside_of_the_video_are_refused(client: Client, ids: dict[str, str]) -> None:
    video = next(iter(ids.values()))
    moment = {"video": video, "query": "late", "start": 9000, "end": 9001}
    job = client.post("/export", {"format": "clips", "moments": [moment]}).check(202)
    failed = client.wait(job["id"])
    assert (failed["state"], failed["result"]) == ("failed", None)
    assert "shows nothing from 9000.000 s" in failed["error"]
    client.get(f"/jobs/{job['id']}/result").refused(404, "has no file")
    for wrong, text in (({"start": 5, "end": 5}, "end must be after start"), ({"start": 5}, "start and end")):
        asked = {"format": "srt", "moments": [{"video": video} | wrong]}
        client.post("/export", asked).refused(422, text)
