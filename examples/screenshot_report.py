"""Takes ``docs/images/report.png`` and ``report-dark.png``: the page that ``r2tuning ground -o FILE.html`` writes.

Grounds two queries of ``demo.py`` in the sample video; needs Chromium.

Usage: python examples/screenshot_report.py [FOLDER]
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from r2tuning import Grounder
from r2tuning.output.page import write_page

FOLDER = Path(__file__).resolve().parent
IMAGES = FOLDER.parent / "docs" / "images"
QUERIES = 2
WIDTH, HEIGHT = 1000, 1400
"""Pixels of the window; what lies below the page is cut off."""
MARGIN = 24
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
SCHEMES = {"report.png": 1, "report-dark.png": 0}
"""Chromium's numbers of light and dark."""


def main(images: Path) -> None:
    """Writes the pictures."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("chromium not found; install it to take the pictures")
    lines = (FOLDER / "sample.jsonl").read_text(encoding="utf-8").splitlines()[:QUERIES]
    video = os.path.relpath(FOLDER / "sample.mp4")
    results = Grounder.from_pretrained("demo").ground(video, [json.loads(line)["query"] for line in lines], top_k=3)
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        write_page(results, page)
        for name, scheme in SCHEMES.items():
            photograph(browser, page, scheme).save(images / name, optimize=True)
            print(images / name)


def photograph(browser: str, page: Path, scheme: int) -> Image.Image:
    """The whole page, as long as it is."""
    shot = page.with_suffix(".png")
    options = [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}", f"--user-data-dir={page.parent / 'profile'}"]
    options.append(f"--blink-settings=preferredColorScheme={scheme}")
    # The page gets this many milliseconds to decode the video.
    options.append("--virtual-time-budget=5000")
    subprocess.run([browser, *FLAGS, *options, page.as_uri()], check=True, stderr=subprocess.DEVNULL)
    picture = Image.open(shot).convert("RGB")
    pixels = np.asarray(picture)
    used = np.flatnonzero((pixels != pixels[-1, 0]).any(axis=(1, 2)))
    return picture.crop((0, 0, WIDTH, int(used[-1]) + MARGIN))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
