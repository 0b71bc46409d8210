"""Kills processes that write to a library at random points, and checks what is left of it.

``PYTHONPATH=src:tests python -m support.kill_library --points 50`` does so and prints what happened at each point. A
killed process is forked from this one, which has loaded the model, so that a point costs little.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from support.videos import write_video

from r2tuning import Library
from r2tuning.library import repair
from r2tuning.library.catalog import CATALOG_FILE, open_catalog
from r2tuning.library.indexing import VIDEO_FOLDER

MODEL = "demo"


@dataclass(frozen=True)
class Point:
    """What a killed process was doing, when it was killed, and what was wrong afterwards."""

    name: str
    after: float
    killed: bool
    problems: list[str]


def compact(library: Library) -> None:
    with library._place.write() as catalog:
        repair.compact(catalog)


OPERATIONS: dict[str, Callable[[Library, Path], object]] = {
    "add": lambda library, videos: library.add(videos),
    "rescan": lambda library, videos: library.rescan(),
    "remove": lambda library, videos: library.remove([videos / "0.mp4", videos / "3.mp4"]),
    "compact": lambda library, videos: compact(library),
    "switch": lambda library, videos: Library(library.folder, sampling="keyframe").rescan(),
    "keep less": lambda library, videos: Library(library.folder, keep="vectors").rescan(),
}


def make(folder: Path, *, filled: bool, files: int = 5) -> tuple[Path, Path]:
    """Videos, and a library of them where it is to be filled."""
    videos, place = folder / "videos", folder / "library"
    videos.mkdir(parents=True)
    for number in range(files):
        write_video(videos / f"{number}.mp4", frames=20 + number, fps=2)
    if filled:
        Library(place, model=MODEL).add(videos)
    return videos, place


def prepare(name: str, base: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of videos and library, changed so that the operation has something to do."""
    shutil.copytree(base, folder)
    videos, place = folder / "videos", folder / "library"
    if name == "add":
        shutil.rmtree(place)
        return videos, place
    for path in videos.iterdir():  # a copy has another time of change, and then its content would be read
        shutil.copystat(base / "videos" / path.name, path)
    with closing(sqlite3.connect(place / CATALOG_FILE)) as connection, connection:
        for table in ("files", "roots"):
            connection.execute(f"UPDATE {table} SET path = replace(path, ?, ?)", (str(base), str(folder)))
    library = Library(place, model=MODEL)
    if name == "rescan":
        (videos / "1.mp4").rename(videos / "moved.mp4")
        (videos / "2.mp4").unlink()
        write_video(videos / "new.mp4", frames=33, fps=2)
        write_video(videos / "4.mp4", frames=44, fps=2)
    if name == "compact":
        library.remove([videos / "1.mp4"])
    return videos, place


def run_and_kill(work: Callable[[], object], after: float | None) -> bool:
    """Runs in a forked process, killed after some seconds; returns whether it was still at work."""
    process = os.fork()
    if process == 0:
        try:
            work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            os._exit(1)
        os._exit(0)
    if after is not None:
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise AssertionError("the operation failed by itself")
    return os.WIFSIGNALED(status)


def inspect(name: str, videos: Path, place: Path) -> list[str]:
    """What is wrong with a library after its writer was killed; runs the operation again, and compares."""
    problems = []
    library = Library(place, model=MODEL)
    if place.exists() and any(path.name == "catalog.sqlite" for path in place.iterdir()):
        try:
            problems += library.check()
        except Exception as error:
            if "has no library" not in str(error):
                problems.append(f"check: {error}")
    again = Library(
        place,
        model=MODEL,
        keep="vectors" if name == "keep less" else None,
        sampling="keyframe" if name == "switch" else None,
    )
    if name == "remove":
        present = [
            videos / f for f in ("0.mp4", "3.mp4") if any(x.file.path == str(videos / f) for x in library.list())
        ]
        if len(present) == 1:
            problems.append("half of the files were removed")
        if present:
            again.remove(present)
    elif name == "add":
        again.add(videos)
    elif name == "compact":
        compact(again)
    else:
        again.rescan()
    problems += again.check(repair_it=True)  # writes, and so removes the lock of a killed process
    found = {Path(one.file.path).name: one.state for one in again.list()}
    wanted = {path.name: "ready" for path in videos.iterdir()}
    if name == "rescan":
        wanted["2.mp4"] = "missing"
    for gone in {"remove": ("0.mp4", "3.mp4"), "compact": ("1.mp4",)}.get(name, ()):
        wanted.pop(gone)
    if found != wanted:
        problems.append(f"files are {found}, not {wanted}")
    with open_catalog(place) as catalog:
        videos_known = catalog.list_videos()
        if len({(v.generation, v.identity) for v in videos_known}) != len(videos_known):
            problems.append("a video is there twice")
        if len(catalog.list_generations()) != 1:
            problems.append(f"{len(catalog.list_generations())} generations")
        rows, dead = repair.count_rows(catalog)
        if name == "compact" and dead:
            problems.append(f"{dead} of {rows} rows are dead")
        kept = {path.name for path in (place / VIDEO_FOLDER).iterdir()}
        if kept != repair.list_kept(catalog) or bool(kept) == (name == "keep less"):
            problems.append(f"keeps {sorted(kept)}")
    left = [str(p) for p in place.rglob("*") if p.name.endswith(".part") or p.name == ".lock" or p.name[:4] == "new-"]
    if left:
        problems.append(f"left: {left}")
    if len(again.search("a dog", top=100)) == 0:
        problems.append("nothing is found")
    return problems


def try_points(names: list[str], points: int, seed: int = 0) -> Iterator[Point]:
    """Kills operations in turn, each at a random time of its duration."""
    torch.set_num_threads(1)  # a fork has none of the other threads
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        make(base, filled=True)
        durations: dict[str, float] = {}
        for number in range(points):
            name = names[number % len(names)]
            if name not in durations:
                videos, library = prepare(name, base, Path(place) / f"{name}-whole")
                begin = time.monotonic()
                run_and_kill(partial(OPERATIONS[name], Library(library, model=MODEL), videos), None)
                durations[name] = time.monotonic() - begin
            folder = Path(place) / f"{name}-{number}"
            videos, library = prepare(name, base, folder)
            after = rng.uniform(0, 1) * durations[name]
            killed = run_and_kill(partial(OPERATIONS[name], Library(library, model=MODEL), videos), after)
            yield Point(name, after, killed, inspect(name, videos, library))
            shutil.rmtree(folder)


def main() -> int:
    """Tries points and prints what happened."""
    parser = argparse.ArgumentParser(description="Kills processes that write to a library.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(OPERATIONS)}; default: all")
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    bad = 0
    for point in try_points(asked.names or list(OPERATIONS), asked.points, asked.seed):
        when = f"{point.after:.3f} s" if point.killed else "the end"
        print(f"{point.name} at {when}: {point.problems or 'clean'}", flush=True)
        bad += bool(point.problems)
    return bad


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
