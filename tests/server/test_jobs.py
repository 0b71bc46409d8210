"""Jobs outlive their processes: what was killed goes on, and what is damaged says so."""

import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest
from support.server import launch, running
from support.videos import write_video

from r2tuning import Library
from r2tuning.errors import ServerError
from r2tuning.server import jobs
from r2tuning.server.jobs import JOBS_FILE, JobStore, Progress
from r2tuning.server.tasks import AddTask, RescanTask


def test_jobs_are_claimed_in_turn_and_by_lane(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    first, second = store.add("add", AddTask(paths=["a"])), store.add("rescan", RescanTask())
    other = store.add("summary", RescanTask())
    claimed = store.claim("index")
    assert claimed is not None
    assert (claimed.id, claimed.state, AddTask.model_validate_json(claimed.task).paths) == (first.id, "running", ["a"])
    assert [job.id for job in store.list_jobs()] == [other.id, second.id, first.id]
    store.save_progress(first.id, Progress(done=1, expected=2))
    store.save_progress(second.id, Progress(done=1))  # which does not run
    store.end(first.id, "done", result="a.mp4")
    done, waiting = store.find(first.id), store.find(second.id)
    assert done is not None
    assert waiting is not None
    assert (done.state, done.progress.done, done.result, done.over) == ("done", 1, "a.mp4", True)
    assert (waiting.state, waiting.progress.done) == ("queued", 0)
    store.end(first.id, "failed", error="late")  # it is over already
    assert store.find(first.id) == done
    assert store.stop(second.id).state == "cancelled"  # type: ignore[union-attr]
    assert store.claim("index") is None
    assert store.claim("render").id == other.id  # type: ignore[union-attr]


def test_what_ran_is_queued_again_unless_it_was_cancelled(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    one, two = store.add("add", AddTask(paths=["a"])), store.add("summary", RescanTask())
    store.claim("index")
    store.claim("render")
    store.stop(two.id)
    again = JobStore(tmp_path)
    assert again.requeue() == 1
    assert {job.id: job.state for job in again.list_jobs()} == {one.id: "queued", two.id: "cancelled"}


def test_trying_again_also_tries_files_that_failed(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    job = store.add("add", AddTask(paths=["a"]))
    assert store.retry(job.id).state == "queued"  # type: ignore[union-attr]
    store.claim("index")
    store.end(job.id, "failed", error="why")
    retried = store.retry(job.id)
    assert retried is not None
    assert (retried.state, retried.error, AddTask.model_validate_json(retried.task).retry) == ("queued", "", True)


def test_jobs_of_an_older_file_are_about_nothing(tmp_path: Path) -> None:
    old = JobStore(tmp_path).add("rescan", RescanTask())
    with sqlite3.connect(tmp_path / JOBS_FILE) as connection:
        connection.execute("ALTER TABLE jobs DROP COLUMN subject")
    connection.close()
    store = JobStore(tmp_path)
    new = store.add("add", AddTask(paths=["/root/a"]), "root/a")
    assert [(job.id, job.subject) for job in store.list_jobs()] == [(new.id, "root/a"), (old.id, "")]


def test_jobs_say_what_they_are_about(place: Path) -> None:
    (place / "videos" / "deep").mkdir()
    content = write_video(place / "videos" / "deep" / "2.mp4", frames=30, fps=2).read_bytes()
    with running(place / "library", "--model", "demo", "--root", place / "videos") as server:
        client = server.client
        for path in ("videos", str(place / "videos" / "deep"), "videos/deep/2.mp4"):
            client.do("/videos", {"path": path})
        client.wait(client.upload("a <trip>.mp4", content).check(202)["id"])
        client.do("/rescan")
        ids = {one["name"]: one["id"] for one in client.get("/videos").check(200)["videos"]}
        moments = [{"video": ids[f"videos/{number}.mp4"], "start": 0, "end": 2} for number in range(2)]
        client.do("/export", {"format": "gif", "moments": moments[:1]})
        client.do("/export", {"format": "mp4", "moments": moments})
        client.do(f"/videos/{ids['videos/0.mp4']}/summary", {"query": "a dog"})
        client.wait(client.send("DELETE", f"/api/v1/videos/{ids['videos/1.mp4']}").check(202)["id"])
        jobs = client.get("/jobs").check(200)["jobs"]
    assert [(job["kind"], job["subject"]) for job in reversed(jobs)] == [
        ("add", "videos"),
        ("add", "videos/deep"),
        ("add", "videos/deep/2.mp4"),
        ("add", "a <trip>.mp4"),
        ("rescan", ""),
        ("export", "videos/0.mp4"),
        ("export", "2 videos"),
        ("summary", "videos/0.mp4"),
        ("remove", "videos/1.mp4"),
    ]


def test_jobs_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "MOST_WAITING", 3)
    monkeypatch.setattr(jobs, "MOST_JOBS", 5)
    store = JobStore(tmp_path)
    for _ in range(10):
        job = store.add("rescan", RescanTask())
        store.claim("index")
        store.end(job.id, "done")
    assert len(store.list_jobs()) <= 6
    for _ in range(3):
        store.add("rescan", RescanTask())
    with pytest.raises(ServerError, match="3 wait already"):
        store.add("rescan", RescanTask())


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    store = JobStore(tmp_path)
    store.add("rescan", RescanTask())
    with sqlite3.connect(tmp_path / JOBS_FILE) as connection:
        connection.execute("UPDATE jobs SET state = 'eaten'")
    connection.close()
    with pytest.raises(ServerError, match=r"state.*move it away"):
        store.list_jobs()
    (tmp_path / JOBS_FILE).write_bytes(b"no database" * 100)
    with pytest.raises(ServerError, match="not a database; move it away"):
        JobStore(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_server_goes_on(place: Path, after: int) -> None:
    """It is killed without warning when so many videos are done."""
    for number in range(6):
        write_video(place / "videos" / f"more-{number}.mp4", frames=60 + number, fps=2)
    options = "--model", "demo", "--root", place / "videos"
    server = launch(place / "library", *options)
    job = server.client.post("/videos", {"path": "videos"}).check(202)["id"]
    for _, event in server.client.follow(job):
        if event["progress"]["done"] >= after:
            break
    server.process.kill()
    server.process.communicate()
    with running(place / "library", *options) as second:
        done = second.client.wait(job)
        assert (done["state"], done["error"]) == ("done", "")
        shown = second.client.get("/videos").check(200)
        assert (shown["total"], {one["state"] for one in shown["videos"]}) == (8, {"ready"})
        assert second.client.post("/search", {"queries": ["a"]}).check(200)["searches"][0]["videos"] == 8
    library = Library(place / "library")
    assert library.check() == []
    assert library.check(repair_it=True) == []
    assert not list((place / "library").rglob("*.part"))


def test_a_worker_that_dies_costs_one_question(place: Path) -> None:
    Library(place / "library", model="demo").add(place / "videos")
    with running(place / "library") as server:
        client = server.client
        client.wait_until_ready()
        before = client.post("/search", {"queries": ["a dog"]}).check(200)
        children = [
            int(path.name)
            for path in Path("/proc").iterdir()
            if path.name.isdigit() and f"PPid:\t{server.process.pid}\n" in _read(path / "status")
        ]
        for child in children:
            os.kill(child, signal.SIGKILL)
        end = time.monotonic() + 60
        while (reply := client.post("/search", {"queries": ["a cat"]})).status == 503:
            reply.refused(503, "ask again")
            assert reply.headers["retry-after"]
            assert time.monotonic() < end
            time.sleep(0.2)
        assert reply.status == 200
        assert client.post("/search", {"queries": ["a dog"], "top": 19}).status == 200
        assert client.post("/search", {"queries": ["a dog"]}).check(200) == before
        video = client.get("/videos").check(200)["videos"][0]["id"]
        while (reply := client.get(f"/videos/{video}/thumbnail")).status == 503:
            assert time.monotonic() < end
        assert reply.status == 200


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
