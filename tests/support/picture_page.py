"""Takes the pictures of the page of ``r2tuning serve`` for the documents, from a library that it makes.

The videos are Moving Shapes, and the model is the embedded one. Needs Chromium and chromedriver.

Usage: python -m support.picture_page [FOLDER]
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

from support.browser import Browser, start_browser
from support.server import Client, running

from r2tuning import Library
from r2tuning.synthetic.generate import synthesize

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
VIDEOS, SEED = 4, 5
ABSENT = "a man cooks rice"
WIDE, NARROW = 1200, 390
"""Pixels of the window."""


def main(images: Path) -> None:
    """Writes the pictures."""
    images.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        annotations = synthesize(place / "holidays", VIDEOS, seed=SEED, split="test").annotations
        videos = place / "holidays" / "videos"
        query = json.loads(annotations.read_text(encoding="utf-8").splitlines()[0])["query"]
        Library(place / "library", model="demo").add(videos)
        with start_browser(place / "profile") as browser:
            with running(place / "library", "--root", videos) as server:
                server.client.wait_until_ready()
                browser.open(server.address)
                browser.wait('return document.getElementById("facts").textContent !== ""')
                take_search(browser, query, images)
                take_video(browser, server.client, query, images)
            with running(place / "empty", "--model", "demo", "--root", videos) as server:
                browser.open(server.address)
                browser.wait('return !document.getElementById("adding").hidden')
                photograph(browser, images / "serve-first.png", WIDE)


def take_search(browser: Browser, query: str, images: Path) -> None:
    """A search with two queries, one of which no video shows."""
    browser.run("location.hash = arguments[0]", f"#/search?{urlencode([('q', query), ('q', ABSENT)])}")
    browser.wait('return document.querySelectorAll(".found").length === 2')
    photograph(browser, images / "serve-search.png", WIDE)
    photograph(browser, images / "serve-search-dark.png", WIDE, "dark")


def take_video(browser: Browser, client: Client, query: str, images: Path) -> None:
    """The best hit, with a corrected moment in the selection."""
    hit = client.post("/search", {"queries": [query]}).check(200)["searches"][0]["hits"][0]
    queries = [("q", query), ("q", "a violet star"), ("t", hit["start"])]
    browser.run("location.hash = arguments[0]", f"#/video/{hit['video']}?{urlencode(queries)}")
    browser.wait('return document.querySelector(".edge")')
    browser.run('document.querySelector(".edge[data-name=end]").focus()')
    browser.press("Left", "Left")
    browser.run('document.getElementById("video").currentTime = arguments[0]', hit["start"] + 3)
    photograph(browser, images / "serve-video.png", WIDE, height=1180)
    photograph(browser, images / "serve-video-narrow.png", NARROW)


def photograph(browser: Browser, path: Path, width: int, scheme: str = "light", height: int = 1000) -> None:
    """The top of the page, once its pictures are loaded and it says nothing."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.command("Emulation.setDeviceMetricsOverride", **size)
    browser.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.run("scrollTo(0, 0)")
    browser.wait(
        """const seen = (image) => image.getBoundingClientRect().top > innerHeight || image.naturalWidth;
        const video = document.querySelector("video");
        const shown = document.getElementById("watch").hidden || (video.readyState >= 2 && !video.seeking);
        return shown && [...document.images].every(seen) && !document.getElementById("status").textContent"""
    )
    path.write_bytes(base64.b64decode(browser.command("Page.captureScreenshot")["data"]))
    print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else IMAGES)
