"""How long asking and a training step take: spelled out, plain modules, fast way; and the largest difference.

Plain asking does what the released scripts do: every query encodes its video again. Sizes are those of CLIP ViT-B/32
(or, with ``--small``, of a model for quick studies), weights and features random. Each figure is the least of a few
runs in turn, in processor seconds of all threads, so that other work on the machine matters little. ``--spelled-out``
adds the loops of ``tests/transcription.py``.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from small_models import features, small_model
from transcription import transcribe

from r2tuning.checkpoints.official import export_official
from r2tuning.model import R2Config, R2Tuning
from r2tuning.types import ModelOutput

TOKENS = 12
WINDOW = 75


def least(ways: Sequence[Callable[[], object]], runs: int) -> list[float]:
    """Processor seconds of each way, the least of several runs in turn."""
    best = [float("inf")] * len(ways)
    for _ in range(runs):
        for i, way in enumerate(ways):
            began = time.process_time()
            way()
            best[i] = min(best[i], time.process_time() - began)
    return best


def loss(output: ModelOutput) -> Tensor:
    """A number that all weights have a share in."""
    assert output.offsets is not None
    parts = (output.class_logits, output.offsets.log(), output.video_cls, output.query_pooled, output.hidden)
    return torch.stack([part.square().mean() for part in parts]).sum()


def ask(model: R2Tuning, windows: int, queries: int, runs: int) -> str:
    """A row of the table: asking an encoded video of some windows."""
    video, _ = features(model.config, windows, WINDOW, 49, 1, 0)
    _, query = features(model.config, queries, 1, 1, TOKENS, 1)
    video_mask = torch.ones(windows, WINDOW, dtype=torch.bool)
    query_mask = torch.ones(queries, TOKENS, dtype=torch.bool)
    with torch.inference_mode():
        projected = model.project(video)

        def plain() -> Tensor:  # one window and one query, as the released scripts; more take as much again
            return model(video[:1], query[:1]).class_logits

        def fast() -> Tensor:
            return model.ask(projected, query, video_mask, query_mask).class_logits

        difference = (plain() - fast()[:1]).abs().max().item()
        one, together = least([plain, fast], runs)
    seconds = one * windows * queries
    name = f"ask {windows * WINDOW} frames, {queries} at once"
    return f"| {name} | {seconds:.3f} | {together:.3f} | {seconds / together:.1f} | {difference:.0e} |"


def train(model: R2Tuning, batch: int, frames: int, patches: int, runs: int) -> str:
    """A row of the table: a training step without the optimizer."""
    video, query = features(model.config, batch, frames, patches, TOKENS, 0)
    video = video.half()

    def step(fused: bool) -> None:
        model.fused = fused
        model.zero_grad()
        loss(model(video, query)).backward()

    model.eval()
    gradients = []
    for fused in (False, True):
        step(fused)
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    difference = ((gradients[0] - gradients[1]).norm() / gradients[0].norm()).item()
    model.train()
    plain, fast = least([lambda: step(False), lambda: step(True)], runs)
    name = f"training step, {batch} videos of {frames} frames"
    return f"| {name} | {plain:.3f} | {fast:.3f} | {plain / fast:.1f} | {difference:.0e} |"


def spell_out(model: R2Tuning) -> float:
    """Seconds of one query on one window, by loops."""
    video, query = features(model.config, 1, WINDOW, 49, TOKENS, 0)
    weights = {name: value.double().numpy() for name, value in export_official(model.state_dict()).items()}
    began = time.process_time()
    transcribe(weights, video[0].double().numpy(), query[0].double().numpy(), 0.5)
    return time.process_time() - began


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="K=4, 64 patches, Dv=160, C=128: training only")
    parser.add_argument("--spelled-out", action="store_true", help="time the loops too")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print("| | plain (s) | fast (s) | ratio | largest difference |\n|---|---|---|---|---|")
    if given.small:
        print(train(small_model(R2Config(video_width=160, query_width=96, hidden=128), 0), 16, 45, 64, given.runs))
        return
    model = small_model(R2Config(), 0)
    for windows, queries in ((1, 1), (1, 16), (16, 1)):
        print(ask(model, windows, queries, given.runs))
    print(train(model, 8, WINDOW, 49, max(1, given.runs // 2)))
    if given.spelled_out:
        print(f"\nspelled out, {WINDOW} frames and one query: {spell_out(model):.1f} s")


if __name__ == "__main__":
    main()
