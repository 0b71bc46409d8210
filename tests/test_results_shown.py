"""Results say what they are, in a shell and in a notebook."""

import pytest
from support.groundings import make_grounding

from r2tuning.results import Summary
from r2tuning.types import Moment


def test_a_grounding_is_one_short_line() -> None:
    answer = make_grounding([0.5] * 1000)
    assert repr(answer) == (
        "<Grounding 'a red circle falls' in trip.mp4: 2 moments, best 2.0 to 6.0 s (0.875); 1000 scores of saliency>"
    )
    assert (
        repr(make_grounding([], ())) == "<Grounding 'a red circle falls' in trip.mp4: 0 moments; 0 scores of saliency>"
    )
    summary = Summary(answer, 10.5, [Moment(2.0, 6.0, 0.5), Moment(8.0, 9.0, 0.5)])
    assert repr(summary) == "<Summary of 'a red circle falls' in trip.mp4: 2 shots, 5.0 of at most 10.5 s>"


def test_in_a_notebook_text_stays_text() -> None:
    answer = make_grounding(query="<script>x</script>", video="a&b.mp4", windows=3)
    shown = answer._repr_html_()
    assert "<script" not in shown
    assert "a&amp;b.mp4 (70.0 s)" in shown
    assert "3 overlapping windows" in shown
    assert "<td>2.0 s</td><td>6.0 s</td><td>0.875</td>" in shown
    assert Summary(answer, 9.0, [Moment(1.0, 2.0, 0.25)])._repr_html_().count("<td>") == 4


def test_a_threshold_that_nothing_reaches() -> None:
    """The best moment is known though none is left; a model without moments has peaks instead."""
    (note,) = make_grounding(moments=(), threshold=0.9, best_score=0.75).notes
    assert (note.kind, note.text) == ("threshold", "No moment scores 0.90 or more; the best has 0.75.")
    assert make_grounding(moments=(), threshold=0.9, best_score=0.75).find_peaks() == []
    (note,) = make_grounding([0.125, 0.5, 0.25], (), threshold=0.9).notes
    assert note.text == "No peak of saliency scores 0.90 or more; the best has 0.50."
    assert [peak.score for peak in make_grounding([0.5, 0.0, 0.25], (), threshold=0.3).find_peaks()] == [0.5]
    (note,) = make_grounding(moments=(), threshold=0.75, best_score=0.7499).notes
    assert note.text == "No moment scores 0.750000 or more; the best has 0.749900."


@pytest.mark.parametrize("changes", [{"threshold": 0.5}, {}])
def test_a_threshold_that_something_reaches_is_no_note(changes: dict[str, float]) -> None:
    assert make_grounding(**changes).notes == ()
