"""The whole path, from a video file and sentences to answers."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from support.files import shared_file
from support.models import save_tiny_model
from support.videos import write_video
from torch import Tensor

from r2tuning import EncodedVideo, Grounder, Grounding
from r2tuning.compatibility import is_foreign
from r2tuning.errors import BackboneError, FeatureError, QueryError, QueryWarning, VideoError, VideoWarning
from r2tuning.model.projection import FrameProducts

QUERIES = ["a dog", "a much longer sentence about a cat on a mat", "x"]


@pytest.fixture(scope="module")
def grounder(model: Path) -> Grounder:
    return Grounder.from_pretrained(model)


@pytest.fixture(scope="module")
def video(folder: Path) -> Path:
    return write_video(folder / "video.mp4", frames=300, fps=10)


def assert_same(one: Grounding, other: Grounding, atol: float = 1e-4) -> None:
    assert len(one.moments) == len(other.moments)
    for a, b in zip(one.moments, other.moments, strict=True):
        assert (a.start, a.end, a.score) == pytest.approx((b.start, b.end, b.score), abs=atol)
    np.testing.assert_allclose(one.saliency.scores, other.saliency.scores, atol=atol)
    np.testing.assert_allclose(one.saliency.times, other.saliency.times)


def test_an_answer_is_complete(grounder: Grounder, video: Path) -> None:
    result = grounder.ground(video, "a dog")
    assert result.query == "a dog"
    assert result.video == str(video)
    assert result.duration == pytest.approx(30)
    assert result.windows == 1
    assert 0 < len(result.moments) <= 50
    scores = [moment.score for moment in result.moments]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= m.start <= m.end <= 30 and 0 < m.score <= 1 for m in result.moments)
    np.testing.assert_allclose(result.saliency.times, np.arange(30) + 0.5)
    assert result.saliency.scores.shape == (30,)
    assert json.loads(json.dumps(result.to_dict()))["model"] == "tiny"


def test_several_queries_at_once_equal_one_by_one(grounder: Grounder, video: Path) -> None:
    encoded = grounder.encode(video)
    together = grounder.ground(encoded, QUERIES)
    assert [result.query for result in together] == QUERIES
    for query, result in zip(QUERIES, together, strict=True):
        assert_same(result, grounder.ground(encoded, query))
    assert grounder.ground(encoded, []) == []


def test_more_queries_than_go_through_at_once(grounder: Grounder, video: Path) -> None:
    encoded = grounder.encode(video)
    queries = [f"query number {i}" for i in range(19)]
    results = grounder.ground(encoded, queries)
    assert [result.query for result in results] == queries
    assert_same(results[17], grounder.ground(encoded, queries[17]))


def test_batches_of_frames_do_not_matter(grounder: Grounder, video: Path) -> None:
    whole, parts = grounder.encode(video), grounder.encode(video, batch_size=7)
    # fp16 storage may round the two to neighbouring values.
    torch.testing.assert_close(whole.read(0, 30).float(), parts.read(0, 30).float(), atol=4e-3, rtol=0)
    assert_same(grounder.ground(whole, "a dog"), grounder.ground(parts, "a dog"), atol=2e-3)


def test_saved_features_give_the_same_answer(grounder: Grounder, video: Path, tmp_path: Path) -> None:
    encoded = grounder.encode(video)
    encoded.save(tmp_path / "video.safetensors")
    loaded = EncodedVideo.load(tmp_path / "video.safetensors")
    assert_same(grounder.ground(encoded, "a dog"), grounder.ground(loaded, "a dog"), atol=0)


def test_the_clip_decides_not_its_folder(grounder: Grounder, video: Path, tmp_path: Path) -> None:
    encoded = grounder.encode(video)
    elsewhere = save_tiny_model(tmp_path / "same")
    assert_same(Grounder.from_pretrained(elsewhere).ground(encoded, "a dog"), grounder.ground(encoded, "a dog"), atol=0)
    other = Grounder.from_pretrained(elsewhere, backbone=save_tiny_model(tmp_path / "other", seed=1).parent / "clip")
    with pytest.raises(FeatureError, match="made with another backbone"):
        other.ground(encoded, "a dog")


def test_a_video_that_fits_one_window_is_the_same_with_and_without(folder: Path, video: Path, tmp_path: Path) -> None:
    exact = Grounder.from_pretrained(save_tiny_model(tmp_path / "exact", window=30))
    wide = Grounder.from_pretrained(save_tiny_model(tmp_path / "wide", window=1e6))
    for query in QUERIES:
        assert_same(exact.ground(video, query), wide.ground(video, query), atol=0)


def test_long_videos_are_covered_by_windows(tmp_path: Path, video: Path) -> None:
    windowed = Grounder.from_pretrained(save_tiny_model(tmp_path, window=12))
    encoded = windowed.encode(video)
    results = windowed.ground(encoded, QUERIES)
    for query, result in zip(QUERIES, results, strict=True):
        assert result.windows == 4
        assert result.saliency.scores.shape == (30,)
        assert all(0 <= moment.start <= moment.end <= 30 for moment in result.moments)
        assert_same(result, windowed.ground(encoded, query))


def test_windows_are_projected_again_only_where_there_is_no_room(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windowed = Grounder.from_pretrained(save_tiny_model(tmp_path, window=12))
    encoded = windowed.encode(video)
    model = windowed.model.config
    window = model.steps * 12 * encoded.tokens * model.hidden * 4  # bytes
    monkeypatch.setattr("r2tuning.grounder.PROJECTED_BYTES", 2 * window)
    read: list[int] = []
    multiply = windowed.model.block.multiply_frames

    def watch(features: Tensor, mask: Tensor) -> FrameProducts:
        read.append(features.shape[2])
        return multiply(features, mask)

    monkeypatch.setattr(windowed.model.block, "multiply_frames", watch)
    first = windowed.ground(encoded, "a dog")
    assert (first.windows, read) == (4, [12, 6, 6, 6])  # each frame once
    assert_same(windowed.ground(encoded, "a dog"), first, atol=1e-6)
    assert read[4:] == [12, 6]  # the last two windows had no room


def test_what_a_window_sees_is_what_a_short_video_would_show(tmp_path: Path) -> None:
    """The last window of a long video gives the saliency of a video made of those frames alone."""
    windowed = Grounder.from_pretrained(save_tiny_model(tmp_path, window=10))
    long = windowed.encode(write_video(tmp_path / "long.mp4", frames=30, fps=1))
    alone = EncodedVideo(
        long.facts.model_copy(update={"duration": 10.0}), long.read(20, 30).transpose(0, 1).contiguous()
    )
    merged = windowed.ground(long, "a dog").saliency.scores
    # The last five frames are seen by this window only.
    np.testing.assert_allclose(merged[25:], windowed.ground(alone, "a dog").saliency.scores[5:], atol=1e-5)


def test_times_are_those_of_the_player(grounder: Grounder, tmp_path: Path) -> None:
    plain = grounder.ground(write_video(tmp_path / "plain.mp4", frames=100, fps=10), "a dog")
    late = grounder.ground(write_video(tmp_path / "late.mp4", frames=100, fps=10, start=8), "a dog")
    assert late.start == pytest.approx(8)
    np.testing.assert_allclose(late.saliency.times, plain.saliency.times + 8, atol=1e-6)
    for a, b in zip(plain.moments, late.moments, strict=True):
        assert (b.start - a.start, b.end - a.end) == pytest.approx((8, 8), abs=1e-4)


def test_saliency_models_give_a_curve_and_no_moments(tmp_path: Path, video: Path) -> None:
    result = Grounder.from_pretrained(save_tiny_model(tmp_path, family="saliency")).ground(video, "a dog")
    assert result.moments == []
    assert ((result.saliency.scores > 0) & (result.saliency.scores < 1)).all()


def test_top_k_and_threshold(grounder: Grounder, video: Path) -> None:
    encoded = grounder.encode(video)
    ask = partial(grounder.ground, encoded, "a dog", overlapping=True)
    every = ask().moments
    assert ask(top_k=3).moments == every[:3]
    middle = every[len(every) // 2].score
    assert ask(threshold=middle).moments == [m for m in every if m.score >= middle]
    with_suppressed = ask(threshold=0).moments
    assert with_suppressed[: len(every)] == every
    assert {m.score for m in with_suppressed[len(every) :]} <= {0.0}
    for wrong in ({"top_k": 0}, {"top_k": -1}, {"threshold": 1.5}, {"threshold": float("nan")}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ask(**wrong)


def test_by_default_moments_are_distinct(grounder: Grounder, video: Path) -> None:
    """A slow transcription: the best moment is taken, all that share time with it go, and so on."""
    encoded = grounder.encode(video)
    for query in QUERIES:
        left = grounder.ground(encoded, query, overlapping=True).moments
        expected = []
        while left:
            best, *left = left
            expected.append(best)
            left = [m for m in left if min(m.end, best.end) - max(m.start, best.start) <= 1e-6]
        found = grounder.ground(encoded, query)
        assert found.moments == expected
        assert len(expected) >= 2
        assert grounder.ground(encoded, query, top_k=2).moments == expected[:2]
        (raw,) = grounder.answer(encoded, grounder.backbone.encode_queries([query]))
        assert len(raw.moments) > len(expected)


def test_saved_features_are_a_video(grounder: Grounder, video: Path, tmp_path: Path) -> None:
    grounder.encode(video).save(tmp_path / "video.safetensors")
    assert_same(grounder.ground(tmp_path / "video.safetensors", "a dog"), grounder.ground(video, "a dog"), atol=0)


def test_they_say_what_they_are(grounder: Grounder, video: Path, model: Path) -> None:
    clip = model.parent / "clip"
    assert repr(grounder) == f"<Grounder tiny: grounding, 1 fps, {clip} on cpu>"
    # 30 frames, 3 layers, 17 tokens, 32 channels, 2 bytes
    expected = f"<EncodedVideo {video}: 30 frames at 1 fps, 30.0 s, by {clip}, 0.1 MB in memory>"
    assert repr(grounder.encode(video)) == expected


@pytest.mark.parametrize(
    "query",
    [
        "Собака ловит фрисби",
        "犬が走る",
        "der Hund fängt die Frisbee",
        "un chien court dans l'herbe",
        "un hombre abre la puerta",
    ],
)
def test_a_query_in_another_language_is_told(grounder: Grounder, video: Path, query: str) -> None:
    encoded = grounder.encode(video)
    with pytest.warns(QueryWarning, match="does not look like English.*ask in English"):
        result = grounder.ground(encoded, query)
    assert [note.kind for note in result.notes] == ["query"]
    assert Grounding.from_dict(result.to_dict()).query_warning == result.query_warning


def test_english_queries_are_not_called_foreign() -> None:
    """All queries of the public annotation files that tests use, and names with accents."""
    queries = ["a dog at the café", "Beyoncé sings", "a naïve résumé", "two people in a van", "Los Angeles at night"]
    for name in ("qvhighlights_val", "charades_train", "tacos_test"):
        for line in shared_file(f"annotations/{name}.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            queries.append(entry.get("query") or entry.get("description"))
    assert len(queries) > 1000
    assert [query for query in queries if is_foreign(query)] == []


def test_a_video_of_one_frame(grounder: Grounder, tmp_path: Path) -> None:
    result = grounder.ground(write_video(tmp_path / "one.mp4", frames=1, fps=10), "a dog")
    assert result.saliency.scores.shape == (1,)
    assert all(m.end <= result.duration + 1e-9 for m in result.moments)


def test_a_long_query_is_cut_and_the_result_says_so(grounder: Grounder, video: Path) -> None:
    with pytest.warns(QueryWarning, match="cut to 77 tokens"):
        result = grounder.ground(video, "long " * 50)
    assert result.query_truncated
    assert result.query == "long " * 50


def test_a_truncated_video_is_answered_and_says_so(grounder: Grounder, video: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", frames=300, fps=10, container_options={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    with pytest.warns(VideoWarning):
        result = grounder.ground(cut, "a dog")
    assert result.video_truncated
    assert 5 < result.duration < 29
    assert all(moment.end <= result.duration for moment in result.moments)


def test_key_frames_only(grounder: Grounder, video: Path) -> None:
    result = grounder.ground(grounder.encode(video, sampling="keyframe"), "a dog")
    assert result.sampling == "keyframe"
    assert result.saliency.scores.shape == (30,)


def test_progress_reaches_the_end(grounder: Grounder, video: Path) -> None:
    seen: list[tuple[int, int]] = []
    grounder.encode(video, batch_size=8, progress=lambda done, expected: seen.append((done, expected)))
    assert seen == [(8, 30), (16, 30), (24, 30), (30, 30)]


def test_errors(grounder: Grounder, video: Path, tmp_path: Path, model: Path) -> None:
    with pytest.raises(VideoError, match=r"nothing\.mp4"):
        grounder.ground(tmp_path / "nothing.mp4", "a dog")
    with pytest.raises(QueryError, match="empty"):
        grounder.ground(video, " ")
    with pytest.raises(ValueError, match="must be positive"):
        grounder.encode(video, fps=0)
    from support.models import save_tiny_clip

    with pytest.raises(BackboneError, match="image tower is 64 wide, but the model was trained on one of 32"):
        Grounder.from_pretrained(model, backbone=save_tiny_clip(tmp_path / "wide", video_width=64))
    with pytest.raises(BackboneError, match="text tower is 32 wide"):
        Grounder.from_pretrained(model, backbone=save_tiny_clip(tmp_path / "text", query_width=32))
