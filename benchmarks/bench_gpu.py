"""The model on a GPU, beside the plain transcription: Markdown tables, and checks that both give the same numbers.

Measures CLIP's image tower (ViT-B/32, random weights), questions about long videos, and training steps with their
memory in fp32 and 16-mixed; compares kernels and plain path in fp32. ``benchmarks/gpu.sh`` runs it, after the tests of
resuming a training. ``--device cpu --quick`` tries it without a GPU.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers.models.clip.configuration_clip import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPVisionModel

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.dense_transcription import predict_densely
from support.golden import export_official
from support.models import features, small_model

from r2tuning.backbones.clip import ClipImageConfig, ClipImageTower
from r2tuning.backbones.loading import IMAGE
from r2tuning.decoding.windows import plan_windows
from r2tuning.model import R2Config
from r2tuning.prediction import PAIRS

CONFIG = R2Config()
WINDOW, PATCHES, TOKENS = 75, 49, 12
ATOL = 1e-3
"""Largest difference of fp32 predictions, relative to the largest number; TF32 is off."""


class Bench:
    """Measures on one device.

    Args:
        device: Where to run.
        rounds: Of each measurement, after one that does not count.
    """

    def __init__(self, device: torch.device, rounds: int) -> None:
        self.device = device
        self.rounds = rounds
        self.model = small_model(CONFIG, 0).to(device)

    def measure(self, way: Callable[[], object]) -> tuple[float, float]:
        """Median seconds, and the largest memory in GiB beyond what was held before; NaN for both without room."""
        gpu = self.device.type == "cuda"
        times = []
        try:
            for turn in range(self.rounds + 1):
                if gpu and turn == 1:
                    torch.cuda.synchronize()
                    torch.cuda.reset_peak_memory_stats()
                began, held = time.perf_counter(), torch.cuda.memory_allocated() if gpu else 0
                way()
                if gpu:
                    torch.cuda.synchronize()
                if turn:
                    times.append(time.perf_counter() - began)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return float("nan"), float("nan")
        memory = (torch.cuda.max_memory_allocated() - held) / 2**30 if gpu else float("nan")
        return statistics.median(times), memory

    def measure_tower(self, batch: int) -> list[str]:
        """Rows: frames per second of the image tower."""
        state = CLIPVisionModel(CLIPVisionConfig()).state_dict()
        rows = []
        for dtype in (torch.float32, torch.float16) if self.device.type == "cuda" else (torch.float32,):
            weights = {name.removeprefix(IMAGE): value.to(self.device, dtype) for name, value in state.items()}
            tower = ClipImageTower(weights, ClipImageConfig(), CONFIG.layers)
            pixels = torch.randn(batch, 3, 224, 224, device=self.device, dtype=dtype)
            with torch.inference_mode():
                seconds, memory = self.measure(lambda: tower(pixels))  # noqa: B023  (called at once)
            rows.append(f"| {dtype} | {batch / seconds:.0f} | {memory:.1f} |")
        return rows

    @torch.inference_mode()
    def measure_questions(self, lengths: tuple[int, ...]) -> list[str]:
        """Rows: the first question about a video in windows, and 1 and 16 later ones, beside the plain whole pass."""
        rows = []
        _, query = features(CONFIG, 16, 1, 1, TOKENS, 1)
        query = query.to(self.device)
        for frames in lengths:
            video = features(CONFIG, 1, frames, PATCHES, 1, 0)[0].to(self.device)
            half, windows = video[0].half(), plan_windows(frames, WINDOW)

            def project() -> list[Tensor]:
                projector = self.model.project_windows(lambda start, stop: half[:, start:stop])  # noqa: B023
                return [projector.project(w.start, w.stop) for w in windows]  # noqa: B023

            def ask(projected: list[Tensor], count: int) -> None:
                together = max(1, PAIRS // count)
                for first in range(0, len(projected), together):
                    self.model.predict(projected[first : first + together], query[:count])

            kept = project()
            ways: dict[str, Callable[[], object]] = {
                "plain, whole video": lambda: self.predict(video, query[:1], plain=True),  # noqa: B023
                "first question": lambda: ask(project(), 1),
                "later question": lambda: ask(kept, 1),  # noqa: B023
                "16 later questions": lambda: ask(kept, 16),  # noqa: B023
            }
            for name, way in ways.items():
                seconds, memory = self.measure(way)
                rows.append(f"| {frames} frames: {name} | {1e3 * seconds:.1f} | {memory:.2f} |")
        return rows

    def measure_training(self, batch: int, frames: int) -> list[str]:
        """Rows: a training step without the optimizer, of the model and of the plain path."""
        video = torch.randn(batch, CONFIG.layers, frames, PATCHES + 1, CONFIG.video_width, device=self.device).half()
        query = features(CONFIG, batch, 1, 1, TOKENS, 1)[1].to(self.device)
        rows = []
        for precision in ("fp32", "16-mixed") if self.device.type == "cuda" else ("fp32",):
            for name in ("model", "plain"):

                def step() -> None:
                    with torch.autocast(self.device.type, torch.float16, enabled=precision == "16-mixed"):  # noqa: B023
                        loss = total(self.predict(video, query, plain=name == "plain"))  # noqa: B023
                    loss.backward()  # type: ignore[no-untyped-call]
                    self.model.zero_grad()

                self.model.train()
                seconds, memory = self.measure(step)
                self.model.eval()
                rows.append(f"| {precision}, {name} | {1e3 * seconds:.0f} | {memory:.1f} |")
        return rows

    def predict(self, video: Tensor, query: Tensor, *, plain: bool) -> tuple[Tensor, ...]:
        """Class logits, offsets, projected [CLS], pooled queries and states."""
        if plain:
            weights = export_official(dict(self.model.named_parameters()))
            dropout = CONFIG.dropout if self.model.training else 0.0
            with self.device:  # what it makes lies there, too
                found = predict_densely(weights, video.float(), query.clone(), dropout=dropout)
            assert found.offsets is not None
            return found.logits, found.offsets, found.video_cls, found.query_pooled, found.hidden
        output = self.model(video, query)
        assert output.offsets is not None
        return output.class_logits, output.offsets, output.video_cls, output.query_pooled, output.hidden

    def compare(self, batch: int, frames: int) -> list[str]:
        """Rows: the largest relative difference of predictions and gradients of both paths, in fp32 without dropout."""
        video = torch.randn(batch, CONFIG.layers, frames, PATCHES + 1, CONFIG.video_width, device=self.device)
        query = features(CONFIG, batch, 1, 1, TOKENS, 1)[1].to(self.device)
        kept = []
        for plain in (False, True):
            self.model.zero_grad()
            found = self.predict(video, query, plain=plain)
            total(found).backward()  # type: ignore[no-untyped-call]
            gradients = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
            kept.append((found, gradients))
        (ours, our_gradients), (theirs, their_gradients) = kept
        predictions = max(differ(a, b) for a, b in zip(ours, theirs, strict=True))
        most = max(gradient.abs().max().item() for gradient in their_gradients.values())
        steepest = max(
            (our_gradients[name] - gradient).abs().max().item() / most for name, gradient in their_gradients.items()
        )
        if not max(predictions, steepest) < ATOL:
            sys.exit(f"kernels and plain path differ: predictions {predictions:.1e}, gradients {steepest:.1e}")
        return [f"| predictions | {predictions:.1e} |", f"| gradients | {steepest:.1e} |"]


def total(found: tuple[Tensor, ...]) -> Tensor:
    """A number that all weights have a share in."""
    logits, offsets, *others = (x.float() for x in found)
    return torch.stack([x.square().mean() for x in (logits, offsets.log(), *others)]).sum()


def differ(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the largest number."""
    return (a - b).abs().max().item() / b.abs().max().item()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="few rounds of small sizes")
    given = parser.parse_args()
    device, quick = torch.device(given.device), given.quick
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU here; --device cpu --quick tries the script without")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, PyTorch {torch.__version__}\n")
    bench = Bench(device, rounds=1 if quick else 10)
    tables = {
        "| kernels against the plain path | largest difference |": bench.compare(2, 15 if quick else WINDOW),
        "| image tower | frames/s | GiB |": bench.measure_tower(2 if quick else 64),
        "| question | ms | GiB |": bench.measure_questions((80,) if quick else (75, 300, 1800)),
        "| training step | ms | GiB |": bench.measure_training(2 if quick else 128, 15 if quick else WINDOW),
    }
    for head, rows in tables.items():
        print(head, "|" + "---|" * (head.count("|") - 1), *rows, "", sep="\n")


if __name__ == "__main__":
    main()
