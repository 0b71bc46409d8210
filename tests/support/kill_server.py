"""Kills a server at random points of indexing, uploading and exporting, and checks what the next one makes of it.

``PYTHONPATH=src:tests python -m support.kill_server --points 20`` does so and prints what happened at each point.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from support.server import Client, Server, launch
from support.videos import write_video

from r2tuning import Library

LONGEST = 25.0
"""Seconds after which an operation is killed at the latest."""


@dataclass(frozen=True)
class Point:
    """What a killed server was doing, when it was killed, and what was wrong afterwards."""

    name: str
    after: float
    state: str
    problems: list[str]


def make(folder: Path) -> None:
    """Videos to index, a video to upload, and a library with another one to export from."""
    (folder / "videos").mkdir(parents=True)
    for number in range(6):
        write_video(folder / "videos" / f"{number}.mp4", frames=60 + number, fps=2)
    write_video(folder / "large.mp4", frames=900, fps=30, size=(640, 360))
    (folder / "there").mkdir()
    write_video(folder / "there" / "long.mp4", frames=900, fps=30, size=(640, 360))
    Library(folder / "library", model="demo").add(folder / "there")


def index(client: Client, _: Path) -> str:
    return str(client.post("/videos", {"path": "videos"}).check(202)["id"])


def upload(client: Client, folder: Path) -> str:
    def read() -> Iterator[bytes]:
        with (folder / "large.mp4").open("rb") as file:
            while block := file.read(20_000):
                yield block
                time.sleep(0.02)

    path = "/api/v1/uploads?name=large.mp4"
    return str(client.send("POST", path, read(), Content_Type="application/octet-stream").check(202)["id"])


def export(client: Client, _: Path) -> str:
    (video,) = client.get("/videos").check(200)["videos"]
    moments = [{"video": video["id"], "query": "a", "start": n, "end": n + 5} for n in range(0, 25, 2)]
    return str(client.post("/export", {"format": "clips", "moments": moments}).check(202)["id"])


OPERATIONS: dict[str, Callable[[Client, Path], str]] = {"index": index, "upload": upload, "export": export}


def start(folder: Path) -> Server:
    server = launch(folder / "library", "--model", "demo", "--root", folder / "videos")
    server.client.wait_until_ready()
    return server


def run_and_kill(name: str, folder: Path, after: float) -> str | None:
    """Kills a server ``after`` seconds of an operation; returns the job, if the client heard of one."""
    server = start(folder)
    jobs: list[str] = []

    def ask() -> None:
        with suppress(Exception):  # the server dies
            jobs.append(OPERATIONS[name](server.client, folder))

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(after)
    server.process.kill()
    server.process.communicate()
    asking.join()
    return jobs[0] if jobs else None


def inspect(name: str, folder: Path, job: str | None) -> tuple[str, list[str]]:
    """The state in which the next server had the job, and what is wrong when everything is over."""
    problems = []
    server = start(folder)
    client = server.client
    try:
        for shown in client.get("/videos").check(200)["videos"]:
            content = client.get(f"/videos/{shown['id']}/media")
            if content.status != 200 or len(content.content) != shown["size"]:
                problems.append(f"{shown['name']} is shown, but is not whole")
        state = "unknown" if job is None else client.get(f"/jobs/{job}").check(200)["state"]
        for each in client.get("/jobs").check(200)["jobs"]:
            done = client.wait(each["id"])
            if done["state"] != "done":
                problems.append(f"{done['kind']} {done['state']}: {done['error']}")
            elif done["result"] and client.get(f"/jobs/{each['id']}/result").content[:2] != b"PK":
                problems.append("the result is not whole")
        names = {one["name"]: one["state"] for one in client.get("/videos").check(200)["videos"]}
        wanted = {"long.mp4": "ready"}
        if name == "index" and job is not None:
            wanted |= {f"videos/{number}.mp4": "ready" for number in range(6)}
        if name == "upload" and job is not None:
            wanted |= {"large.mp4": "ready"}
        if name == "upload" and job is None:
            names.pop("large.mp4", None)  # it may have arrived without the client hearing of it
        if names != wanted:
            problems.append(f"videos are {names}, not {wanted}")
    finally:
        _, errors = server.stop()
        if "Traceback" in errors:
            problems.append(errors)
    library = Library(folder / "library")
    problems += library.check()
    problems += library.check(repair_it=True)
    left = [
        str(path) for path in (folder / "library").rglob("*") if path.name.endswith(".part") or path.name[:4] == "new-"
    ]
    known = {one.file.path for one in library.list()}
    left += [str(path) for path in (folder / "library" / "uploads").glob("*/*") if str(path) not in known]
    if left:
        problems.append(f"left: {left}")
    return state, problems


def try_points(points: int, seed: int = 0) -> Iterator[Point]:
    """Kills operations in turn, each after a random time."""
    rng = random.Random(seed)
    names = list(OPERATIONS)
    with tempfile.TemporaryDirectory() as place:
        for number in range(points):
            name, folder = names[number % len(names)], Path(place) / str(number)
            make(folder)
            after = rng.uniform(0, LONGEST if name != "upload" else 5.0)
            job = run_and_kill(name, folder, after)
            yield Point(name, after, *inspect(name, folder, job))
            shutil.rmtree(folder)


def main() -> int:
    """Tries points and prints what happened."""
    parser = argparse.ArgumentParser(description="Kills servers.")
    parser.add_argument("--points", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    bad = 0
    for point in try_points(asked.points, asked.seed):
        print(f"{point.name} at {point.after:.2f} s, job {point.state}: {point.problems or 'clean'}", flush=True)
        bad += bool(point.problems)
    return bad


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
