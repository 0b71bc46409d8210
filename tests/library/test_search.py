"""Searches find what asking each video finds, whatever way they take to it."""

from pathlib import Path

import numpy as np
import pytest
from support.shapes import write_shapes

from r2tuning import Grounder, Library
from r2tuning.datasets.annotations import Annotation
from r2tuning.decoding.calibration import RankingMap, find_evidence, log_odds
from r2tuning.errors import LibraryError, QueryError
from r2tuning.intervals import temporal_iou
from r2tuning.library.hits import Hits

Shapes = dict[Path, list[Annotation]]


def spans(hits: Hits) -> list[tuple[str, float, float]]:
    return [(hit.video, hit.moment.start, hit.moment.end) for hit in hits]


def best_iou(hits: Hits, video: Path, moments: tuple[tuple[float, float], ...]) -> float:
    found = np.array([[h.moment.start, h.moment.end] for h in hits if h.video == str(video)]).reshape(-1, 2)
    return float(temporal_iou(found, np.array(moments)).max(initial=0))


def test_hits_are_those_of_every_video_ranked_by_the_fused_score(
    filled: Library, shapes: Shapes, grounder: Grounder
) -> None:
    """Each video fits one window, so that the only difference to asking it is that v̂ is rounded to 8 bits."""
    ranking = grounder.calibration.ranking if grounder.calibration else None
    ranking = ranking or RankingMap()
    for query in (next(iter(shapes.values()))[0].query, "a big purple heart jumps up and down"):
        hits = filled.search(query, top=100)
        (vector,), (features,) = grounder.backbone.embed_queries([query]), grounder.backbone.encode_queries([query])
        expected = []
        for path in shapes:
            encoded = grounder.encode(path)
            answer = Grounder(grounder.model, grounder.config, grounder.backbone).answer(
                encoded, [features], overlapping=False
            )[0]
            frames = grounder.backbone.embed_frames(encoded.read(0, encoded.frames).transpose(0, 1))
            cosine = float((frames @ vector).max())
            scores = np.array([moment.score for moment in answer.moments])
            presence = answer.presence
            head = None if presence is None else float(log_odds(np.array(presence)))
            _, saliency, odds = find_evidence(scores, answer.saliency.scores, head)
            for moment in answer.moments[:5]:
                evidence = np.array([float(log_odds(np.array(moment.score))), saliency, odds, cosine])
                expected.append((float(ranking.apply(evidence)), str(path), moment.start, moment.end))
        expected.sort(reverse=True)
        assert len(hits) == len(expected)
        assert hits[0].video == expected[0][1]
        # Hits of nearly the same score may change places.
        for score, video, start, end in expected[:4]:
            (hit,) = [
                hit
                for hit in hits
                if hit.video == video and (hit.moment.start, hit.moment.end) == pytest.approx((start, end), abs=0.3)
            ]
            assert hit.score == pytest.approx(score, abs=0.1)  # the nearest frame may be one that is left out
            assert hit.refined


def test_most_queries_find_their_own_video_and_moment(filled: Library, shapes: Shapes) -> None:
    right = total = 0
    for path, queries in shapes.items():
        for annotation in queries:
            total += 1
            right += best_iou(filled.search(annotation.query, top=5), path, annotation.moments) >= 0.5
    assert right >= 0.75 * total
    assert total >= 15


def test_two_stages_find_what_refining_everything_finds(filled: Library, shapes: Shapes) -> None:
    for annotation in [one for queries in shapes.values() for one in queries][::5]:
        everything = filled.search(annotation.query, top=1, candidates=100)
        assert spans(filled.search(annotation.query, top=1, candidates=3)) == spans(everything)


def test_a_video_of_one_window_is_one_candidate(filled: Library, shapes: Shapes) -> None:
    """However many of its frames are near to the query: otherwise three candidates would not be three videos."""
    for annotation in [one for queries in shapes.values() for one in queries][::3]:
        hits = filled.search(annotation.query, top=3, candidates=3)
        whole = filled.search(annotation.query, top=100, candidates=3)
        assert spans(whole)[:3] == spans(hits)
        assert {Path(video) for video, _, _ in spans(whole)} == shapes.keys()
        assert len({(hit.video, hit.cosine) for hit in whole}) == 3


def test_a_video_shares_no_time_between_its_hits_and_scores_fall(filled: Library) -> None:
    hits = filled.search("something purple", top=100)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    for place, hit in enumerate(hits):
        for other in hits[:place]:
            if hit.video == other.video:
                assert hit.moment.start >= other.moment.end - 1e-6 or hit.moment.end <= other.moment.start + 1e-6


@pytest.mark.parametrize("candidates", [1, 2, 20])
def test_pages_are_the_whole_list_in_pieces(filled: Library, candidates: int) -> None:
    whole = filled.search("a blue cross", top=100, candidates=candidates)
    assert whole.next == ""
    pages, after = [], ""
    while True:
        page = filled.search("a blue cross", top=2, candidates=candidates, after=after)
        pages += spans(page)
        if not (after := page.next):
            break
    assert pages == spans(whole)
    assert len(pages) > 4


def test_a_page_does_not_change_when_the_library_grows(shapes: Shapes, tmp_path: Path) -> None:
    first, *rest = shapes
    library = Library(tmp_path / "library", model="demo")
    library.add(first)
    page = library.search("a blue cross", top=1)
    before = library.search("a blue cross", top=50, after=page.next)
    library.add(rest[0])
    assert spans(library.search("a blue cross", top=50, after=page.next)) == spans(before)
    assert {hit.video for hit in library.search("a blue cross", top=50)} == {str(first), str(rest[0])}
    for bad in ("x", "1-2", "1--3", "1-2-3-4", "1-2-٣"):
        with pytest.raises(LibraryError, match="is no page of hits"):
            library.search("a blue cross", after=bad)
    with pytest.raises(LibraryError, match="another model since"):
        library.search("a blue cross", after="7-1-0")


def test_filters_act_before_the_search(filled: Library, shapes: Shapes) -> None:
    """With one candidate, a filter that acted on candidates would find nothing in the other videos."""
    for path in shapes:
        assert {h.video for h in filled.search("a blue cross", within=f"*/{path.name}", candidates=1)} == {str(path)}
    folder = next(iter(shapes)).parent
    assert filled.search("a blue cross", within=str(folder)).videos == 3
    assert filled.search("a blue cross", within=str(folder)[:-1]).videos == 0
    longest = max(one.video.duration for one in filled.list() if one.video)
    assert filled.search("a blue cross", min_duration=longest).videos == 1
    newest = max(path.stat().st_mtime for path in shapes)
    assert filled.search("a blue cross", since=newest + 1).videos == 0
    assert filled.search("a blue cross", since=newest - 1e6).videos == 3
    assert list(filled.search("a blue cross", since=newest + 1)) == []


def test_a_threshold_cuts_the_list(filled: Library) -> None:
    hits = filled.search("a blue cross", top=50)
    limit = hits[2].score
    assert spans(filled.search("a blue cross", top=50, threshold=limit)) == spans(hits)[:3]
    with pytest.raises(ValueError, match="threshold"):
        filled.search("a blue cross", threshold=2)
    with pytest.raises(QueryError):
        filled.search("  ")


def test_a_moment_of_a_long_video_is_found_by_windows_around_its_peaks(tmp_path: Path) -> None:
    """Ten minutes in a row: the demo model sees windows of 150 seconds."""
    path = tmp_path / "long.mp4"
    queries = write_shapes(path, [91000003, 91000000, 91000002, 91000004, 91000005, 91000001])
    library = Library(tmp_path / "library", model="demo")
    library.add(path)
    (listed,) = library.list()
    assert listed.video is not None
    assert listed.video.duration >= 600
    found = [best_iou(library.search(one.query, top=5), path, one.moments) >= 0.5 for one in queries[::4]]
    assert len(found) >= 10
    assert sum(found) >= 0.6 * len(found)
    hits = library.search(queries[0].query, top=100)
    for place, hit in enumerate(hits):
        assert 0 <= hit.moment.start < hit.moment.end <= listed.video.duration + 1e-6
        for other in hits[:place]:
            assert hit.moment.start >= other.moment.end - 1e-6 or hit.moment.end <= other.moment.start + 1e-6
    assert library.check() == []


def test_answers_for_charts_have_a_curve(filled: Library, shapes: Shapes) -> None:
    hits = filled.search("a blue cross", top=10)
    answers = filled.to_groundings(hits)
    assert sum(len(answer.moments) for answer in answers) == 10
    assert answers[0].video == hits[0].video
    for answer in answers:
        answer.check_video()
        assert len(answer.saliency.scores) == len(answer.saliency.times)
        assert np.isfinite(answer.saliency.scores).all()


def test_what_is_remembered_changes_no_hit(shapes: Shapes, tmp_path: Path) -> None:
    """Pages, other limits, and sentences that were asked before a video came are as a new process finds them."""
    first, *others = shapes
    queries = [annotation.query for annotation in shapes[first]][:2]
    library = Library(tmp_path / "library", model="demo")
    library.add(first)
    library.search(queries[0])
    library.add(others)
    fresh = Library(library.folder)
    for found, expected in (
        (library.search(queries[0], top=3), fresh.search(queries[0], top=3)),
        (library.search(queries[0], top=30), Library(library.folder).search(queries[0], top=30)),
        (library.search(queries[1], without=[queries[0]]), fresh.search(queries[1], without=[queries[0]])),
        (library.search(queries[0], within=str(others[0])), fresh.search(queries[0], within=str(others[0]))),
        (library.search(queries[1], threshold=0.2), Library(library.folder).search(queries[1], threshold=0.2)),
    ):
        assert [hit.video for hit in found] == [hit.video for hit in expected]
        for hit, other in zip(found, expected, strict=True):  # windows in other batches differ in the last digit
            values = [(x.moment.start, x.moment.end, x.score, x.cosine) for x in (hit, other)]
            assert values[0] == pytest.approx(values[1], abs=1e-4)
        assert (found.videos, found.present, len(found.curves)) == (
            expected.videos,
            expected.present,
            len(expected.curves),
        )
