"""Asks a library: candidates by the vectors of frames, refined by the R² head, ranked by one probability."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from r2tuning.decoding import Decoded
from r2tuning.decoding.calibration import RankingMap, find_evidence, log_odds
from r2tuning.decoding.decode import finish_moments, keep_distinct
from r2tuning.decoding.highlights import find_highlights
from r2tuning.decoding.windows import Window
from r2tuning.errors import LibraryError
from r2tuning.grounder import Grounder
from r2tuning.intervals import FloatArray
from r2tuning.library.cache import Cache
from r2tuning.library.hits import Cursor, Curve, Hit, Hits
from r2tuning.library.questions import Question, Sentence
from r2tuning.library.records import Video
from r2tuning.library.remembered import Seen, SeenKey
from r2tuning.library.segments import Peak
from r2tuning.library.snapshot import Filters, Snapshot
from r2tuning.prediction import PAIRS, predict_windows
from r2tuning.results import Grounding
from r2tuning.types import Moment, Saliency

BLOCK = 20
"""Candidates that are refined and ranked together; more gain nothing."""

PER_WINDOW = 5
"""Most moments of a window."""

APART = 10.0
"""Seconds between peaks that are reported as they are."""

LIKELY = 0.5
"""A first hit below this probability is probably not what the query describes."""


@torch.inference_mode()
def search(
    snapshot: Snapshot,
    grounder: Grounder,
    question: Question,
    seen: Cache[SeenKey, Seen],
    *,
    top: int,
    filters: Filters,
    threshold: float | None,
    after: str,
    candidates: int = BLOCK,
) -> Hits:
    """Finds the moments that answer a question; see `Library.search`. What the R² head says is put into ``seen``."""
    newest = max(snapshot.videos, default=0)
    cursor = Cursor.parse(after) if after else Cursor(snapshot.generation.id, newest, 0)
    if cursor.generation != snapshot.generation.id:
        raise LibraryError("the library was encoded by another model since that page; search again from the first")
    allowed = {
        number: video
        for number, video in snapshot.videos.items()
        if number <= cursor.newest and filters.allow(video, snapshot.files[number])
    }
    calibration = grounder.calibration
    ranking = calibration.ranking if calibration is not None else None
    finder = Finder(snapshot, grounder, question, ranking or RankingMap(), seen)
    curves: list[Curve] = []
    stream = finder.rank(allowed, candidates, curves)
    page = list(islice(stream, cursor.done, cursor.done + top + 1))
    more, hits = len(page) > top, page[:top]
    refined = all(hit.refined for hit in hits)
    calibrated = ranking is not None and refined
    present = bool(hits and hits[0].score >= LIKELY) if calibrated and not cursor.done else None
    if threshold is not None:
        hits, more = [hit for hit in hits if hit.score >= threshold], more and hits[-1].score >= threshold
    shown = {hit.number for hit in hits}
    return Hits(
        question.text,
        tuple(hits),
        len(allowed),
        math.fsum(video.duration for video in allowed.values()),
        calibrated,
        present,
        str(Cursor(cursor.generation, cursor.newest, cursor.done + len(hits))) if more else "",
        tuple(curve for curve in curves if curve.number in shown),
    )


@dataclass(frozen=True)
class Found:
    """A moment of a window: seconds from the video's first frame, and how likely it is.

    ``evidence``, ``[4]``, is what `RankingMap.apply` takes; None where the R² head did not look.
    """

    peak: Peak
    start: float
    end: float
    score: float
    evidence: FloatArray | None


@dataclass(frozen=True)
class Finder:
    """Turns candidates into hits."""

    snapshot: Snapshot
    grounder: Grounder
    question: Question
    ranking: RankingMap
    seen: Cache[SeenKey, Seen]

    def rank(self, allowed: dict[int, Video], block: int, curves: list[Curve]) -> Iterator[Hit]:
        """All hits, block of candidates by block, best first in each; a video's hits share no time."""
        taken: dict[int, list[Found]] = {}
        done = 0
        while True:
            peaks = self.choose(allowed, done + block)
            fresh = peaks[done : done + block]
            found = sorted(self.refine(fresh, peaks, curves), key=lambda one: -one.score)
            for one in found:
                before = taken.setdefault(one.peak.video, [])
                if all(one.start >= other.end - 1e-6 or one.end <= other.start + 1e-6 for other in before):
                    before.append(one)
                    yield self._to_hit(one)
            done += len(fresh)
            if len(fresh) < block:
                return

    @property
    def _refines(self) -> bool:
        return self.question.sentence is not None and self.snapshot.generation.facts.keep != "vectors"

    def choose(self, allowed: Collection[int], count: int) -> list[Peak]:
        """The nearest peaks, of those whose windows are nearly the same only the best: the candidates."""
        facts, view = self.snapshot.generation.facts, self.snapshot.view
        if not self._refines:  # these are moments by themselves
            return view.scan(self.question.vector, allowed, count, max(1, round(APART * facts.fps)))
        asked = 2 * count
        while True:
            peaks = view.scan(self.question.vector, allowed, asked, max(1, facts.window // 2))
            chosen: list[Peak] = []
            starts: dict[int, list[int]] = {}
            for peak in peaks:
                start, others = self.place_window(peak).start, starts.setdefault(peak.video, [])
                if all(abs(start - other) >= max(1, facts.window // 4) for other in others):
                    others.append(start)
                    chosen.append(peak)
            if len(chosen) >= count or len(peaks) < asked:
                return chosen[:count]
            asked *= 2

    def _to_hit(self, found: Found) -> Hit:
        video = self.snapshot.videos[found.peak.video]
        paths = sorted((file.path for file in self.snapshot.files[video.id]), key=lambda path: not Path(path).exists())
        moment = Moment(video.start + found.start, video.start + found.end, found.score)
        return Hit(
            paths[0], moment, found.score, found.peak.cosine, found.evidence is not None, video.id, tuple(paths[1:])
        )

    def place_window(self, peak: Peak) -> Window:
        """The window with a peak in its middle, or at an end of the video."""
        length = self.snapshot.generation.facts.window
        frames = self.snapshot.videos[peak.video].frames
        start = min(max(0, peak.frame - length // 2), max(0, frames - length))
        return Window(start, min(frames, start + length))

    def refine(self, fresh: Sequence[Peak], peaks: Sequence[Peak], curves: list[Curve]) -> Iterator[Found]:
        """The moments in the windows around peaks; ``peaks`` are all that have been found, also before."""
        sentence = self.question.sentence
        if sentence is None or not self._refines:
            yield from (found for peak in fresh for found in self._take_peak(peak))
            return
        centers: dict[int, list[float]] = {}
        for peak in peaks:
            window = self.place_window(peak)
            centers.setdefault(peak.video, []).append((window.start + window.stop) / 2)
        windows = [(peak, self.place_window(peak)) for peak in fresh]
        queries = [sentence, *self.question.without]
        seen = self._look([(peak.video, window) for peak, window in windows], queries)
        for peak, window in windows:
            if (peak.video, window) not in seen:  # the video was removed meanwhile
                continue
            first, *others = seen[peak.video, window]
            curves.append(Curve(peak.video, window.start, first.saliency))
            avoided = [
                one
                for query, other in zip(self.question.without, others, strict=True)
                for one in self._choose_moments(self._move(peak, window, query), window, other, [])
            ]
            for found in self._choose_moments(peak, window, first, centers[peak.video]):
                yield _weaken(found, avoided)

    def _look(
        self, places: Sequence[tuple[int, Window]], queries: Sequence[Sentence]
    ) -> dict[tuple[int, Window], list[Seen]]:
        """What the R² head says of windows of videos for each query; a video that was removed meanwhile is left out."""
        videos, device = self.snapshot.videos, self.grounder.model.level_scale.device
        known: dict[tuple[int, Window], list[Seen | None]] = {
            (number, window): [
                self.seen.get((query.text, videos[number].identity, window.start, window.stop)) for query in queries
            ]
            for number, window in places
        }
        fresh = [place for place, seen in known.items() if None in seen]
        found = {place: [one for one in seen if one is not None] for place, seen in known.items() if None not in seen}
        at_once = max(1, PAIRS // len(queries))
        for first in range(0, len(fresh), at_once):
            batch = [
                (place, projected.move(device))
                for place in fresh[first : first + at_once]
                if (projected := self.snapshot.read(place[0], place[1].start, place[1].stop)) is not None
            ]
            if not batch:
                continue
            asked, fps = [query.features for query in queries], self.snapshot.generation.facts.fps
            decoded = iter(predict_windows(self.grounder.model, [each[1] for each in batch], asked, fps))
            for (number, window), _ in batch:
                found[number, window] = [self._finish(videos[number], window, next(decoded)) for _ in queries]
                for query, seen in zip(queries, found[number, window], strict=True):
                    self.seen.put((query.text, videos[number].identity, window.start, window.stop), seen)
        return found

    def _move(self, peak: Peak, window: Window, query: Sentence) -> Peak:
        """A peak with the highest cosine of another sentence in its window."""
        vectors = self.snapshot.view.read(peak.video)
        inside = vectors.vectors[(vectors.frames >= window.start) & (vectors.frames < window.stop)]
        if not len(inside):  # one frame before stands for all
            return peak
        return replace(peak, cosine=float((torch.from_numpy(inside).float() @ query.vector).max()))

    def _take_peak(self, peak: Peak) -> Iterator[Found]:
        """The stretch of frames around a peak, without the moment that more like it were asked for."""
        video = self.snapshot.videos[peak.video]
        start, end = peak.first / video.fps, min((peak.last + 1) / video.fps, video.duration)
        if peak.video == self.question.number:
            given, over = self.question.span
            place = (peak.frame + 0.5) / video.fps
            start, end = (max(start, over), end) if place > over else (start, min(end, given))
            if given <= place <= over:
                return
        yield Found(peak, min(start, end), end, min(max(peak.cosine, 0.0), 1.0), None)

    def _finish(self, video: Video, window: Window, raw: Decoded) -> Seen:
        """The moments of a window, none of which share time, and what tells how likely they are."""
        curve = raw.saliency.cpu().numpy()
        shift = window.start / video.fps
        moments = raw.moments.double().cpu().numpy() + np.array([shift, shift, 0.0])
        if len(moments):
            final = keep_distinct(finish_moments(moments, video.duration, self.grounder.config.decoding))
        else:  # of the saliency family
            times = (np.arange(window.start, window.stop) + 0.5) / video.fps
            extent = shift, min(window.stop / video.fps, video.duration)
            final = np.array(find_highlights(times, curve, extent, PER_WINDOW, None)).reshape(-1, 3)
        _, top, head = find_evidence(moments[:, 2], curve, raw.presence).tolist()
        return Seen(final[(final[:, 2] > 0) & (final[:, 1] > final[:, 0])], curve, top, head)

    def _choose_moments(self, peak: Peak, window: Window, seen: Seen, centers: list[float]) -> Iterator[Found]:
        """The best moments of a window; those that a window nearer to them sees better are left to it."""
        video, middle, kept = self.snapshot.videos[peak.video], (window.start + window.stop) / 2, 0
        for start, end, score in seen.moments.tolist():
            place = (start + end) / 2 * video.fps
            if kept == PER_WINDOW:
                return
            if any(abs(place - other) < abs(place - middle) for other in centers):
                continue
            kept += 1
            evidence = np.array([float(log_odds(np.array(score))), seen.top, seen.head, peak.cosine])
            yield Found(peak, start, end, float(self.ranking.apply(evidence)), evidence)


def _weaken(found: Found, avoided: Sequence[Found]) -> Found:
    """The moment with the probability that it is right and that nothing to avoid is there."""
    there = [one.score for one in avoided if one.start < found.end and one.end > found.start]
    return replace(found, score=found.score * (1 - max(there, default=0.0)))


def to_groundings(hits: Hits, snapshot: Snapshot, grounder: Grounder) -> list[Grounding]:
    """The hits as an answer for each video, best video first.

    Saliency is known where the model looked; elsewhere it is the lowest of the video.
    """
    of_video: dict[int, list[Hit]] = {}
    for hit in hits:
        of_video.setdefault(hit.number, []).append(hit)
    answers = []
    for number, found in of_video.items():
        video = snapshot.videos.get(number)
        if video is None:  # taken out since
            continue
        scores = np.full(video.frames, np.nan)
        for curve in (curve for curve in hits.curves if curve.number == number):
            here = slice(curve.start, curve.start + len(curve.scores))
            scores[here] = np.fmax(scores[here], curve.scores)
        if np.isnan(scores).all():
            scores[:] = 0
        scores[np.isnan(scores)] = np.nanmin(scores)
        if grounder.calibration is not None:
            scores = grounder.calibration.saliency.apply(scores)
        centers = np.minimum((np.arange(video.frames) + 0.5) / video.fps, video.duration)
        answers.append(
            Grounding(
                query=hits.query,
                video=found[0].video,
                duration=video.duration,
                start=video.start,
                moments=[hit.moment for hit in found],
                saliency=Saliency(video.start + centers, scores),
                model=grounder.config.name,
                sampling=video.sampling,
                video_truncated=video.truncated,
                calibrated=hits.calibrated,
                best_score=found[0].score,
                identity=video.identity,
            )
        )
    return answers
