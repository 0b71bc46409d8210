"""Videos of moving texture, in which every frame and reference counts, and two ways to sample them."""

from fractions import Fraction
from functools import partial

import av
import numpy as np

from r2tuning.video.container import decode_frames, open_video, read_packets
from r2tuning.video.planned.groups import decode_picks
from r2tuning.video.preprocess import Preprocessor
from r2tuning.video.probe import survey
from r2tuning.video.selection import count_clips

SIZE = 48
X264 = {"preset": "medium", "crf": "30"}
X265 = "log-level=none:keyint=20:min-keyint=20:bframes=4:pools=1:frame-threads=1:"


def write_moving(path, codec, options, frames=100, times=None, size=(96, 64), start=0, seed=0, rotation=0):
    """Writes texture that moves and changes, so that encoders use every kind of frame and every reference."""
    random = np.random.default_rng(seed)
    width, height = size
    texture = random.integers(0, 256, (height + 64, width + 256, 3)).astype(np.float32)
    texture = sum(np.roll(texture, shift, (0, 1)) for shift in range(6)) / 6
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        base = Fraction(1, 1000) if times or start else Fraction(1, 25)
        stream.codec_context.time_base = base
        if rotation:
            stream.set_display_rotation(-rotation)
        for i in range(len(times or range(frames))):
            x, y = int(2.3 * i) % 250, int(20 + 19 * np.sin(i / 7))
            image = texture[y : y + height, x : x + width].copy()
            image[10:30, i % 60 : i % 60 + 16] = (i * 37 % 255, 90, 200)
            frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), format="rgb24").reformat(format="yuv420p")
            shown = times[i] if times else Fraction(i, 25)
            frame.pts, frame.time_base = round((shown + start) / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def sample_in_order(path, fps):
    """The oracle: decodes all frames in one thread, and takes for each clip the last before its centre."""
    facts = survey(path)
    preprocess = Preprocessor(SIZE, facts.info.rotation)
    with open_video(path) as stream:
        stream.codec_context.thread_count = 1
        frames = [(frame.pts * stream.time_base, frame) for frame in decode_frames(stream, read_packets(stream))]
    first = frames[0][0]
    fps = Fraction(fps).limit_denominator(1000)
    pixels, times = [], []
    for clip in range(count_clips(facts.timeline.duration, fps)):
        centre = first + (clip + Fraction(1, 2)) / fps
        time, frame = next((pair for pair in reversed(frames) if pair[0] < centre), frames[0])
        pixels.append(preprocess(frame))
        times.append(facts.info.start + float(time - first))
    return np.stack(pixels), np.array(times)


def count_entries(path):
    index = survey(path).index
    return 0 if index is None else int(index.entries.sum())


def picks_without_help(path, fps, cheap=False, threads=None):
    """What the packets' plan gives by itself; fails where decoding in order would have to help out."""
    facts = survey(path)
    make = partial(Preprocessor, SIZE, facts.info.rotation)
    fps = Fraction(fps).limit_denominator(1000)
    picks = list(decode_picks(facts, fps, make, cheap=cheap, threads=threads))
    times = [facts.info.start + float(time) for time, _ in picks]
    return np.stack([image for _, image in picks]), np.array(times)
