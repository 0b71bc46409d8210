"""What a library keeps of a video answers as the video itself does."""

from pathlib import Path

import numpy as np
import pytest

from r2tuning import Grounder, Library
from r2tuning.datasets.annotations import Annotation
from r2tuning.errors import LibraryError, QueryError
from r2tuning.library.grounding import ground_video
from r2tuning.library.questions import find_video

Shapes = dict[Path, list[Annotation]]


def test_answers_are_those_of_the_grounder_but_for_rounding(
    filled: Library, shapes: Shapes, grounder: Grounder
) -> None:
    snapshot = filled.look()
    path, annotations = next(iter(shapes.items()))
    queries = [one.query for one in annotations[:3]]
    number = find_video(snapshot.videos, snapshot.files, path).id
    found = ground_video(snapshot, filled.load(), number, queries, top_k=3)
    expected = grounder.ground(path, queries, top_k=3)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine.query, mine.video, mine.windows, mine.calibrated) == (
            theirs.query,
            str(path),
            1,
            theirs.calibrated,
        )
        assert mine.duration == pytest.approx(theirs.duration)
        np.testing.assert_allclose(mine.saliency.times, theirs.saliency.times, atol=1e-6)
        # Calibration is steep: where it rises, rounding to 8 bits moves a frame by more than in the mean.
        assert np.abs(mine.saliency.scores - theirs.saliency.scores).mean() < 0.01
        assert mine.presence == pytest.approx(theirs.presence, abs=0.1)
        best, right = mine.moments[0], theirs.moments[0]
        assert (best.start, best.end) == pytest.approx((right.start, right.end), abs=0.3)


def test_threshold_and_overlap_are_those_of_the_grounder(filled: Library, shapes: Shapes) -> None:
    snapshot, path = filled.look(), next(iter(shapes))
    number = find_video(snapshot.videos, snapshot.files, path).id
    model = filled.load()
    (whole,) = ground_video(snapshot, model, number, ["a blue cross"], overlapping=True)
    (distinct,) = ground_video(snapshot, model, number, ["a blue cross"])
    assert len(whole.moments) > len(distinct.moments)
    (few,) = ground_video(snapshot, model, number, ["a blue cross"], threshold=distinct.moments[0].score)
    assert few.moments == distinct.moments[:1]


def test_what_cannot_be_grounded_is_refused(filled: Library, shapes: Shapes, tmp_path: Path) -> None:
    snapshot, path = filled.look(), next(iter(shapes))
    number = find_video(snapshot.videos, snapshot.files, path).id
    with pytest.raises(QueryError):
        ground_video(snapshot, filled.load(), number, [" "])
    plain = Library(tmp_path / "vectors", model="demo", keep="vectors")
    plain.add(path)
    with pytest.raises(LibraryError, match="keeps vectors only"):
        ground_video(plain.look(), plain.load(), 1, ["a dog"])
