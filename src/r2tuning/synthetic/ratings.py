"""Three simulated raters, who grade how well what is asked for can be seen in each 2-second clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r2tuning.synthetic.meaning import Match, Meaning, find_matches, find_truth
from r2tuning.synthetic.motion import Floats, SceneTracks, Track
from r2tuning.synthetic.script import FPS
from r2tuning.synthetic.vocabulary import Size

CLIP_SECONDS = 2
BEST, WORST = 4, 1
"""Ratings of relevant clips; others have 0."""

# A row for each rater, a column each for size, occlusion and speed: what one looks at first, the others hardly notice.
_WEIGHTS = np.array([(0.6, 0.2, 0.2), (0.2, 0.6, 0.2), (0.2, 0.2, 0.6)])
_FAST = 0.4  # heights per second, at which an actor is as hard to follow as it gets
_STRICTNESS = np.array([6, 8, 10])  # grades between a rater's best clip and one in which nothing can be seen


def rate_clips(meaning: Meaning, scenes: Sequence[SceneTracks]) -> Floats:
    """Ratings of all clips of a video for one query.

    A clip is relevant where the query is true of its middle, which is the frame that models look at. Each rater gives
    the best relevant clip 4 and grades the others against it.

    Args:
        meaning: What the query says.
        scenes: The video.

    Returns:
        float64 ``[clips, 3]``, whole numbers in [0, 4]; 0 outside the moments.
    """
    true = find_truth(meaning, scenes).certain
    clarity = np.concatenate([_grade_frames(meaning, scene) for scene in scenes])
    length = CLIP_SECONDS * FPS
    quality = (clarity * true[:, None]).reshape(-1, length, 3).mean(axis=1) @ _WEIGHTS.T
    relevant = true.reshape(-1, length)[:, length // 2]
    best = np.maximum(quality[relevant].max(axis=0, initial=0), 1e-9)
    ratings = np.clip(BEST - np.round((1 - quality / best) * _STRICTNESS), WORST, BEST)
    return np.asarray(ratings * relevant[:, None])


def _grade_frames(meaning: Meaning, scene: SceneTracks) -> Floats:
    """Size, visibility and slowness ``[frames, 3]`` in [0, 1] of whom the query means; of several, the worst."""
    grades = np.ones((scene.span.stop - scene.span.start, 3))
    for clause in meaning.clauses:
        found = np.zeros_like(grades)
        for match in find_matches(clause, scene):
            found = np.maximum(found, _grade_match(match) * match.truth.certain[:, None])
        grades = np.minimum(grades, found)
    return grades


def _grade_match(match: Match) -> Floats:
    return np.asarray(np.min([_grade_track(track) for track in match.tracks], axis=0))


def _grade_track(track: Track) -> Floats:
    pose = track.pose
    speed = np.hypot(np.gradient(pose.x), np.gradient(pose.y)) * FPS
    size = np.clip(pose.radius / Size.LARGE.value, 0, 1)
    return np.stack([size, track.visible * pose.lit, 1 - np.clip(speed / _FAST, 0, 1)], axis=1)
