"""Draws the sampled frames of videos, without encoding the videos, and notes what they show."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from r2tuning.synthetic.actions import SceneTracks, track_script
from r2tuning.synthetic.generate import list_seeds
from r2tuning.synthetic.render import render
from r2tuning.synthetic.scenes import FPS, Action, Color, Corner, Place, Script, Shape, Size, Split
from r2tuning.synthetic.semantics import ARGUABLE_SIZE, IN_CORNER
from r2tuning.synthetic.staging import make_video
from r2tuning.types import Preprocessing
from r2tuning.video.preprocess import Preprocessor
from r2tuning.video.selection import count_clips, pick_frames

SAMPLING = Fraction(1, 2)
"""Frames per second, as the demo model samples."""

MOST_ACTORS = 6
UNKNOWN = -2
"""An arguable attribute: captions that name it are neither true nor false."""

COLORS, SHAPES, SIZES, ACTIONS, PLACES = list(Color), list(Shape), list(Size), list(Action), list(Place)
CORNERS = [corner for corner in Corner if corner is not Corner.ANY]

ATTRIBUTES = ("color", "shape", "size", "action", "corner")
GEOMETRY = ("x", "y", "radius", "cosine", "sine")

_Truth = tuple[NDArray[np.int8], NDArray[np.int8], NDArray[np.float32]]
"""Places, attributes and geometry, as in `Frames`."""


@dataclass(frozen=True)
class Frames:
    """Sampled frames with the truth about them.

    Attributes:
        pixels: uint8 ``[N, 3, side, side]``, preprocessed.
        places: ``[N]``, index in `PLACES`.
        attributes: int8 ``[N, MOST_ACTORS, 5]``, an index for each of `ATTRIBUTES`; -1 for none, or `UNKNOWN`.
        geometry: fp32 ``[N, MOST_ACTORS, 5]``: center and radius in heights of the square; cosine and sine of the
            rotation times the shape's symmetry, both 0 for round shapes.
        starts: Index of the first frame of each video, and N.
        vids: Names of the videos.
    """

    pixels: NDArray[np.uint8]
    places: NDArray[np.int8]
    attributes: NDArray[np.int8]
    geometry: NDArray[np.float32]
    starts: NDArray[np.int64]
    vids: tuple[str, ...]


def draw_frames(
    folder: Path,
    split: Split,
    videos: int,
    side: int,
    jobs: int,
    progress: Callable[[int, int], None],
    seed: int = 0,
) -> Frames:
    """Draws the first videos of a split and seed with ``side`` pixels, or maps them if the folder has them."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{split}-{videos}-{side}" + (f"-seed{seed}" if seed else "")
    pixel_file, truth_file = folder / f"{name}.pixels.npy", folder / f"{name}.truth.npz"
    if not truth_file.exists():
        seeds = list_seeds(seed, videos)
        scripts = [make_video(one, split) for one in seeds]
        counts = [count_clips(Fraction(script.duration), SAMPLING) for script in scripts]
        starts = np.concatenate([[0], np.cumsum(counts)])
        total = int(starts[-1])
        pixels = np.lib.format.open_memmap(pixel_file, "w+", np.uint8, (total, 3, side, side))
        places, attributes, geometry = _empty_truth(total)
        tasks = [(str(pixel_file), place, one, split, side, int(starts[place])) for place, one in enumerate(seeds)]
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            for done, (place, truth) in enumerate(pool.imap_unordered(_draw_video, tasks, chunksize=4), start=1):
                span = slice(starts[place], starts[place + 1])
                places[span], attributes[span], geometry[span] = truth
                progress(done, videos)
        pixels.flush()
        temporary = truth_file.with_suffix(".tmp.npz")
        vids = np.array([script.vid for script in scripts])
        np.savez(temporary, places=places, attributes=attributes, geometry=geometry, starts=starts, vids=vids)
        temporary.replace(truth_file)
    with np.load(truth_file) as stored:
        return Frames(
            np.load(pixel_file, mmap_mode="r"),
            stored["places"],
            stored["attributes"],
            stored["geometry"],
            stored["starts"],
            tuple(stored["vids"].tolist()),
        )


def find_sampled(script: Script) -> Iterator[tuple[SceneTracks, int]]:
    """For every sampled frame, its scene and the frame's index in the scene."""
    scenes = track_script(script)
    for time in sampled_times(script):
        number = round(time * FPS)
        scene = next(scene for scene in scenes if scene.span.start <= number < scene.span.stop)
        yield scene, number - scene.span.start


def sampled_times(script: Script) -> list[float]:
    """Times in seconds of the frames that sampling picks from the video's file."""
    shown = ((Fraction(index, FPS), index) for index in range(script.frames))
    count = count_clips(Fraction(script.duration), SAMPLING)
    return [index / FPS for _, index in islice(pick_frames(shown, SAMPLING), count)]


def _draw_video(task: tuple[str, int, int, Split, int, int]) -> tuple[int, _Truth]:
    pixel_file, place, seed, split, side, start = task
    script = make_video(seed, split)
    times = sampled_times(script)
    pixels = np.load(pixel_file, mmap_mode="r+")
    preprocess = Preprocessor(Preprocessing(side))
    for index, time in enumerate(times):
        frame = av.VideoFrame.from_ndarray(render(script, time), format="rgb24")
        # Through the color model of video files, like decoded frames.
        pixels[start + index] = preprocess(frame.reformat(format="yuv420p"))
    return place, _note_truth(script, len(times))


def _empty_truth(frames: int) -> _Truth:
    attributes = np.full((frames, MOST_ACTORS, len(ATTRIBUTES)), -1, np.int8)
    return np.zeros(frames, np.int8), attributes, np.zeros((frames, MOST_ACTORS, len(GEOMETRY)), np.float32)


def _note_truth(script: Script, frames: int) -> _Truth:
    places, attributes, geometry = _empty_truth(frames)
    for index, (scene, at) in enumerate(find_sampled(script)):
        places[index] = PLACES.index(scene.scene.place)
        for slot, track in enumerate(scene.tracks):
            pose, action = track.pose, Action(track.actions[at])
            if not pose.lit[at]:
                continue
            radius, x, y = float(pose.radius[at]), float(pose.x[at]), float(pose.y[at])
            corner = _find_corner(x, y, radius)
            attributes[index, slot] = (
                COLORS.index(track.actor.color),
                SHAPES.index(track.actor.shape),
                _find_size(radius),
                ACTIONS.index(action),
                corner if action.stays else UNKNOWN if corner >= 0 else -1,
            )
            turned, symmetry = float(pose.angle[at]), track.actor.shape.symmetry
            turns = [np.cos(symmetry * turned), np.sin(symmetry * turned)] if symmetry else [0.0, 0.0]
            geometry[index, slot] = [x, y, radius, *turns]
    return places, attributes, geometry


def _find_size(radius: float) -> int:
    differences = [abs(radius / size.value - 1) for size in SIZES]
    nearest = int(np.argmin(differences))
    return nearest if differences[nearest] < ARGUABLE_SIZE / 2 else UNKNOWN


def _find_corner(x: float, y: float, radius: float) -> int:
    for index, corner in enumerate(CORNERS):
        if max(abs(x - corner.value[0]), abs(y - corner.value[1])) - radius < IN_CORNER:
            return index
    return -1
