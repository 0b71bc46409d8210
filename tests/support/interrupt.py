"""Stops commands at random points with a signal, runs them again, and compares with an undisturbed run.

``PYTHONPATH=src:tests python -m support.interrupt`` does so at 54 points and prints what happened at each.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.videos import write_moving

from r2tuning.checkpoints.published import DEMO_FOLDER

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
POINTS = 3
"""How often each command is stopped by each signal."""
GRACE = 60.0
"""Seconds after which no process of a stopped command may be left."""
OVER = "the command was over before"


@dataclass(frozen=True)
class Command:
    """A command: its arguments, for a folder to write to, and those that continue it."""

    start: Callable[[Path], list[object]]
    again: Callable[[Path], list[object]]


def prepare(folder: Path, *, shapes_too: bool = True) -> dict[str, Command]:
    """Makes videos and annotations, and the commands that use them; calibration needs Moving Shapes too."""
    folder.mkdir(parents=True)
    videos = folder / "videos"
    videos.mkdir()
    for number in range(3):
        write_moving(videos / f"v{number}.mp4", "libx264", {}, frames=200, seed=number)
    rows = [("video", "start", "end", "query")]
    rows += [(f"v{n}.mp4", "1", "3", query) for n in range(3) for query in ("a red circle falls", "a blue square")]
    annotations = folder / "moments.csv"
    with annotations.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    shapes = folder / "shapes"
    if shapes_too:
        for split in ("train", "val"):
            run("synthesize", shapes, "-n", 3, "--split", split)
        for name in ("val", "val_absent"):
            folders = shapes / "videos", shapes / "features"
            run("extract", shapes / f"{name}.jsonl", *folders, "-b", "moving-shapes", "--backbone", "demo")
    video = videos / "v0.mp4"

    def training(out: Path) -> list[object]:
        settings = {
            "data.annotations": annotations, "data.videos": videos, "data.features": out / "features",
            "data.workers": 0, "backbone": "demo", "fps": 2, "model.hidden": 32, "training.epochs": 4,
            "training.batch_size": 2, "training.log_every": 1, "training.checkpoint_every": 1,
        }  # fmt: skip
        return [
            "train",
            "custom",
            "--run",
            out / "run",
            *(x for k, v in settings.items() for x in ("--set", f"{k}={v}")),
        ]

    def resumed(out: Path) -> list[object]:
        return [*training(out), *(["--resume"] if (out / "run" / "recipe.yaml").exists() else [])]

    def same(*arguments: object) -> Command:
        def fill(out: Path) -> list[object]:
            return [out / str(a)[4:] if str(a).startswith("OUT/") else a for a in arguments]

        return Command(fill, fill)

    def calibration(out: Path) -> list[object]:
        if not (out / "head" / "config.json").exists():
            shutil.copytree(DEMO_FOLDER, out / "head", dirs_exist_ok=True)
            (out / "head" / "calibration.json").unlink()
        return [
            "calibrate",
            out / "head",
            "moving-shapes",
            "--annotations",
            shapes,
            "--features",
            shapes / "features",
            "-f",
        ]

    query = "a red circle falls"
    return {
        "extract": same("extract", annotations, videos, "OUT/store", "--backbone", "demo", "--fps", 4, "-j", 2),
        "train": Command(training, resumed),
        "synthesize": same("synthesize", "OUT/made", "-n", 2, "-j", 2),
        "ground": same(
            "ground", video, query, "-m", "demo", "-f", "--clips", "OUT/clips", "-o", "OUT/a.html", "-o", "OUT/a.json",
            "--save-features", "OUT/v.safetensors",
        ),
        "summarize": same("summarize", video, "-m", "demo", "-f", "-o", "OUT/s.mp4", "-o", "OUT/s.json"),
        "calibrate": Command(calibration, calibration),
    }  # fmt: skip


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "r2tuning", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, start_new_session=True
    )


def run(*arguments: object) -> float:
    """Runs a command to its end, which must be good; returns the seconds of processor time it took."""
    before = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    process = start(*arguments)
    shown, _ = process.communicate(timeout=600)
    if process.returncode:
        raise AssertionError(f"{arguments}: code {process.returncode}: {shown.decode()}")
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - before


def describe(folder: Path) -> dict[str, str]:
    """A hash of every file that must not depend on interruptions."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_dir() or "tensorboard" in name or path.name in ("environment.json", "state.pt"):
            continue
        content = path.read_bytes()
        if path.name == "log.csv":  # how long it waited for data is no result
            rows = list(csv.DictReader(content.decode().splitlines()))
            content = json.dumps([{k: v for k, v in row.items() if k != "waiting"} for row in rows]).encode()
        content = content.replace(str(folder).encode(), b"OUT")
        content = content.replace(os.path.relpath(folder).encode(), b"OUT")
        if path.suffix == ".safetensors":
            content = content.replace(b" ", b"")
        found[name] = hashlib.sha256(content).hexdigest()[:12]
    return found


def find_leftovers(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob(".*") if path.name.endswith(".part") or path.name.startswith(".lock")]


def find_members(session: int) -> dict[int, float]:
    """Processes of a session that still run, with the seconds of processor time that they and their children took."""
    found = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found[int(place.parent.name)] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return found


def interrupt(command: Command, folder: Path, number: signal.Signals, after: float) -> list[str]:
    """Stops a command after some seconds of processor time, runs it again, and returns what is wrong with its traces.

    On a busy machine, other than time on the clock, that is the same place in its work.
    """
    folder.mkdir(parents=True)
    process = start(*command.start(folder))
    while process.poll() is None and sum(find_members(process.pid).values()) < after:
        time.sleep(0.03)
    process.send_signal(number)
    shown, _ = process.communicate(timeout=120)
    if process.returncode == 0:
        return [OVER]
    problems = []
    if b"Traceback" in shown:
        problems.append(f"traceback: {shown.decode()[-1500:]}")
    if process.returncode not in (-number, 128 + number, 128 + signal.SIGINT):
        problems.append(f"code {process.returncode}: {shown.decode()[-1500:]}")
    end = time.monotonic() + GRACE
    while (left := find_members(process.pid)) and time.monotonic() < end:
        time.sleep(0.2)
    if left:
        problems.append(f"orphans {left}")
    if number != signal.SIGKILL and (found := find_leftovers(folder)):
        problems.append(f"left after {number.name}: {found}")
    run(*command.again(folder))
    if found := find_leftovers(folder):
        problems.append(f"left after the second run: {found}")
    return problems


def main() -> int:
    """Stops the commands, or those named, and prints what happened."""
    names = ("extract", "train", "synthesize", "ground", "summarize", "calibrate")
    parser = argparse.ArgumentParser(description="Stops commands, runs them again, and compares.")
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"of {', '.join(names)}; default: all")
    parser.add_argument("--seed", type=int, default=0, help="other numbers give other points")
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell is deaf to Ctrl-C
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        chosen = asked.commands or names
        commands = prepare(Path(place) / "data", shapes_too="calibrate" in chosen)
        for name in chosen:
            rng, command, out = random.Random(f"{name}/{asked.seed}"), commands[name], Path(place) / name
            out.mkdir()
            seconds = run(*command.start(out))
            wanted = describe(out)
            for number in SIGNALS * POINTS:
                problems = [OVER]
                while problems == [OVER]:
                    shutil.rmtree(out)  # to the same place, whose name is in the files
                    share = rng.uniform(0.2, 1)
                    problems = interrupt(command, out, number, share * seconds)
                found = describe(out)
                problems += [f"differs: {n}" for n in wanted.keys() | found.keys() if wanted.get(n) != found.get(n)]
                bad += bool(problems)
                print(f"{name} {number.name} at {share:.0%} of {seconds:.1f} s: {problems or 'identical'}", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
