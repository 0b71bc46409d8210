"""Speed of CLIP's image tower on the CPU: transformers and every engine, interleaved in one process.

The tower has the shape of ViT-B/32 and random weights; nothing is downloaded. Prints a Markdown table: milliseconds per
frame (median, lowest to highest), speed as a multiple of transformers in fp32, and the lowest cosine of any token of
the last four layers to the same token of transformers. ``--clip`` measures a CLIP on this machine instead, such as
``demo``: rounding errors are larger with trained weights. Images are noise.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity
from transformers.models.clip.configuration_clip import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPVisionModel

from r2tuning.backbones.clip import ClipBackbone, ClipImageConfig, ClipImageTower
from r2tuning.backbones.int8 import Int8ImageTower, write_int8_model
from r2tuning.backbones.loading import IMAGE, load_files
from r2tuning.backbones.vit import is_linear

LAYERS = 4


def make_tower(clip: str | None) -> tuple[ClipImageConfig, dict[str, Tensor]]:
    if clip is not None:
        files = load_files(clip)
        config = ClipBackbone(files).image
        assert isinstance(config, ClipImageConfig)
        return config, files.read_weights(IMAGE, config.shapes(), "cpu", torch.float32)
    model = CLIPVisionModel(CLIPVisionConfig())
    return ClipImageConfig(), {name.removeprefix(IMAGE): value for name, value in model.state_dict().items()}


def make_reference(config: ClipImageConfig, weights: dict[str, Tensor]) -> Callable[[Tensor], Tensor]:
    model = CLIPVisionModel(CLIPVisionConfig(**config.model_dump())).eval()  # type: ignore[no-untyped-call]
    names = [name for name, _ in model.named_parameters() if "post_layernorm" not in name]
    model.load_state_dict({name: weights[name.removeprefix(IMAGE)] for name in names}, strict=False)
    return lambda pixels: torch.stack(
        model(pixel_values=pixels, output_hidden_states=True).hidden_states[-LAYERS:], dim=1
    )


def measure(ways: dict[str, Callable[[Tensor], Tensor]], pixels: Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; the ways take turns, so that a slow minute affects all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, run in ways.items():
            began = time.perf_counter()
            run(pixels)
            seconds[name].append(time.perf_counter() - began)
    return seconds


@torch.inference_mode()
def main() -> None:
    """Makes the towers, compares, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clip", help="folder or name of a CLIP; random ViT-B/32 by default")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="three rounds of 8 frames")
    options = parser.parse_args()
    batch, rounds = (8, 3) if options.quick else (options.batch, options.rounds)
    torch.manual_seed(0)
    config, weights = make_tower(options.clip)
    halved = {name: value.bfloat16() if is_linear(name) else value for name, value in weights.items()}
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "transformers, fp32": make_reference(config, weights),
        "torch": ClipImageTower(weights, config, LAYERS),
        "torch-bf16": ClipImageTower(halved, config, LAYERS),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        write_int8_model(path, ClipImageTower(weights, config, LAYERS))
        ways["onnx-int8"] = Int8ImageTower(path)
    pixels = torch.randn(batch, 3, config.image_size, config.image_size)
    expected, *others = [run(pixels) for run in ways.values()]
    cosines = [1.0, *(cosine_similarity(values, expected, dim=-1).min().item() for values in others)]
    seconds = measure(ways, pixels, rounds)
    base = statistics.median(seconds["transformers, fp32"])
    name = options.clip or "ViT-B/32, random weights"
    print(f"{name}: {rounds} batches of {batch}, {torch.get_num_threads()} threads\n")
    print("| engine | ms for a frame | speed | lowest cosine |\n|---|---|---|---|")
    for (name, values), cosine in zip(seconds.items(), cosines, strict=True):
        median, low, high = (1000 * value / batch for value in (statistics.median(values), min(values), max(values)))
        print(
            f"| {name} | {median:.1f} ({low:.1f}-{high:.1f}) | {base / statistics.median(values):.2f} | {cosine:.5f} |"
        )


if __name__ == "__main__":
    main()
