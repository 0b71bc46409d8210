"""Time from a shell to an answer: every command in a fresh process, interleaved, beside importing PyTorch alone.

Prints a Markdown table of seconds (median, lowest to highest) and their ratio to ``import torch``. The saved
encoding has 75 frames of noise, and the demo model is asked.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def run(command: list[str]) -> float:
    began = time.perf_counter()
    # Python may keep what it compiles, as it does for users.
    kept = os.environ | {"PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([sys.executable, *command], check=True, capture_output=True, env=kept)
    return time.perf_counter() - began


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
            TORCH: ["-c", TORCH],
            "r2tuning --help": ["-m", "r2tuning", "--help"],
            "import r2tuning.grounder": ["-c", "import r2tuning.grounder"],
            "r2tuning ground saved.safetensors": ["-m", "r2tuning", "ground", saved, "a red circle", "-m", "demo"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range((2 if options.quick else options.rounds) + 1):
            for name, command in commands.items():
                taken = run(command)
                if number:  # the first round only warms the disk cache
                    seconds[name].append(taken)
    base = statistics.median(seconds[TORCH])
    print("| fresh process | seconds | of `import torch` |\n|---|---|---|")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"| `{name}` | {median:.2f} ({min(values):.2f}-{max(values):.2f}) | {median / base:.2f} |")


if __name__ == "__main__":
    main()
