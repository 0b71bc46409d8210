"""Damages small good files in many ways and reads each in a process of its own: what happens, in one word.

``PYTHONPATH=src:tests python -m support.mutate`` runs all 2,000 mutations and prints a table; see its ``--help``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from support.groundings import make_grounding
from support.videos import write_video

from r2tuning import Grounder
from r2tuning.ablation.table import read_table
from r2tuning.checkpoints import load_checkpoint
from r2tuning.checkpoints.published import DEMO_FOLDER
from r2tuning.datasets import find_benchmark, load_annotations
from r2tuning.datasets.download import _read_record
from r2tuning.errors import R2TuningError
from r2tuning.evaluation.score import read_predictions
from r2tuning.features import EncodedVideo
from r2tuning.features.layouts import map_array
from r2tuning.features.store import FeatureStore, StoreFacts
from r2tuning.output.media.cut import cut
from r2tuning.output.page import write_page
from r2tuning.output.registry import find_target, save_results
from r2tuning.output.text.csv import to_csv
from r2tuning.output.text.json import read_answers, to_json
from r2tuning.training.recipes import Recipe, load_recipe, write_recipe
from r2tuning.training.run_folder import RunFolder, read_run
from r2tuning.types import Preprocessing
from r2tuning.video import probe, sample_frames

LIMIT = 60.0
"""Seconds that reading a file may take."""
MEMORY = 8 * 2**30
"""Bytes of address space that a reader may take beyond what it has; a claim of more must be refused."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Reader = Callable[[Path, Path], object]
"""Reads a file, and may write into a folder."""

HOSTILE: list[Any] = [
    None, True, "", " ", "\0", "nan", "/etc/passwd", "../../../../tmp/x", "/dev/zero", "\x1b]0;x\x07\x1b[31m\n",
    "A" * 100_000, "=cmd()", "é\u202e\ud800", 0, -1, 1, 2**31, 2**63, 10**400, -(10**30), 1e308, 1e-308,
    float("nan"), float("inf"), [], {}, [[]], [0] * 1000, {"a": {"b": 1}},
    "1e999", "0x41", "2001-13-45", "!!python/object:os.system x",
]  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A good file, what reads it, and how it may be damaged beside bytes."""

    name: str
    content: bytes
    read: Reader
    shape: Callable[[bytes, random.Random], bytes] | None = None


def damage(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, cut off, doubled, moved or overwritten."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        if not data:
            break
        at, length = rng.randrange(len(data)), rng.choice([1, 1, 2, 4, 8, 64, 1024])
        match rng.randrange(7):
            case 0:
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + length] = rng.choice([b"\0", b"\xff", b"\x7f"]) * length
            case 2:
                del data[at : at + length]
            case 3:
                data[at:at] = data[at : at + length]
            case 4:
                data[at : at + length] = rng.randbytes(length)
            case 5:
                other = rng.randrange(len(data))
                data[at : at + length] = data[other : other + length]
            case _:
                if rng.random() < 0.3:
                    del data[at:]
    return bytes(data)


def damage_value(value: Any, rng: random.Random) -> Any:
    """A value of JSON with one place in it changed."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        value = value.copy()
        key = rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        if isinstance(value, dict) and rng.random() < 0.2:
            old = value.pop(key)
            value[rng.choice(["", "x" * 5000, "\x1b[31m", key + "s", key.upper()])] = old
        else:
            value[key] = damage_value(value[key], rng)
        return value
    return rng.choice(HOSTILE)


def damage_json(content: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.05:
        return b"[" * 200_000
    return json.dumps(damage_value(json.loads(content), rng)).encode()


def damage_lines(content: bytes, rng: random.Random) -> bytes:
    lines = content.split(b"\n")
    at = rng.randrange(len(lines) - 1)
    lines[at] = damage_json(lines[at], rng)
    return b"\n".join(lines)


def damage_yaml(content: bytes, rng: random.Random) -> bytes:
    special = [b"a: &a [*a]\n", b"extends: /dev/zero\n", b"[" * 3000, b"? [1]\n: 2\n", b"a: 0b" + b"1" * 9000]
    if rng.random() < 0.1:
        return content + rng.choice(special)
    changed = damage_value(yaml.safe_load(content), rng)
    return json.dumps(changed).encode()  # which is YAML too


def damage_table(content: bytes, rng: random.Random) -> bytes:
    cells = [line.split(b",") for line in content.splitlines()]
    row = rng.choice(cells)
    row[rng.randrange(len(row))] = str(rng.choice(HOSTILE)).encode("utf-8", "replace")
    return b"\n".join(map(b",".join, cells)) + b"\n"


def damage_header(content: bytes, rng: random.Random) -> bytes:
    """A safetensors file with another header."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    for inner in header.values():
        if "r2tuning" in inner and rng.random() < 0.5:  # our facts are JSON within JSON
            inner["r2tuning"] = json.dumps(damage_value(json.loads(inner["r2tuning"]), rng))
            break
    else:
        header = damage_value(header, rng)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + size :]


def media(folder: Path) -> Iterator[Case]:
    """Small videos of several containers."""
    folder.mkdir()
    small = {"fps": 10, "frames": 30, "size": (32, 32)}
    for ending, codec in (
        ("mp4", "libx264"), ("mkv", "libx264"), ("ts", "mpeg2video"), ("avi", "mpeg4"), ("flv", "flv"),
        ("mov", "mjpeg"),        ("mp4", "libx265"), ("webm", "libvpx"),
    ):  # fmt: skip
        path = write_video(
            folder / f"{codec}.{ending}", codec=codec, audio=1 if ending in ("mp4", "ts") else None, **small
        )
        yield Case(path.name, path.read_bytes(), read_video)


def read_video(path: Path, folder: Path) -> None:
    info = probe(path)
    with sample_frames(path, 1.0, Preprocessing(size=32)) as frames:
        for _ in frames:
            pass
    if path.stat().st_size % 4 == 0:
        cut(str(path), info.start, info.start + min(info.duration, 1.0), folder / "clip.mp4")


def models(folder: Path) -> Iterator[Case]:
    """The files of the demo model, each in a folder where the others are whole."""
    folder.mkdir()
    clip = DEMO_FOLDER.parent / "clip"
    video = write_video(folder / "v.mp4", fps=2, frames=8, size=(64, 64))
    features = folder / "v.safetensors"
    Grounder.from_pretrained("demo").encode(video).save(features)

    def use(home: Path, kind: str) -> Reader:
        def read(path: Path, out: Path) -> None:
            place = out / kind
            place.mkdir()
            for file in home.iterdir():
                (place / file.name).symlink_to(path if file.name == path.name else file)
            # With a backbone by name, the checkpoint's calibration and domain are not read.
            head, backbone = (place, None) if kind == "head" else (DEMO_FOLDER, place)
            grounder = Grounder.from_pretrained(head, backbone=backbone, device="cpu", engine="torch")
            grounder.ground(EncodedVideo.load(features), "a red circle falls")

        return read

    for home, kind in ((DEMO_FOLDER, "head"), (clip, "clip")):
        for file in sorted(home.iterdir()):
            shape = damage_header if file.suffix == ".safetensors" else damage_json
            yield Case(file.name, file.read_bytes(), use(home, kind), shape)
    weights = folder / "own.pth"
    torch.save({"state_dict": load_checkpoint(DEMO_FOLDER).state_dict()}, weights)
    yield Case("own.pth", weights.read_bytes(), lambda path, out: load_checkpoint(path))


def texts(folder: Path) -> Iterator[Case]:
    """Annotations, predictions, recipes, answers, tables, logs, saved states and records."""
    folder.mkdir()

    def annotations(name: str) -> Reader:
        return lambda path, out: load_annotations(path, find_benchmark(name))

    line = {"qid": 1, "vid": "a", "query": "a dog", "duration": 30, "relevant_windows": [[2, 6]]}
    rated = line | {"duration": 150, "relevant_clip_ids": [1, 2], "saliency_scores": [[1, 2, 3], [4, 4, 4]]}
    rows = [{"video": "a.mp4", "start": 1.5, "end": 3, "query": "a dog"}] * 3
    many = "\n".join(json.dumps(row) for row in rows) + "\n"
    yield Case("own.jsonl", many.encode(), annotations("custom"), damage_lines)
    answers = [make_grounding(), make_grounding(query="b")]
    yield Case("own.csv", to_csv(answers).encode(), annotations("custom"), damage_table)
    for name, one in (("qvhighlights", rated), ("charades-sta", line)):
        text = "".join(json.dumps(one | {"qid": number}) + "\n" for number in (1, 2, 3))
        yield Case(f"{name}.jsonl", text.encode(), annotations(name), damage_lines)
    truth = load_annotations(_put(folder / "t.jsonl", json.dumps(rated).encode()), find_benchmark("qvhighlights"))
    predicted = {"qid": 1, "pred_relevant_windows": [[2, 6, 0.5]], "pred_saliency_scores": [0.5] * 75}
    predictions = (json.dumps(predicted) + "\n").encode()
    yield Case("p.jsonl", predictions, lambda path, out: read_predictions(path, truth, moments=True), damage_lines)
    recipe = write_recipe(Recipe(name="x"))
    yield Case("r.yaml", recipe.encode(), lambda path, out: load_recipe(path), damage_yaml)
    yield Case(
        "set", b"optimizer.lr=0.001", lambda path, out: load_recipe("custom", [path.read_bytes().decode("latin1")])
    )

    def draw(path: Path, out: Path) -> None:
        for answer in read_answers(path):
            save_results([answer], find_target(str(out / "a.png")), force=True)
            save_results([answer], find_target(str(out / "a.srt")), force=True)

    yield Case("a.json", to_json(answers).encode(), draw, damage_json)
    spread = {"mean": 1.0, "deviation": None}
    table = {"cells": [{"settings": {"a": "1"}, "metrics": {"mAP": spread}}], "failed": [], "left": 0}
    yield Case("table.json", json.dumps(table).encode(), lambda path, out: read_table(path), damage_json)
    log = b"step,epoch,total,lr\n10,0,1.5,0.1\n20,0,1.25,0.1\n"
    yield Case("log.csv", log, lambda path, out: read_run(path.parent, "x"), damage_table)
    run = RunFolder(folder / "run")
    run.begin(Recipe(name="x"))
    run.save_state({"step": 1, "model": {"a": torch.zeros(3)}})

    def resume(path: Path, out: Path) -> None:
        _put(out / "recipe.yaml", recipe.encode())
        (out / "state.pt").symlink_to(path)
        RunFolder(out).resume(Recipe(name="x"))

    yield Case("state.pt", (run.path / "state.pt").read_bytes(), resume)
    facts = StoreFacts(
        layout="npy", backbone="tiny", fingerprint="", layers=2, tokens=5, video_width=8, query_width=6,
        preprocess_version=1, created_with="x",
    )  # fmt: skip
    store = facts.model_dump_json().encode()
    yield Case("store.json", store, lambda path, out: FeatureStore.open(path.parent), damage_json)
    record = b'{"files": {"a.jsonl": ["0123"]}}'
    yield Case("download.json", record, lambda path, out: _read_record(path.parent), damage_json)


def saved(folder: Path) -> Iterator[Case]:
    """Saved features, and arrays."""
    folder.mkdir()
    grounder = Grounder.from_pretrained("demo", device="cpu", engine="torch")
    video = write_video(folder / "v.mp4", fps=2, frames=8, size=(64, 64))
    grounder.encode(video).save(folder / "v.safetensors")

    def ground(path: Path, out: Path) -> None:
        encoded = EncodedVideo.load(path)
        answer = grounder.ground(encoded, "a red circle falls")
        write_page([answer], out / "a.html", embed=True)
        if b"root:" in (out / "a.html").read_bytes():
            raise AssertionError("the page holds a file that is no video")
        cut(answer.video, answer.start, answer.start + 1, out / "c.mp4")

    for _ in range(3):
        yield Case("v.safetensors", (folder / "v.safetensors").read_bytes(), ground, damage_header)
    np.save(folder / "a.npy", np.zeros((4, 2, 5, 8), np.float16))
    yield Case("a.npy", (folder / "a.npy").read_bytes(), lambda path, out: map_array(path).sum())


def _put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


GROUPS: dict[str, tuple[Callable[[Path], Iterator[Case]], int]] = {
    "media": (media, 1000),
    "model files": (models, 300),
    "annotations and recipes": (texts, 500),
    "saved features": (saved, 200),
}
"""What makes the good files, and how many mutations a full run has."""


def mutate(group: str, count: int, folder: Path, seed: int = 0) -> Iterator[tuple[str, str, str]]:
    """Yields the file, the outcome and its details of each mutation: read, refused, traceback, hang, death or stray."""
    make, _ = GROUPS[group]
    cases = list(make(folder / "good"))
    for number in range(count):
        rng = random.Random(f"{group}/{seed}/{number}")
        case = cases[number % len(cases)]
        shaped = case.shape is not None and rng.random() < 0.7
        try:
            content = case.shape(case.content, rng) if shaped and case.shape else damage(case.content, rng)
        except (ValueError, UnicodeEncodeError):
            content = damage(case.content, rng)
        home = folder / f"{number}"
        (home / "in").mkdir(parents=True)
        (home / "out").mkdir()
        path = _put(home / "in" / case.name, content)
        outcome, details = run_apart(case.read, path, home / "out")
        if outcome == "hang":  # a fork may take over a lock that a thread of the parent held; that does not come twice
            shutil.rmtree(home / "out")
            (home / "out").mkdir()
            outcome, details = run_apart(case.read, path, home / "out")
        strays = {p.name for p in (*home.iterdir(), *path.parent.iterdir())} - {"in", "out", path.name}
        leftovers = {p.name for p in (home / "out").rglob(".*") if p.name.endswith(".part")}
        if strays or leftovers:
            outcome, details = "stray", f"{strays | leftovers}"
        yield f"{number} {case.name}", outcome, details


def run_apart(read: Reader, path: Path, out: Path) -> tuple[str, str]:
    """Reads a file in a forked process with limits on time and memory."""
    theirs, ours = os.pipe(), os.fork()
    if ours == 0:
        os.close(theirs[0])
        os.write(theirs[1], "\0".join(_attempt(read, path, out)).encode("utf-8", "replace")[:60_000])
        os._exit(0)
    os.close(theirs[1])
    try:
        if not select.select([theirs[0]], [], [], LIMIT)[0]:
            os.kill(ours, signal.SIGKILL)
            return "hang", f"more than {LIMIT:.0f} s"
        answer = os.read(theirs[0], 65_536).decode()
    finally:
        os.close(theirs[0])
        _, status = os.waitpid(ours, 0)
    outcome, _, details = answer.partition("\0")
    return (outcome, details) if outcome else ("death", f"status {status}")


def _attempt(read: Reader, path: Path, out: Path) -> tuple[str, str]:
    import resource

    with Path("/proc/self/statm").open() as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    try:
        read(path, out)
    except R2TuningError as error:
        message = str(error)
        good = len(message) <= 300 and not CONTROL.search(message)
        return ("refused", message) if good else ("traceback", f"long: {message}")
    except BaseException:
        return "traceback", traceback.format_exc()
    return "read", ""


def main() -> int:
    """Runs all groups, or those named, and prints how many of each outcome there were."""
    parser = argparse.ArgumentParser(description="Damages good files and reads them; prints what should not happen.")
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; default: all")
    parser.add_argument("--seed", type=int, default=0, help="other numbers give other mutations")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    bad = 0
    for group in asked.groups or GROUPS:
        started, counts = time.monotonic(), Counter[str]()
        with tempfile.TemporaryDirectory() as place:
            for name, outcome, details in mutate(group, GROUPS[group][1], Path(place), asked.seed):
                counts[outcome] += 1
                if outcome not in ("read", "refused"):
                    bad += 1
                    print(f"{group} {name}: {outcome}\n{details}", flush=True)
        print(f"{group}: {dict(counts)} in {time.monotonic() - started:.0f} s", flush=True)
    return bad


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
