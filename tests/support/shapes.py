"""Moving Shapes at one frame per second: quick to make, and all that a model at half a frame per second sees."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av

from r2tuning.datasets.annotations import Annotation
from r2tuning.synthetic.queries import describe
from r2tuning.synthetic.render import render
from r2tuning.synthetic.scenes import HEIGHT, WIDTH
from r2tuning.synthetic.staging import make_video

FPS = 1


def write_shapes(path: Path, seeds: Sequence[int], split: str = "val") -> list[Annotation]:
    """Writes videos of the world one after the other; returns their queries, with the times in the whole."""
    found: list[Annotation] = []
    frames = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        for seed in seeds:
            script = make_video(seed, split)
            for second in range(round(script.duration)):
                frame = av.VideoFrame.from_ndarray(render(script, float(second)), format="rgb24")
                frame.pts, frame.time_base = frames + second, Fraction(1, FPS)
                container.mux(stream.encode(frame))
            for one in describe(script):
                moved = tuple((start + frames, end + frames) for start, end in one.moments)
                found.append(Annotation(one.qid, path.name, one.query, one.duration, moved))
            frames += round(script.duration)
        container.mux(stream.encode())
    return found
