"""Attention by words and seconds, as pictures need it."""

import numpy as np
import pytest
import torch
from support.groundings import make_facts
from support.models import save_tiny_model

from r2tuning.attention import END, find_attention
from r2tuning.errors import FeatureError, QueryError
from r2tuning.features.encoded import EncodedVideo
from r2tuning.grounder import Grounder


@pytest.fixture(scope="module")
def grounder(tmp_path_factory: pytest.TempPathFactory) -> Grounder:
    return Grounder.from_pretrained(save_tiny_model(tmp_path_factory.mktemp("model"), window=8), device="cpu")


def encoded(frames: int, width: int = 32, start: float = 0.0) -> EncodedVideo:
    values = torch.randn(frames, 3, 17, width, generator=torch.Generator().manual_seed(frames)).half()
    facts = make_facts(duration=float(frames), start=start)
    return EncodedVideo(facts, values)


def test_words_are_as_written_and_have_the_mean_of_their_tokens(grounder: Grounder) -> None:
    # The tiny tokenizer has a token for every byte, so words have as many tokens as letters.
    video, query = encoded(6), "  Red dög's\n🎬 "
    found = find_attention(grounder, video, query, [2.5])
    assert found.words == ("Red", "dög", "'s", "🎬", END)
    (features,) = grounder.backbone.encode_queries([query])
    weights = grounder.model.attend(video.read(0, 6), features.values)[:, 2].flip(0).numpy()
    lengths = [len(word.encode()) for word in found.words[:-1]]
    assert weights.shape[1] == sum(lengths) + 2
    first = 1
    for place, length in enumerate(lengths):
        np.testing.assert_allclose(
            found.weights[:, 0, place], weights[:, first : first + length].mean(axis=1), rtol=1e-5
        )
        first += length
    np.testing.assert_allclose(found.weights[:, 0, -1], weights[:, -1], rtol=1e-5)
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1, rtol=1e-5)
    assert found.layers == (1, 2, 3)


def test_times_pick_each_frame_once_and_in_order(grounder: Grounder) -> None:
    found = find_attention(grounder, encoded(6, start=10.0), "a dog", [99.0, 12.9, 12.0, -3.0])
    assert found.times.tolist() == [10.5, 12.5, 15.5]
    assert found.weights.shape[:2] == (3, 3)


def test_a_long_video_is_seen_through_the_window_about_each_frame(grounder: Grounder) -> None:
    video = encoded(20)  # windows of 8 frames from 0, 4, 8 and 12
    found = find_attention(grounder, video, "a dog", [1.0, 9.0, 19.0])
    (features,) = grounder.backbone.encode_queries(["a dog"])
    for place, (first, frame) in enumerate([(0, 1), (4, 9), (12, 19)]):
        alone = grounder.model.attend(video.read(first, first + 8), features.values)[:, frame - first]
        np.testing.assert_allclose(found.weights[:, place, -1], alone[:, -1].flip(0).numpy(), rtol=1e-4)


def test_a_query_that_is_cut_keeps_its_first_words_and_its_end(grounder: Grounder) -> None:
    words = grounder.backbone.split_words("ab " * 100)
    assert len(words) == 38  # of two tokens each; 75 fit beside start and end, and the last word is cut to one
    assert words[0] == ("ab", slice(1, 3))
    assert words[-1][1] == slice(75, 76)


def test_what_cannot_be_shown_is_refused(grounder: Grounder) -> None:
    with pytest.raises(QueryError, match="empty"):
        find_attention(grounder, encoded(6), " ", [1.0])
    with pytest.raises(FeatureError, match="encode the video again"):
        find_attention(grounder, encoded(6, width=16), "a dog", [1.0])
