"""Peak memory of grounding in three hours of video, above the loaded model, with features as wide as ViT-B/32's.

Weights are random and CLIP has only the layers that are used, because only memory is measured. On a slow machine
``--minutes 30`` gives the same peak in a sixth of the time: memory does not grow with the length.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path

import av
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.golden import official_state_dict
from support.models import save_tiny_clip

from r2tuning import Grounder
from r2tuning.backbones import load_backbone
from r2tuning.checkpoints import read_checkpoint

RATE = 5


class Peak:
    """Watches how much memory this process holds."""

    def __init__(self) -> None:
        self.start = self.highest = self.now()
        threading.Thread(target=self._watch, daemon=True).start()

    @staticmethod
    def now() -> float:
        """Resident megabytes (Linux)."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    def _watch(self) -> None:
        while True:
            self.highest = max(self.highest, self.now())
            time.sleep(0.05)


def write_long_video(path: Path, minutes: int) -> None:
    """A small video in which a grey box wanders over a background that changes every ten seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "g": "50"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(minutes * 60 * RATE):
            image = np.full((96, 160, 3), i // 50 * 37 % 255, np.uint8)
            image[20:60, i % 120 : i % 120 + 30] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def main() -> None:
    """Writes the video, grounds two queries in it, prints the peak."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=180)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_long_video(folder / "long.mp4", minutes)
        torch.save({"meta": {}, "state_dict": official_state_dict("grounding")}, folder / "qvhighlights-ed516355.pth")
        clip = save_tiny_clip(folder / "clip", video_width=768, query_width=512, depth=4, patch=32)
        config, model = read_checkpoint(folder / "qvhighlights-ed516355.pth")
        grounder = Grounder(model, config, load_backbone(clip))
        peak = Peak()
        began = time.perf_counter()
        video = grounder.encode(folder / "long.mp4")
        encoded = time.perf_counter()
        results = grounder.ground(video, ["a grey box", "the background turns dark"])
        print(f"{minutes} minutes of video: {video.frames} frames, {results[0].windows} windows")
        print(f"encoding {encoded - began:.0f} s, two queries {time.perf_counter() - encoded:.0f} s")
        print(f"peak {peak.highest - peak.start:.0f} MB above the loaded model ({peak.start:.0f} MB)")


if __name__ == "__main__":
    main()
