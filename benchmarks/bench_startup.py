"""Time from a shell to an answer: every command in a fresh process, interleaved, beside Python and PyTorch alone.

Prints a Markdown table of seconds (median, lowest to highest), the processor's seconds, which other programs change
less, and what each is of ``import torch``. The saved encoding has 75 frames of noise, and the demo model is asked;
``score`` scores 200 queries.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYTHON = "python -c pass"
TORCH = "import torch"

SAVE = """
import sys, torch
from r2tuning.checkpoints import load_checkpoint
from r2tuning.checkpoints.published import DEMO_FOLDER
from r2tuning.features.encoded import EncodingFacts, FeatureWriter
model = load_checkpoint(DEMO_FOLDER).config
writer = FeatureWriter()
writer.append(torch.randn(75, model.layers, 65, model.video_width))
facts = dict(video="noise.mp4", duration=150, start=0, fps=0.5, sampling="exact", truncated=False, backbone="demo")
writer.finish(EncodingFacts(**facts, fingerprint="", preprocess_version=1)).save(sys.argv[1])
"""


QUERIES = 200


def write_predictions(folder: Path) -> tuple[str, str]:
    """Predictions for QVHighlights, and labels for them."""
    files = folder / "predictions.jsonl", folder / "labels.jsonl"
    told = [
        {"qid": n, "vid": f"v{n}", "query": "a dog", "pred_relevant_windows": [[0, 2 + n % 9, 0.9]]}
        for n in range(QUERIES)
    ]
    known = [
        {"qid": n, "vid": f"v{n}", "query": "a dog", "duration": 150, "relevant_windows": [[0, 10]],
         "relevant_clip_ids": [0, 1, 2, 3, 4], "saliency_scores": [[3, 3, 3]] * 5}
        for n in range(QUERIES)
    ]  # fmt: skip
    for file, lines in zip(files, (told, known), strict=True):
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(files[0]), str(files[1])


def run(command: list[str]) -> tuple[float, float]:
    """Seconds on the clock, and of the processor."""
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    # Python may keep what it compiles, as it does for users.
    kept = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=kept)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - began, now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


def main() -> None:
    """Saves an encoding, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="two rounds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        saved = str(Path(folder) / "noise.safetensors")
        run(["-c", SAVE, saved])
        commands = {
            PYTHON: ["-c", "pass"],
            TORCH: ["-c", TORCH],
            "r2tuning --help": ["-m", "r2tuning", "--help"],
            "r2tuning score": ["-m", "r2tuning", "score", *write_predictions(Path(folder))],
            "import r2tuning.grounder": ["-c", "import r2tuning.grounder"],
            "r2tuning ground saved.safetensors": ["-m", "r2tuning", "ground", saved, "a red circle", "-m", "demo"],
        }
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for number in range((2 if options.quick else options.rounds) + 1):
            for name, command in commands.items():
                taken = run(command)
                if number:  # the first round only warms the disk cache
                    seconds[name].append(taken)
    base = statistics.median(clock for clock, _ in seconds[TORCH])
    print("| fresh process | seconds | of the processor | relative to `import torch` |\n|---|---|---|---|")
    for name, values in seconds.items():
        clock, processor = (sorted(column) for column in zip(*values, strict=True))
        median = statistics.median(clock)
        shown = f"{median:.2f} ({clock[0]:.2f}-{clock[-1]:.2f}) | {statistics.median(processor):.2f}"
        print(f"| `{name}` | {shown} | {median / base:.2f} |")


if __name__ == "__main__":
    main()
