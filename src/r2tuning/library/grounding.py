"""Grounds queries in one video of a library, from what the library keeps of it; nothing is decoded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from r2tuning.compatibility import check_language
from r2tuning.decoding.windows import Window
from r2tuning.errors import LibraryError
from r2tuning.features.encoded import EncodingFacts
from r2tuning.grounder import Grounder
from r2tuning.library.snapshot import Snapshot
from r2tuning.model.pooling import QuantizedTokens
from r2tuning.results import Grounding


def ground_video(
    snapshot: Snapshot,
    grounder: Grounder,
    number: int,
    queries: Sequence[str],
    *,
    top_k: int | None = None,
    threshold: float | None = None,
    overlapping: bool = False,
) -> list[Grounding]:
    """Grounds queries in a video, as `Grounder.ground` does.

    A video of one window gets the answers of `Grounder.ground`, but for the rounding of v̂ to 8 bits; in a longer one,
    v̂ sees every frame in the middle of its window.

    Args:
        snapshot: The library.
        grounder: The model that made it.
        number: Of the video.
        queries: Sentences, which are batched.
        top_k: Most moments of an answer; None for all.
        threshold: Lowest score of a moment.
        overlapping: Whether to return the whole ranked list.

    Raises:
        LibraryError: If the library keeps vectors only, or the video was removed meanwhile.
        QueryError: If a query is empty.
        ValueError: If ``top_k`` is below 1, or ``threshold`` not in [0, 1].
    """
    made, video = snapshot.generation.facts, snapshot.videos[number]
    path = snapshot.files[number][0].path
    if made.keep == "vectors":
        raise LibraryError(
            f"{path}: the library keeps vectors only, which cannot be grounded; "
            "run r2tuning library rescan --keep answers"
        )

    def project(window: Window) -> QuantizedTokens:
        projected = snapshot.read(number, window.start, window.stop)
        if projected is None:
            raise LibraryError(f"{path}: was removed from the library meanwhile")
        return projected.move(grounder.model.level_scale.device)

    facts = EncodingFacts(
        video=path,
        duration=video.duration,
        start=video.start,
        fps=video.fps,
        sampling=video.sampling,
        truncated=video.truncated,
        backbone=made.backbone,
        fingerprint=made.fingerprint,
        preprocess_version=made.preprocess_version,
        engine=made.engine,
        identity=video.identity,
    )
    features = grounder.backbone.encode_queries(list(queries))
    answers = grounder.answer_projected(facts, video.frames, features, project, top_k, threshold, overlapping)
    return [
        replace(answer, query_warning=check_language(query, grounder.backbone))
        for answer, query in zip(answers, queries, strict=True)
    ]
