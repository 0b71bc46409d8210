"""No answer of the server says where its files are."""

import base64
import io
import json
import re
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree
from typing import Any, get_args

import pytest
from support.server import Client, Reply, running
from support.videos import write_video

import r2tuning
from r2tuning import Library
from r2tuning.checkpoints.published import DEMO_FOLDER
from r2tuning.server.exports import Format


class Listener(Client):
    """Keeps what the server answers, and what it was asked."""

    def __init__(self, client: Client) -> None:
        super().__init__(client.host, client.port)
        self.heard: list[tuple[str, str, Reply]] = []

    def send(self, method: str, path: str, *args: Any, **headers: Any) -> Reply:
        reply = super().send(method, path, *args, **headers)
        self.heard.append((method, path.partition("?")[0], reply))
        return reply


def unpack(reply: Reply) -> Iterator[bytes]:
    """What an answer holds: its headers, its content, and the files of an archive."""
    yield str(reply.headers).encode()
    yield reply.content
    if reply.content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(reply.content)) as archive:
            yield from (name.encode() + archive.read(name) for name in archive.namelist())


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Videos of all kinds, and a model in a folder, whose place is nobody's business either."""
    (tmp_path / "videos").mkdir()
    for number in range(2):
        write_video(tmp_path / "videos" / f"{number} ü.mp4", frames=20 + number, fps=2, audio=10.0)
    write_video(tmp_path / "videos" / "old.mkv", frames=20, fps=2)
    write_video(tmp_path / "videos" / "gone.mp4", frames=25, fps=2)
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"nothing")
    copytree(DEMO_FOLDER.parent, tmp_path / "model")
    return tmp_path


def ask_everything(client: Client, place: Path) -> None:
    """A session that asks for every address, also for what fails."""
    for path in ("/library", "/models", "/openapi.json", "/jobs"):
        client.get(path).check(200)
    client.send("GET", "/health")
    client.post("/session")
    client.post("/search", {"queries": ["a dog"]})  # nothing is there
    client.wait(client.post("/videos", {"path": "videos"}).check(202)["id"])
    (place / "videos" / "gone.mp4").unlink()
    client.wait_until_ready()
    content = (place / "videos" / "0 ü.mp4").read_bytes() + bytes(8)
    client.wait(client.upload("uploaded.mp4", content).check(202)["id"])
    client.upload("bad.mp4", b"nothing")
    listed = client.get("/videos").check(200)["videos"]
    assert len(listed) == 6
    for path in ("videos/nothing.mp4", "..", "/etc"):
        client.post("/videos", {"path": path})
    client.post("/search", {"queries": ["a dog", "x " * 400], "top": 50})
    client.post("/search", {"image": base64.b64encode(b"none").decode()})
    for video in listed:
        ask_about(client, video["id"])
    ready = [video["id"] for video in listed if video["state"] == "ready" and video["name"] != "videos/gone.mp4"]
    assert len(ready) == 4
    every = [{"video": video, "query": "=a dog", "start": 1, "end": 3} for video in ready]
    for form in get_args(Format):
        for moments in (every, every[:1], [every[0] | {"start": 900, "end": 901}]):
            reply = client.post("/export", {"format": form, "moments": moments})
            if reply.status == 202:
                job = client.wait(reply.json["id"])
                client.get(f"/jobs/{job['id']}/result")
                client.post(f"/jobs/{job['id']}/cancel")
    client.wait(client.post("/rescan").check(202)["id"])
    client.post("/search", {"queries": ["a dog"]}).check(200)
    client.get("/videos").check(200)
    for job in client.get("/jobs").check(200)["jobs"]:
        client.get(f"/jobs/{job['id']}/events")
        client.post(f"/jobs/{job['id']}/retry")
    client.wait(client.send("DELETE", f"/api/v1/videos/{ready[0]}").check(202)["id"])


def ask_about(client: Client, video: str) -> None:
    client.post("/search", {"like": {"video": video, "start": 0, "end": 2}})
    client.post(f"/videos/{video}/ground", {"queries": ["a dog"]})
    for asked in ({"query": "a dog"}, {}):
        client.post(f"/videos/{video}/highlights", asked)
        reply = client.post(f"/videos/{video}/summary", asked)
        if reply.status == 202:
            client.get(f"/jobs/{client.wait(reply.json['id'])['id']}/result")
    for path in ("", "/thumbnail?time=2", "/strip?start=0&end=2", "/media", "/preview", "/preview/0", "/preview/999"):
        client.get(f"/videos/{video}{path}")
    client.get(f"/videos/{video}/media", Range="bytes=99999999-")


def test_no_answer_holds_a_place_on_the_servers_disk(place: Path) -> None:
    with running(place / "library", "--model", place / "model" / "head", "--root", place / "videos") as server:
        client = Listener(server.client)
        ask_everything(client, place)
        document = client.get("/openapi.json").check(200)
    asked = {
        (method, path)
        for method, path, reply in client.heard
        if reply.status not in (404, 405, 422) or path.endswith("/retry")
    }
    for path, item in document["paths"].items():
        shape = re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
        for method in item:
            assert any(method.upper() == one and shape.fullmatch(other) for one, other in asked), (method, path)
    secrets = (
        str(place),
        f"{tempfile.gettempdir()}/",
        f"{Path.home()}/",
        str(Path(r2tuning.__file__).parent),
        place.name,
    )
    for method, path, reply in client.heard:
        for part in unpack(reply):
            for secret in secrets:
                assert secret.encode() not in part, (method, path, reply.status, secret, part[:2000])


def test_a_model_that_cannot_be_loaded_is_named_without_its_place(place: Path) -> None:
    Library(place / "library", model=str(place / "model" / "head")).add(place / "videos" / "0 ü.mp4")
    for file in (place / "model" / "head").iterdir():
        file.write_bytes(b"nothing")
    with running(place / "library", "--root", place / "videos") as server:
        client = Listener(server.client)
        client.post("/search", {"queries": ["a dog"]}).refused(503, "head")
        assert client.send("GET", "/ready").json["problem"]
        failed = client.wait(client.post("/videos", {"path": "videos"}).check(202)["id"])
        assert failed["state"] == "failed"
    for *_, reply in client.heard:
        assert place.name.encode() not in reply.content, reply


def test_exports_name_videos_as_the_page_does(place: Path) -> None:
    name = "0 ü.mp4"
    with running(place / "library", "--model", "demo", "--root", place / "videos") as server:
        client = server.client
        client.do("/videos", {"path": f"videos/{name}"})
        (video,) = client.get("/videos").check(200)["videos"]
        moment = {"video": video["id"], "query": "a dog", "start": 1, "end": 3}

        def export(form: str) -> str:
            reply = client.post("/export", {"format": form, "moments": [moment]})
            assert reply.status == 200, reply.content
            return reply.content.decode()

        assert video["name"] == f"videos/{name}"
        assert [one["video"] for one in json.loads(export("json"))] == [video["name"]]
        assert json.loads(export("jsonl"))["video"] == video["name"]
        assert export("csv").splitlines()[1].startswith(f"{video['name']},1.000,3.000,")
        assert f"Video: {video['name']} " in export("txt")
        # Editing programs find the file beside the list.
        assert '<asset id="r2" src="0%20%C3%BC.mp4"' in export("fcpxml")
        (track, *_) = json.loads(export("otio"))["tracks"]["children"]
        (clip,) = track["children"]
        assert [each["target_url"] for each in clip["media_references"].values()] == ["0%20%C3%BC.mp4"]
