"""Where the time of an answer goes, and how near each part is to what the machine can do: a Markdown table.

Two ceilings are measured first: products of large matrices (fp32, and bf16 where the processor has units for it) and
copies of memory. A part takes no less than its operations at the one, or its bytes at the other, whichever is more; for
decoding, what FFmpeg's decoder alone takes with frame threads stands there. Sizes: the QVHighlights model on CLIP
ViT-B/32; weights and features are random, times medians.
"""

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.clip.configuration_clip import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPVisionModel

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bench_decode import VIDEOS, write_video
from support.models import features, small_model

from r2tuning.backbones.base import choose_engine
from r2tuning.backbones.clip import ClipImageConfig, ClipImageTower
from r2tuning.backbones.loading import IMAGE
from r2tuning.backbones.vit import is_linear
from r2tuning.model import R2Config, block
from r2tuning.video import sample_frames

CONFIG = R2Config()
TOKENS = 12
BATCH = 32


@dataclass(frozen=True)
class Part:
    """A part of the work.

    Attributes:
        name: What it does.
        seconds: Median.
        operations: Floating-point operations.
        bytes: Of what goes in and comes out, weights included.
        ceiling: Operations per second that it could reach.
    """

    name: str
    seconds: float
    operations: float
    bytes: float
    ceiling: float

    def limit(self, bandwidth: float) -> float:
        """Seconds that it takes at least."""
        return max(self.operations / self.ceiling, self.bytes / bandwidth)


def take(run: Callable[[], object], rounds: int) -> float:
    """Median of seconds, after one round that does not count."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def measure_products(dtype: torch.dtype, rounds: int) -> float:
    """Operations per second of a product of large matrices."""
    side = 2048
    one, other = (torch.randn(side, side).to(dtype) for _ in range(2))
    return 2 * side**3 / take(lambda: one @ other, rounds)


def measure_copies(rounds: int) -> float:
    """Bytes per second, read and written."""
    source = torch.ones(2**27, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * source.nbytes / take(lambda: target.copy_(source), rounds)


def count_attention(query: list[int], key: list[int], *_: object, **__: object) -> int:
    """Operations of attention, by the shapes of its inputs."""
    return 4 * math.prod(query) * key[-2]


def count_product(_: list[int], one: list[int], other: list[int], **__: object) -> int:
    """Operations of a product that is added to something."""
    return 2 * math.prod(one) * other[-1]


# What PyTorch does not count: attention on a CPU, and products that are added in place.
UNCOUNTED = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: count_attention,
    torch.ops.aten.addmm_: count_product,
}


def count(run: Callable[[], object]) -> float:
    """Floating-point operations of products, convolutions and attention."""
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        run()
    operations: int = counter.get_total_flops()
    return operations


def watch(owner: object, method: str, run: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Seconds (median) and operations that ``run`` spends in a method."""
    plain = getattr(owner, method)
    spent, done = [0.0], [0.0]

    def watched(*given: object) -> object:
        began = time.perf_counter()
        result = plain(*given)
        spent[-1] += time.perf_counter() - began
        return result

    def counted(*given: object) -> object:
        done[0] += count(lambda: plain(*given))
        return plain(*given)

    setattr(owner, method, counted)
    run()
    setattr(owner, method, watched)
    for _ in range(rounds + 1):
        spent.append(0.0)
        run()
    delattr(owner, method)
    return statistics.median(spent[2:]), done[0]


def weigh(*tensors: Tensor) -> float:
    return sum(tensor.nbytes for tensor in tensors)


def profile_clip(ceilings: dict[str, float], rounds: int) -> list[Part]:
    """The image tower, a batch at a time."""
    config = ClipImageConfig()
    state = CLIPVisionModel(CLIPVisionConfig()).state_dict()
    weights = {name.removeprefix(IMAGE): value for name, value in state.items() if "post_layernorm" not in name}
    pixels = torch.randn(BATCH, 3, config.image_size, config.image_size)
    parts = []
    for name, precision in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        if name not in ceilings:
            continue
        used = {key: value.to(precision) if is_linear(key) else value for key, value in weights.items()}
        read = weigh(*used.values(), pixels)
        tower = ClipImageTower(used, config, CONFIG.layers)
        seconds = take(partial(tower, pixels), rounds)
        operations = count(partial(tower, pixels))
        parts.append(Part(f"CLIP, {BATCH} frames, {name}", seconds, operations, read, ceilings[name]))
    return parts


def profile_model(frames: int, ceiling: float, rounds: int) -> list[Part]:
    """Projecting a video once, and the parts of one question about it."""
    model = small_model(CONFIG, 0)
    video, _ = features(CONFIG, 1, frames, 49, 1, 0)
    _, query = features(CONFIG, 1, 1, 1, TOKENS, 1)
    video = video.half()
    projected = model.project(video)

    def project() -> object:
        return model.project(video)

    def ask() -> object:
        return model.predict(projected, query)

    parts = [
        Part(
            f"project {frames} frames",
            take(project, rounds),
            count(project),
            weigh(video, projected, *model.block.video_map.parameters()),
            ceiling,
        )
    ]
    refinement, pyramid = model.block.temporal_refinement, model.pyramid
    state = frames * CONFIG.hidden * 4.0
    for name, owner, method, size in (
        ("pool patches", block, "pool_patches", weigh(projected) + CONFIG.layers * state),
        ("refine in time", refinement, "forward", CONFIG.layers * (weigh(*refinement.parameters()) + 2 * state)),
        ("pyramid", pyramid, "forward", weigh(*pyramid.parameters()) + state),
    ):
        parts.append(Part(f"{name}, {frames} frames", *watch(owner, method, ask, rounds), size, ceiling))
    seconds = take(ask, rounds)
    rest = seconds - sum(part.seconds for part in parts[1:])
    parts.append(Part(f"rest of a question, {frames} frames", max(rest, 0.0), 0.0, 0.0, ceiling))
    return parts


def profile_decoding(seconds: int, rounds: int) -> tuple[float, float]:
    """Seconds of sampling a video at 0.5 frames per second, and of decoding all of it with frame threads."""
    folder = Path(tempfile.gettempdir()) / "r2tuning-bench-profile"
    folder.mkdir(exist_ok=True)
    path = folder / f"{seconds}s.mp4"
    if not path.exists():
        write_video(path, *VIDEOS["h264"], seconds)

    def decode() -> None:
        with av.open(str(path)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for _ in container.decode(video=0):
                pass

    return take(lambda: list(sample_frames(path, 0.5)), rounds), take(decode, rounds)


@torch.inference_mode()
def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one round, short video")
    options = parser.parse_args()
    rounds, seconds = (1, 10) if options.quick else (options.rounds, 60)
    torch.manual_seed(0)
    ceilings = {"fp32": measure_products(torch.float32, rounds)}
    if choose_engine(torch.device("cpu"), CONFIG.video_width) == "torch-bf16":
        ceilings["bf16"] = measure_products(torch.bfloat16, rounds)
    bandwidth = measure_copies(rounds)
    products = ", ".join(f"{value / 1e9:.0f} GFLOP/s in {name}" for name, value in ceilings.items())
    print(f"{torch.get_num_threads()} threads; ceilings: {products}, {bandwidth / 1e9:.1f} GB/s\n")
    parts = profile_clip(ceilings, max(1, rounds // 2))
    for frames in (75,) if options.quick else (75, 1800):
        parts += profile_model(frames, ceilings["fp32"], rounds if frames < 1000 else max(1, rounds // 2))
    print("| part | ms | GFLOP | MB | least ms | share of the limit |\n|---|---|---|---|---|---|")
    for part in parts:
        limit = part.limit(bandwidth)
        share = f"{limit / part.seconds:.0%}" if limit and part.seconds else "-"
        print(
            f"| {part.name} | {1e3 * part.seconds:.1f} | {part.operations / 1e9:.2f} | {part.bytes / 1e6:.0f} "
            f"| {1e3 * limit:.1f} | {share} |"
        )
    ours, alone = profile_decoding(seconds, max(1, rounds // 2))
    print(f"| sample {seconds} s of 720p30 (H.264) | {1e3 * ours:.0f} | | | {1e3 * alone:.0f} | {alone / ours:.0%} |")


if __name__ == "__main__":
    main()
