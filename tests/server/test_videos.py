"""Videos come and go: by path, by upload, by rescans; jobs say how far they are."""

import json
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest
from support.server import Client, Server, launch, running
from support.videos import write_video

from r2tuning import Library


def names(client: Client) -> dict[str, str]:
    """State of each video by its name."""
    return {one["name"]: one["state"] for one in client.get("/videos").check(200)["videos"]}


def test_an_empty_library_fills_by_path(place: Path) -> None:
    with running(place / "library", "--model", "demo", "--root", place / "videos") as server:
        client = server.client
        empty = client.get("/library").check(200)
        assert (empty["files"], empty["model"], empty["roots"]) == (0, None, ["videos"])
        client.post("/search", {"queries": ["a dog"]}).refused(409, "library: is empty")
        (place / "videos" / "broken.mp4").write_bytes(b"no video at all")
        job = client.post("/videos", {"path": "videos"}).check(202)
        assert (job["kind"], job["state"]) == ("add", "queued")
        events = list(client.follow(job["id"]))
        assert [name for name, _ in events[:-1]] == ["job"] * (len(events) - 1)
        name, last = events[-1]
        assert (name, last["state"]) == ("end", "failed")
        assert last == client.get(f"/jobs/{job['id']}").check(200)
        assert last["error"] == "1 file could not be used; it is listed with the reason"
        (failure,) = last["progress"]["failures"]
        assert failure["name"] == "videos/broken.mp4"
        assert failure["reason"].startswith("videos/broken.mp4 cannot be read as video")
        assert (last["progress"]["done"], last["progress"]["expected"]) == (3, 3)
        assert last["progress"]["seconds"] == pytest.approx(20 / 2 + 21 / 2)
        done = [event["progress"]["done"] for _, event in events]
        assert done == sorted(done)
        assert names(client) == {"videos/0.mp4": "ready", "videos/1.mp4": "ready", "videos/broken.mp4": "failed"}
        assert client.get("/library").check(200)["model"] == "demo"
        assert client.post("/search", {"queries": ["a dog"]}).check(200)["searches"][0]["videos"] == 2
        # With a good file in its place, trying again succeeds.
        write_video(place / "videos" / "broken.mp4", frames=18, fps=2)
        again = client.post(f"/jobs/{job['id']}/retry").check(200)
        assert (again["id"], again["state"]) == (job["id"], "queued")
        assert client.wait(job["id"])["state"] == "done"
        assert names(client)["videos/broken.mp4"] == "ready"
    assert Library(place / "library").check() == []


def test_details_of_a_video(client: Client, filled: Library, base: Path) -> None:
    shown = client.get("/videos?name=91000000").check(200)
    assert shown["total"] == 1
    (video,) = shown["videos"]
    (listed,) = [one for one in filled.list() if one.file.path.endswith("91000000.mp4")]
    assert listed.video is not None
    assert video == client.get(f"/videos/{video['id']}").check(200)
    assert video["name"] == "videos/2024/91000000.mp4"
    assert (video["size"], video["duration"], video["fps"]) == (
        listed.file.size,
        round(listed.video.duration, 3),
        listed.video.fps,
    )
    client.get("/videos/0123456789abcdef").refused(404, "video 0123456789abcdef: is not in the library")
    client.get("/videos/x").refused(422, "path.video")


def test_pages_of_videos_are_the_whole_list(client: Client) -> None:
    whole = client.get("/videos").check(200)
    first = client.get("/videos?limit=1").check(200)
    second = client.get(f"/videos?limit=1&after={first['next']}").check(200)
    assert first["videos"] + second["videos"] == whole["videos"]
    assert (second["next"], whole["next"]) == ("", "")
    client.get("/videos?after=0123").refused(409, "has changed since")


def test_uploads_are_kept_only_if_they_are_videos(place: Path, small: Path) -> None:
    library = place / "library"
    with running(library, "--model", "demo", "--max-upload", "1MB") as server:
        client = server.client
        content = small.read_bytes()
        pieces = (content[begin : begin + 1000] for begin in range(0, len(content), 1000))
        path = f"/api/v1/uploads?name={quote('../../my trip.mp4')}"
        reply = client.send("POST", path, pieces, Content_Type="application/octet-stream")
        job = client.wait(reply.check(202)["id"])
        assert job["state"] == "done", job
        (name,) = names(client)
        assert name == "%2E.%2F..%2Fmy trip.mp4"
        (video,) = client.get("/videos").check(200)["videos"]
        assert client.send("GET", f"/api/v1/videos/{video['id']}/media").content == small.read_bytes()
        client.upload("a.mp4", b"no video").refused(422, "a.mp4 cannot be read as video")
        client.upload("a.mp4", b"").refused(422, "a.mp4: is empty")
        client.upload("a.txt", small.read_bytes()).refused(415, "a.txt: does not end like a video")
        client.upload("a.mp4", bytes(10**6 + 1)).refused(413, "more than 1,000,000 bytes")
        playlist = b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n"
        assert client.upload("a.ts", playlist).status == 422
        kept = [path for path in library.joinpath("uploads").rglob("*") if path.is_file()]
        assert [path.read_bytes() for path in kept] == [small.read_bytes()]
        many = (bytes(10**5) for _ in range(12))  # without a length, the limit holds while they come
        client.send("POST", "/api/v1/uploads?name=a.mp4", many, Content_Type="video/mp4").refused(413)
        # The copy goes with the video.
        job = client.wait(client.send("DELETE", f"/api/v1/videos/{video['id']}").check(202)["id"])
        assert job["state"] == "done", job
        assert names(client) == {}
        assert list(library.joinpath("uploads").iterdir()) == []


def test_rescans_follow_files_and_removal_takes_them_out(place: Path) -> None:
    with running(place / "library", "--model", "demo", "--root", place / "videos") as server:
        client = server.client
        client.do("/videos", {"path": "videos"})
        client.post("/search", {"queries": ["a dog"]}).check(200)
        (place / "videos" / "0.mp4").rename(place / "videos" / "moved.mp4")
        (place / "videos" / "1.mp4").unlink()
        shutil.copy(place / "videos" / "moved.mp4", place / "videos" / "copy.mp4")
        client.do("/rescan")
        assert names(client) == {"videos/moved.mp4": "ready", "videos/copy.mp4": "ready", "videos/1.mp4": "missing"}
        videos = {one["name"]: one for one in client.get("/videos").check(200)["videos"]}
        assert videos["videos/moved.mp4"]["copies"] == [videos["videos/copy.mp4"]["id"]]
        gone = videos["videos/1.mp4"]["id"]
        client.get(f"/videos/{gone}/media").refused(404, "videos/1.mp4: is not there any more")
        client.post(f"/videos/{gone}/ground", {"queries": ["a"]}).refused(409, "videos/1.mp4: is missing")
        # Answers of the library before are not those of the library now.
        assert client.post("/search", {"queries": ["a dog"]}).check(200)["searches"][0]["videos"] == 1
        job = client.wait(client.send("DELETE", f"/api/v1/videos/{gone}").check(202)["id"])
        assert (job["state"], "videos/1.mp4" in names(client)) == ("done", False)
        copy = videos["videos/copy.mp4"]["id"]
        client.wait(client.send("DELETE", f"/api/v1/videos/{copy}").check(202)["id"])
        client.do("/rescan")
        assert set(names(client)) == {"videos/moved.mp4"}  # what was removed stays out
        client.do("/videos", {"path": "videos/copy.mp4"})
        assert set(names(client)) == {"videos/moved.mp4", "videos/copy.mp4"}
        assert (place / "videos" / "moved.mp4").exists()


def test_what_is_outside_of_the_roots_is_not_added(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = write_video(tmp_path_factory.mktemp("secret") / "secret.mp4", frames=10, fps=2)
    (place / "videos" / "inside").mkdir()
    (place / "videos" / "link.mp4").symlink_to(secret)
    (place / "videos" / "folder").symlink_to(secret.parent)
    (place / "videosecret").mkdir()
    with running(place / "library", "--model", "demo", "--root", place / "videos") as server:
        client = server.client
        for path in (
            str(secret),
            "/etc/passwd",
            "..",
            "videos/..",
            "videos/../library",
            str(place / "videosecret"),
            "videos/link.mp4",
            "videos/folder",
            "videos/folder/secret.mp4",
            "videos/nothing.mp4",
            "/proc/self/root/etc",
            "a" * 4000,
        ):
            client.post("/videos", {"path": path}).refused(404, "is in no folder that may be read")
        client.post("/videos", {"path": "a\0b"}).refused(422, "zero byte")
        # A folder with a link that leads out is refused as a whole.
        job = client.wait(client.post("/videos", {"path": "videos"}).check(202)["id"])
        assert (job["state"], job["error"]) == (
            "failed",
            "videos/link.mp4: is a link to a file outside of --root; remove it",
        )
        assert names(client) == {}
    with running(place / "library", "--model", "demo") as server:
        server.client.post("/videos", {"path": "videos"}).refused(403, "start it with --root DIR")


def test_a_job_is_cancelled_while_it_runs_and_while_it_waits(place: Path) -> None:
    for number in range(12):
        write_video(place / "videos" / f"more-{number}.mp4", frames=40 + number, fps=2)
    with running(place / "library", "--model", "demo", "--root", place / "videos") as server:
        client = server.client
        first = client.post("/videos", {"path": "videos"}).check(202)["id"]
        second = client.post("/rescan").check(202)["id"]
        assert client.post(f"/jobs/{second}/cancel").check(200)["state"] == "cancelled"
        for _, event in client.follow(first):
            if event["progress"]["done"]:
                break
        client.post(f"/jobs/{first}/cancel").check(200)
        assert client.wait(first)["state"] == "cancelled"
        ready = [name for name, state in names(client).items() if state == "ready"]
        assert 0 < len(ready) < 14  # what was done stays
        assert client.post(f"/jobs/{first}/retry").check(200)["state"] == "queued"
        assert client.wait(first)["state"] == "done"
        assert set(names(client).values()) == {"ready"}
        client.post(f"/jobs/{first}/retry").refused(409, "is done; only failed and cancelled")
        client.post("/jobs/0123456789abcdef/cancel").refused(404, "job 0123456789abcdef: is not known")
        states = client.get("/jobs?state=done&state=failed").check(200)["jobs"]
        assert [job["id"] for job in states] == [first]
    assert Library(place / "library").check() == []


@pytest.mark.slow
def test_what_a_server_that_ends_was_doing_goes_on_with_the_next(place: Path) -> None:
    for number in range(8):
        write_video(place / "videos" / f"more-{number}.mp4", frames=60 + number, fps=2)
    server: Server = launch(place / "library", "--model", "demo", "--root", place / "videos")
    job = server.client.post("/videos", {"path": "videos"}).check(202)["id"]
    for _, event in server.client.follow(job):
        if event["progress"]["done"]:
            break
    code, errors = server.stop()
    assert (code, "Traceback" in errors) == (128 + 15, False), errors
    with running(place / "library", "--model", "demo", "--root", place / "videos") as second:
        done = second.client.wait(job)
        assert done["state"] == "done"
        assert len(names(second.client)) == 10
        assert set(names(second.client).values()) == {"ready"}
        assert json.dumps(done).count(str(place)) == 0
