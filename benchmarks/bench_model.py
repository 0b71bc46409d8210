"""How long the model takes, beside the paper written out plainly: Markdown tables for docs/performance.md.

The baseline is `tests/dense_transcription.py`: fp32, whole tensors, every input searched for padding and every query
through everything, as the released scripts do; *unmasked* is the same without the search. Sizes are those of the
QVHighlights model on CLIP ViT-B/32, weights and features random. Ways to be compared run in turn; figures are medians,
with the least and the largest in brackets. Answers must agree, or it fails.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.dense_transcription import predict_densely
from support.golden import export_official
from support.models import features, small_model

from r2tuning.decoding.windows import plan_windows
from r2tuning.model import R2Config, R2Tuning
from r2tuning.prediction import PAIRS

CONFIG = R2Config()
WINDOW = 75
PATCHES = 49
TOKENS = 12
ATOL = 1e-4
DISTINCT = 16
"""Windows projected for long videos, which use them again and again: more than the processor's cache holds."""

Times = list[float]
Figures = dict[str, object]


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Seconds of each way, round by round, after one round that does not count."""
    times: dict[str, Times] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if turn:
                times[name].append(time.perf_counter() - began)
    return times


def show(values: Sequence[float], digits: int = 1, factor: float = 1.0) -> str:
    """Median, least and largest."""
    middle, least, most = (f"{factor * x:.{digits}f}" for x in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({least} to {most})"


def ratios(baseline: Times, times: Times, factor: float = 1.0) -> list[float]:
    """How many times as long the baseline takes, round by round."""
    return [factor * plain / fast for plain, fast in zip(baseline, times, strict=True)]


class Bench:
    """A model and the weights of the baseline.

    Args:
        rounds: Of each comparison.
    """

    def __init__(self, rounds: int) -> None:
        self.model = small_model(CONFIG, 0)
        self.weights = export_official(self.model.state_dict())
        self.rounds = rounds
        self.figures: Figures = {}

    def compare(self, frames: int, counts: Sequence[int], rounds: int) -> list[str]:
        """Rows: projecting a video and querying it whole, against the baseline."""
        video, _ = features(CONFIG, 1, frames, PATCHES, 1, 0)
        _, query = features(CONFIG, max(counts), 1, 1, TOKENS, 1)
        exact = self.model.project(video)
        stored = video[0].half()
        _, logits, offsets, _, _ = predict_densely(self.weights, video, query[:1])
        assert offsets is not None
        got = self.model.predict(exact, query[:1])
        assert got.offsets is not None
        difference = max((got.class_logits - logits).abs().max().item(), (got.offsets - offsets).abs().max().item())
        if difference > ATOL:
            sys.exit(f"{frames} frames: answers differ by {difference:.1e}, more than {ATOL}")
        del got

        def ask(count: int) -> Callable[[], object]:
            return lambda: self.model.predict(exact, query[:count])

        ways: dict[str, Callable[[], object]] = {
            "baseline": lambda: predict_densely(self.weights, video, query[:1]),
            "unmasked": lambda: predict_densely(self.weights, video, query[:1], padding=False),
            "project": lambda: self.model.project(video),
        }
        ways |= {f"query {count}": ask(count) for count in counts}
        if frames > WINDOW:
            windows = cover(self.model, frames)
            ways["query 1 in windows"] = lambda: self.ask_windows(windows, query[:1])
            ways["query 1 in windows, with projecting"] = lambda: self.ask_first(stored, query[:1])
        times = take_turns(ways, rounds)
        baseline, unmasked = times.pop("baseline"), times.pop("unmasked")
        rows = [
            f"| {frames} frames: {name}, one query | {show(taken, factor=1e3)} | | |"
            for name, taken in (("baseline", baseline), ("unmasked", unmasked))
        ]
        for name, taken in times.items():
            count = 1 if name == "project" else int(name.split()[1])
            found, beside = ratios(baseline, taken, count), ratios(unmasked, taken, count)
            self.figures[f"{frames} frames: {name}"] = {
                "seconds": taken,
                "baseline": baseline,
                "unmasked": unmasked,
                "ratios": found,
                "ratios unmasked": beside,
            }
            rows.append(f"| {frames} frames: {name} | {show(taken, factor=1e3)} | {show(found)} | {show(beside)} |")
        return rows

    def ask_windows(self, windows: Sequence[Tensor], query: Tensor) -> None:
        """As `Grounder.answer` does: so many windows at once as there is room for, each query in turn."""
        together = max(1, PAIRS // len(query))
        for first in range(0, len(windows), together):
            for begin in range(0, len(query), PAIRS):
                self.model.predict(windows[first : first + together], query[begin : begin + PAIRS])

    def ask_first(self, video: Tensor, query: Tensor) -> None:
        """The first question about a video ``[K, T, P+1, Dv]``: projects its windows too."""
        projector = self.model.project_windows(lambda start, stop: video[:, start:stop])
        windows = plan_windows(video.shape[1], WINDOW)
        for first in range(0, len(windows), PAIRS):
            chosen = windows[first : first + PAIRS]
            self.model.predict([projector.project(window.start, window.stop) for window in chosen], query)

    def grow(self, lengths: Sequence[int]) -> list[str]:
        """Rows: one query about videos of several lengths, in windows."""
        _, query = features(CONFIG, 1, 1, 1, TOKENS, 1)
        videos = {frames: cover(self.model, frames) for frames in lengths}
        ways = {str(frames): partial(self.ask_windows, windows, query) for frames, windows in videos.items()}
        times = take_turns(ways, self.rounds)
        self.figures["one query by frames"] = times
        rows = [
            f"| {frames} | {len(videos[frames])} | {show(times[str(frames)], factor=1e3)} "
            f"| {show(times[str(frames)], 2, 1e3 / len(videos[frames]))} |"
            for frames in lengths
        ]
        windows = [len(videos[frames]) for frames in lengths]
        slope = fit_slope(windows, [statistics.median(times[str(frames)]) for frames in lengths])
        self.figures["slope"] = slope
        return [*rows, "", f"Seconds grow as windows to the power {slope:.2f}."]

    def ask_many(self, counts: Sequence[int]) -> list[str]:
        """Rows: several queries about one window."""
        _, query = features(CONFIG, max(counts), 1, 1, TOKENS, 1)
        windows = cover(self.model, WINDOW)

        def ask(count: int) -> Callable[[], object]:
            return lambda: self.ask_windows(windows, query[:count])

        times = take_turns({str(count): ask(count) for count in counts}, self.rounds)
        self.figures["one window by queries"] = times
        return [
            f"| {name} | {show(taken, factor=1e3)} | {show(taken, 2, 1e3 / int(name))} |"
            for name, taken in times.items()
        ]


def cover(model: R2Tuning, frames: int) -> list[Tensor]:
    """Projected patches of all windows of a video, as `Grounder` keeps them."""
    count = len(plan_windows(frames, WINDOW))
    distinct = [
        model.project(features(CONFIG, 1, WINDOW, PATCHES, 1, seed)[0])[0] for seed in range(min(count, DISTINCT))
    ]
    return [distinct[window % DISTINCT] for window in range(count)]


def fit_slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Exponent of the power law through points: 1 where values grow in proportion."""
    return statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in values]).slope


def make_steps(batch: int, frames: int, threads: int) -> dict[str, Callable[[], None]]:
    """Training steps without the optimizer: of the literal transcription by autograd, and of the model."""
    torch.set_num_threads(threads)
    model = small_model(CONFIG, 0).train()
    generator = torch.Generator().manual_seed(0)
    video = torch.empty(batch, CONFIG.layers, frames, PATCHES + 1, CONFIG.video_width, dtype=torch.float16)
    video.normal_(generator=generator)
    _, query = features(CONFIG, batch, 1, 1, TOKENS, 1)

    def step_literally() -> None:
        model.zero_grad()
        weights = export_official(dict(model.named_parameters()))
        found = predict_densely(weights, video.float(), query.clone(), dropout=CONFIG.dropout)  # it changes its inputs
        assert found.offsets is not None
        measure_loss(found.logits, found.offsets, found.video_cls, found.query_pooled, found.hidden)

    def step() -> None:
        model.zero_grad()
        found = model(video, query)
        measure_loss(found.class_logits, found.offsets, found.video_cls, found.query_pooled, found.hidden)

    return {"literal": step_literally, "model": step}


def measure_loss(logits: Tensor, offsets: Tensor, *others: Tensor) -> None:
    """Differentiates a number that all weights have a share in."""
    torch.stack([part.square().mean() for part in (logits, offsets.log(), *others)]).sum().backward()  # type: ignore[no-untyped-call]


def time_steps(batch: int, frames: int, threads: int, rounds: int) -> dict[str, Times]:
    """Seconds of both steps, taken in turns."""
    return take_turns(make_steps(batch, frames, threads), rounds)


def step_memory(name: str, batch: int, frames: int, threads: int) -> float:
    """MiB that a step needs, in a process of its own."""
    step = make_steps(batch, frames, threads)[name]
    before = peak()
    step()
    return peak() - before


def peak() -> float:
    """Most memory that this process has held, MiB (Linux; `getrusage` would count that of the parent, too)."""
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 2**10


def train(batch: int, frames: int, rounds: int, figures: Figures) -> list[str]:
    """Rows: a training step of the literal transcription and of the model."""
    size = batch, frames, torch.get_num_threads()
    memory: dict[str, float] = {}
    for name in ("literal", "model"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory[name] = pool.apply(step_memory, (name, *size))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        times = pool.apply(time_steps, (*size, rounds))
    figures[f"training step, {batch} x {frames} frames"] = {
        name: {"seconds": times[name], "MiB": memory[name]} for name in times
    }
    rows = [f"| {name} | {show(taken, 2)} | {memory[name]:.0f} |" for name, taken in times.items()]
    return [*rows, "", f"The model is {show(ratios(times['literal'], times['model']), 2)} times as fast."]


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a try: few rounds, short videos")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    quick = given.quick
    bench = Bench(rounds=2 if quick else 7)
    tables = []
    with torch.inference_mode():
        rows = bench.compare(WINDOW, (1, 16), rounds=2 if quick else 15)
        rows += [] if quick else bench.compare(300, (1,), rounds=9) + bench.compare(1800, (1,), rounds=5)
        tables.append((f"| {given.threads} threads | milliseconds | times as fast as the baseline | unmasked |", rows))
        lengths = (75, 300) if quick else (75, 300, 1200, 1800, 7200)
        tables.append(("| frames | windows | ms per query | ms per window |", bench.grow(lengths)))
        counts = (1, 16) if quick else (1, 4, 16, 64, 256)
        tables.append((f"| queries on {WINDOW} frames | ms | ms per query |", bench.ask_many(counts)))
    batch, frames = (2, 15) if quick else (8, WINDOW)
    rows = train(batch, frames, 1 if quick else 4, bench.figures)
    tables.append((f"| training step, {batch} videos of {frames} frames | seconds | peak MiB |", rows))
    for head, rows in tables:
        print(head, "|" + "---|" * (head.count("|") - 1), *rows, "", sep="\n")
    if given.json is not None:
        given.json.write_text(json.dumps({"threads": given.threads, **bench.figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
