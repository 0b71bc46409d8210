"""What the player of a page shows."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image
from support.browser import Browser
from support.videos import read_index

_SEEKED = """
    const video = document.querySelector("video");
    const isNear = () => Math.abs(video.currentTime - arguments[0]) < arguments[1];
    const reached = () => video.readyState >= 2 && !video.seeking && isNear();
    for (let i = 0; i < 500 && !reached(); i++) await new Promise((done) => setTimeout(done, 20));
    return video.currentTime;
"""


def await_seek(browser: Browser, seconds: float, within: float = 0.001) -> float:
    """Waits until the player shows a time, ten seconds at most; returns the time that it is at."""
    reached: float = browser.run(_SEEKED, seconds, within)
    return reached


def shown_frame(browser: Browser) -> int:
    """Which frame of `write_video` the player shows; the page must be allowed to read the video."""
    picture = browser.run(
        """const video = document.querySelector("video");
        const canvas = document.createElement("canvas");
        [canvas.width, canvas.height] = [video.videoHeight, video.videoHeight];
        canvas.getContext("2d").drawImage(video, (canvas.width - video.videoWidth) / 2, 0);
        return canvas.toDataURL()"""
    )
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.partition(",")[2]))).convert("RGB"))
    return read_index(pixels.transpose(2, 0, 1))
