"""From a video file to an answer in a fresh process: `r2tuning ground` beside the pipeline that comes to mind first.

That one decodes every frame, keeps those it wants as they are, in float, scales them, and runs transformers' CLIP and
the paper written out plainly (`tests/dense_transcription.py`) over all. Both read the same files: 150 s of 720p30, a
CLIP of ViT-B/32's shape and a model of QVHighlights' shape, weights random. Prints a Markdown table of seconds and of
the most memory that the process held (medians, least and largest); the first round of each does not count.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

QUERY = "a red box moves to the left"

NAIVE = """
import sys
from pathlib import Path
import av, numpy as np, torch
from torch.nn.functional import interpolate
from transformers import AutoTokenizer, CLIPModel
sys.path.insert(0, sys.argv[5])
from support.dense_transcription import predict_densely
video, folder, weights, query = sys.argv[1:5]
frames, shown, wanted = [], None, 1.0  # the centres of clips of 2 s
with av.open(video) as container:
    for frame in container.decode(video=0):
        if frame.time >= wanted:
            frames.append(torch.from_numpy(shown).permute(2, 0, 1).float() / 255)
            wanted += 2.0
        shown = frame.to_ndarray(format="rgb24")
    frames.append(torch.from_numpy(shown).permute(2, 0, 1).float() / 255) if len(frames) < 75 else None
pixels = torch.stack(frames)
side = pixels.shape[-2]
left = (pixels.shape[-1] - side) // 2
pixels = interpolate(pixels[..., left : left + side], size=(224, 224), mode="bicubic", antialias=True)
mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
clip = CLIPModel.from_pretrained(folder).eval()
with torch.inference_mode():
    pixels = (pixels - mean) / std
    tower = clip.vision_model
    states = [tower(pixel_values=part, output_hidden_states=True).hidden_states[-4:] for part in pixels.split(32)]
    seen = torch.stack([torch.cat(layer) for layer in zip(*states)])[None]
    tokens = AutoTokenizer.from_pretrained(folder)(query, return_tensors="pt")
    asked = torch.stack(clip.text_model(**tokens, output_hidden_states=True).hidden_states[-4:], dim=1)
    hidden, logits, offsets, _, _ = predict_densely(torch.load(weights, weights_only=True)["state_dict"], seen, asked)
print(len(frames), logits.sigmoid().topk(5).values.tolist())
"""


def save_models(folder: Path) -> None:
    """Writes ``clip`` (ViT-B/32's shape) and ``model.pth`` (as the authors' files are)."""
    import torch
    from support.golden import export_official
    from support.models import small_model, tokenizer
    from transformers import CLIPConfig, CLIPModel

    from r2tuning.model import R2Config

    torch.manual_seed(0)
    words = tokenizer()
    text = {"vocab_size": 49408, "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    CLIPModel(CLIPConfig(text_config=text)).save_pretrained(folder / "clip")
    words.save_pretrained(folder / "clip")
    state = export_official(small_model(R2Config(), 0).state_dict())
    torch.save({"meta": {}, "state_dict": state}, folder / "model.pth")


def run(command: list[str]) -> tuple[float, float, str]:
    """Seconds, MiB and output of a fresh process."""
    kept = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}  # Python may keep what it compiles, as it does for users
    began = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen([sys.executable, *command], stdout=output, stderr=subprocess.DEVNULL, env=kept)
        _, status, usage = os.wait4(process.pid, 0)
        taken = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read().decode()
    if process.returncode:
        sys.exit(f"{command[:3]} ended with {process.returncode}")
    return taken, usage.ru_maxrss / 2**10, text  # Linux counts in KiB


def show(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main() -> None:
    """Writes what is not there yet, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=150, help="length of the video")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round on 20 s of video")
    parser.add_argument("--engines", nargs="+", default=["torch", "torch-bf16", "onnx-int8"])
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "r2tuning-bench-ground")
    options = parser.parse_args()
    seconds, rounds = (20, 1) if options.quick else (options.seconds, options.rounds)
    options.cache.mkdir(parents=True, exist_ok=True)
    video, model, clip = options.cache / f"{seconds}s.mp4", options.cache / "model.pth", options.cache / "clip"
    if not video.exists():
        from bench_decode import VIDEOS, write_video

        write_video(video, *VIDEOS["h264"], seconds)
    if not model.exists():
        save_models(options.cache)
    naive = options.cache / "naive.py"
    naive.write_text(NAIVE)
    commands = {"naive": [str(naive), str(video), str(clip), str(model), QUERY, str(TESTS)]}
    ours = [
        "-m",
        "r2tuning",
        "ground",
        str(video),
        QUERY,
        "--model",
        str(model),
        "--backbone",
        str(clip),
        "--json",
        "-",
    ]
    commands |= {f"r2tuning ground, {engine}": [*ours, "--engine", engine] for engine in options.engines}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            seconds_taken, memory_held, output = run(command)
            if number:  # the first round warms the disk cache, and makes engines
                taken[name].append((seconds_taken, memory_held))
            if name != "naive" and number == 0:
                print(name, [m["score"] for m in json.loads(output)[0]["moments"]][:5], file=sys.stderr)
            elif number == 0:
                print(name, output, file=sys.stderr)
    base = [statistics.median(values) for values in zip(*taken["naive"], strict=True)]
    print(f"{seconds} s of 720p30, one question, {rounds} rounds\n")
    print("| fresh process | seconds | times as fast | MiB | share of the memory |\n|---|---|---|---|---|")
    for name, figures in taken.items():
        times, memory = (list(column) for column in zip(*figures, strict=True))
        print(
            f"| {name} | {show(times, 1)} | {base[0] / statistics.median(times):.1f} "
            f"| {show(memory, 0)} | {statistics.median(memory) / base[1]:.0%} |"
        )


if __name__ == "__main__":
    main()
