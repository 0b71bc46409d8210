"""The results of a query: `Grounding` and `Summary`, with what can be made of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from r2tuning.decoding.highlights import find_highlights
from r2tuning.errors import DataError, VideoError
from r2tuning.files import guard, require_regular
from r2tuning.hub import identify_file
from r2tuning.types import Moment, Saliency, Sampling

RATIO = 0.15
"""Share of a video that a summary may last, as in TVSum and SumMe."""


@dataclass(frozen=True)
class Note:
    """What a reader should know about an answer: its kind, for programs, and one sentence, for people."""

    kind: Literal["threshold", "domain", "present", "absent", "sampling", "video", "query", "windows"]
    text: str

    @property
    def is_warning(self) -> bool:
        """Whether the note limits what the answer is worth."""
        return self.kind not in ("present", "windows")


@dataclass(frozen=True, repr=False)
class Grounding:
    """The answer to one query on one video.

    Attributes:
        query: The sentence; empty for `outline_video`.
        video: The file.
        duration: Seconds of video that the answer covers.
        start: Seconds on the player's clock at which the video begins.
        moments: Best first.
        saliency: The highlight curve.
        model: Name of the checkpoint, or of the CLIP if there was no query.
        sampling: How frames were picked.
        video_truncated: Whether the file ended early or is damaged.
        query_truncated: Whether the query was cut to the length that the text tower takes.
        windows: Number of overlapping windows that cover the video; 1 if the model saw it whole.
        calibrated: Whether scores are probabilities, see `Moment` and `Saliency`.
        presence: Probability that the video shows the query, if half of all queries are shown; None if the model has
            no presence head and is not calibrated.
        presence_threshold: Presence from which the query is probably shown; None where presence is.
        domain_warning: How the video differs from the training data; empty if it does not.
        threshold: Lowest score of the moments, if one was asked for.
        best_score: Score of the best moment, whether or not it reaches the threshold; None if there is none.
        query_warning: Why the model may not understand the query; empty if it should.
        identity: Of the video's content, see `r2tuning.hub.identify_file`; empty if unknown.
    """

    query: str
    video: str
    duration: float
    start: float
    moments: list[Moment]
    saliency: Saliency
    model: str
    sampling: Sampling
    video_truncated: bool = False
    query_truncated: bool = False
    windows: int = 1
    calibrated: bool = False
    presence: float | None = None
    presence_threshold: float | None = None
    domain_warning: str = ""
    query_warning: str = ""
    threshold: float | None = None
    best_score: float | None = None
    identity: str = ""

    def check_video(self) -> None:
        """Checks that the file at `video` is the one that the answer is about, see `check_identity`."""
        check_identity(self.video, self.identity)

    @property
    def present(self) -> bool | None:
        """Whether the video probably shows what the query describes; None where the model cannot tell."""
        if self.presence is None or self.presence_threshold is None:
            return None
        return bool(self.presence >= self.presence_threshold)

    def leave_out_absent(self) -> Grounding:
        """The answer, without moments if the video probably does not show the query."""
        return replace(self, moments=[]) if self.present is False else self

    @property
    def notes(self) -> tuple[Note, ...]:
        """What limits the answer or supports it, most important first.

        Examples:
            >>> curve = Saliency(np.zeros(0), np.zeros(0))
            >>> Grounding("a dog", "a.mp4", 8.0, 0.0, [], curve, "demo", "exact", windows=3).notes
            (Note(kind='windows', text='The video is long: 3 overlapping windows cover it.'),)
        """
        presence = f"in this video (presence {self.presence or 0:.2f}, threshold {self.presence_threshold or 0:.2f})."
        damage = f"The file ends early or is damaged: the answer covers its first {self.duration:.1f} seconds."
        notes: tuple[tuple[bool, Note], ...] = (
            (bool(self.domain_warning), Note("domain", f"{self.domain_warning}.")),
            (self.present is True, Note("present", f"Probably {presence}")),
            (self.present is False, Note("absent", f"Probably not {presence}")),
            (self.sampling == "keyframe", Note("sampling", "Only key frames were read: times are approximate.")),
            (self.video_truncated, Note("video", damage)),
            (self.query_truncated, Note("query", "The query is too long: the model read only its beginning.")),
            (bool(self.query_warning), Note("query", f"The query {self.query_warning}.")),
            (self.windows > 1, Note("windows", f"The video is long: {self.windows} overlapping windows cover it.")),
        )
        below = self._describe_threshold()
        return tuple(note for holds, note in ((bool(below), Note("threshold", below)), *notes) if holds)

    def _describe_threshold(self) -> str:
        """Says that nothing reaches the threshold; empty if something does, or if there is none."""
        if self.threshold is None or self.moments or self.find_peaks(1):
            return ""
        peaks = [peak.score for peak in self.highlights(1)]
        what, best = (
            ("moment", self.best_score) if self.best_score is not None else ("peak of saliency", max(peaks, default=0))
        )
        decimals = 2 if f"{best:.2f}" != f"{self.threshold:.2f}" else 6
        return f"No {what} scores {self.threshold:.{decimals}f} or more; the best has {best:.{decimals}f}."

    def find_peaks(self, top: int = 5) -> list[Moment]:
        """What to show of a model without moments: the peaks of `highlights` that reach the threshold, if any."""
        if self.moments or self.best_score is not None:
            return []
        return [peak for peak in self.highlights(top) if self.threshold is None or peak.score >= self.threshold]

    def highlights(self, top: int = 5, seconds: float | None = None) -> list[Moment]:
        """Picks the highest peaks of the saliency curve above 0, highest first; they do not overlap.

        Args:
            top: Most highlights to return.
            seconds: Length of each; by default the full width of its peak at half its height.

        Examples:
            >>> curve = Saliency(np.array([1.0, 3.0, 5.0, 7.0]), np.array([0.1, 0.75, 0.5, 0.125], np.float32))
            >>> answer = Grounding("a dog", "a.mp4", 8.0, 0.0, [], curve, "demo", "exact")
            >>> answer.highlights(), answer.highlights(seconds=6)
            ([Moment(start=2.0, end=6.0, score=0.75)], [Moment(start=1.0, end=7.0, score=0.75)])
        """
        extent = self.start, self.start + self.duration
        found = find_highlights(self.saliency.times, self.saliency.scores, extent, top, seconds)
        return [Moment(*peak) for peak in found]

    def __repr__(self) -> str:
        best = f", best {_show(self.moments[0])}" if self.moments else ""
        moments = f"{len(self.moments)} moment{'' if len(self.moments) == 1 else 's'}{best}"
        return f"<Grounding {self.query!r} in {self.video}: {moments}; {len(self.saliency.scores)} scores of saliency>"

    def _repr_html_(self) -> str:
        """The answer in a notebook: query, video, notes, and the moments as a table."""
        return _to_html(self, self.moments)

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON has it: plain Python values, seconds rounded to 3 decimals and scores to 6.

        Beside the attributes it has ``present``, true, false or null, and ``notes``, each with ``kind`` and ``text``.
        Moments have ``start``, ``end`` and ``score``; ``saliency`` has lists of ``times`` and ``scores``.
        """
        return {
            "query": self.query,
            "video": self.video,
            "duration": _round(self.duration, 3),
            "start": _round(self.start, 3),
            "model": self.model,
            "sampling": self.sampling,
            "video_truncated": bool(self.video_truncated),
            "query_truncated": bool(self.query_truncated),
            "windows": int(self.windows),
            "calibrated": bool(self.calibrated),
            "presence": None if self.presence is None else _round(self.presence, 6),
            "presence_threshold": None if self.presence_threshold is None else _round(self.presence_threshold, 6),
            "present": self.present,
            "domain_warning": self.domain_warning,
            "query_warning": self.query_warning,
            "threshold": self.threshold,
            "best_score": None if self.best_score is None else _round(self.best_score, 6),
            "identity": self.identity,
            "notes": [asdict(note) for note in self.notes],
            "moments": _to_dicts(self.moments),
            "saliency": {
                "times": [_round(time, 3) for time in self.saliency.times],
                "scores": [_round(score, 6) for score in self.saliency.scores],
            },
        }

    @classmethod
    def from_dict(cls, answer: Mapping[str, Any]) -> Grounding:
        """Reads what `to_dict` returns; other keys are ignored, and those that 0.1 did not write may be missing."""
        with guard("not an answer", DataError, "give one of r2tuning ground"):
            saliency = Saliency(*(_read_curve(answer["saliency"][key]) for key in ("times", "scores")))
            if saliency.times.shape != saliency.scores.shape:
                raise ValueError("saliency: times and scores differ in number")
            if answer["sampling"] not in get_args(Sampling):
                raise ValueError(f"sampling is {answer['sampling']!r}, not one of {', '.join(get_args(Sampling))}")
            presence, probable, threshold, best = (
                None if answer.get(key) is None else _read_number(answer[key])
                for key in ("presence", "presence_threshold", "threshold", "best_score")
            )
            return cls(
                query=str(answer["query"]),
                video=str(answer["video"]),
                duration=_read_number(answer["duration"]),
                start=_read_number(answer["start"]),
                moments=_from_dicts(answer["moments"]),
                saliency=saliency,
                model=str(answer["model"]),
                sampling=answer["sampling"],
                video_truncated=bool(answer["video_truncated"]),
                query_truncated=bool(answer["query_truncated"]),
                windows=int(_read_number(answer["windows"])),
                calibrated=bool(answer.get("calibrated", False)),
                presence=presence,
                presence_threshold=probable,
                domain_warning=str(answer.get("domain_warning", "")),
                query_warning=str(answer.get("query_warning", "")),
                threshold=threshold,
                best_score=best,
                identity=str(answer.get("identity", "")),
            )

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Writes the answer in the format that the file's suffix names.

        Args:
            path: Ends in .json, .jsonl, .csv, .md, .txt, .srt, .vtt, .ffmetadata (chapters), .edl, .otio, .fcpxml,
                .png, .svg, .pdf, .gif or .html; ``sheet:FILE.png`` writes a contact sheet.
            force: Whether an existing file may be replaced.

        Raises:
            OutputError: If the suffix names no format, the file cannot be written, or a score is not finite.
            VideoError: If the format shows frames and the video cannot be read.
        """
        _save(self, path, force)


@dataclass(frozen=True, repr=False)
class Summary:
    """The shots that sum up a video within a budget.

    Attributes:
        answer: The answer whose saliency chose them.
        budget: Most seconds that the shots may last together.
        shots: Whole shots, or parts of long ones, in time order and apart; their score is the mean saliency.
    """

    answer: Grounding
    budget: float
    shots: list[Moment]

    def __repr__(self) -> str:
        about = f" of {self.answer.query!r}" if self.answer.query else ""
        lasting = f"{len(self.shots)} shots, {self.length:.1f} of at most {self.budget:.1f} s"
        return f"<Summary{about} in {self.answer.video}: {lasting}>"

    def _repr_html_(self) -> str:
        """The summary in a notebook: query, video, notes, and the shots as a table."""
        return _to_html(self.answer, self.shots)

    @property
    def length(self) -> float:
        """Seconds that the shots last together."""
        return sum(shot.end - shot.start for shot in self.shots)

    def to_dict(self) -> dict[str, Any]:
        """The keys of `Grounding.to_dict`, then ``budget``, ``length`` and ``shots``, which look like moments."""
        return self.answer.to_dict() | {
            "budget": _round(self.budget, 3),
            "length": _round(self.length, 3),
            "shots": _to_dicts(self.shots),
        }

    @classmethod
    def from_dict(cls, summary: Mapping[str, Any]) -> Summary:
        """Reads what `to_dict` returns."""
        answer = Grounding.from_dict(summary)
        with guard("not a summary", DataError, "give one of r2tuning summarize"):
            return cls(answer, _read_number(summary["budget"]), _from_dicts(summary["shots"]))

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> None:
        """Writes the shots: .mp4 joins them, other formats and errors are those of `Grounding.save`."""
        _save(self, path, force)


def _save(result: Grounding | Summary, path: str | os.PathLike[str], force: bool) -> None:
    # The only import from a higher tier: `result.save` needs the writers, and they need the results.
    from r2tuning.output.registry import find_target, save_results

    save_results([result], find_target(os.fspath(path), summary=isinstance(result, Summary)), force=force)


def _show(moment: Moment) -> str:
    return f"{moment.start:.1f} to {moment.end:.1f} s ({moment.score:.3f})"


def _to_html(answer: Grounding, moments: Sequence[Moment]) -> str:
    rows = "".join(
        f"<tr><td>{number}</td><td>{moment.start:.1f} s</td><td>{moment.end:.1f} s</td><td>{moment.score:.3f}</td></tr>"
        for number, moment in enumerate(moments, start=1)
    )
    notes = "".join(f"<p>{escape(note.text)}</p>" for note in answer.notes)
    head = "<tr><th></th><th>start</th><th>end</th><th>score</th></tr>"
    title = f"<p><b>{escape(answer.query or 'No query')}</b> in {escape(answer.video)} ({answer.duration:.1f} s)</p>"
    return title + notes + (f"<table>{head}{rows}</table>" if moments else "<p>No moments.</p>")


def _to_dicts(moments: list[Moment]) -> list[dict[str, float]]:
    return [{"start": _round(m.start, 3), "end": _round(m.end, 3), "score": _round(m.score, 6)} for m in moments]


def _from_dicts(moments: Sequence[Mapping[str, Any]]) -> list[Moment]:
    return [Moment(*(_read_number(m[key]) for key in ("start", "end", "score"))) for m in moments]


_LARGEST = 1e9  # of any number in an answer, such as seconds; charts and calendars end before


def _read_number(value: Any) -> float:
    number = float(value)
    if not abs(number) <= _LARGEST:
        raise ValueError(f"{value!r} is no sensible number")
    return number


def _read_curve(values: Any) -> NDArray[np.float64]:
    curve = np.array(values, np.float64)
    if curve.ndim != 1 or not (np.abs(curve) <= _LARGEST).all():
        raise ValueError("saliency: holds something else than a list of sensible numbers")
    return curve


def _round(value: float, decimals: int) -> float:
    # float(): NumPy scalars are no JSON numbers. + 0.0 turns -0.0 into 0.0.
    return round(float(value), decimals) + 0.0


def check_identity(video: str, identity: str) -> None:
    """Checks that a file is the one that was encoded, by its identity; nothing is checked if that is empty.

    Raises:
        VideoError: If it is another one, or cannot be read.
    """
    if not identity:
        return
    with guard(video, VideoError, "give the video's place with --video"):
        require_regular(video)
        if identify_file(video) != identity:
            raise ValueError("is not the video that was encoded; its times would be wrong")


def summarize(
    answer: Grounding,
    *,
    ratio: float | None = None,
    seconds: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Chooses the shots, at least one, that sum up a video within a budget; reads the video again to find its cuts.

    Args:
        answer: The answer to a query, or that of `r2tuning.outline_video`.
        ratio: Share of the video that the summary may last, in (0, 1]; by default 0.15 as in TVSum and SumMe.
        seconds: How long it may last instead.
        progress: Called with the number of frames read and expected.

    Raises:
        VideoError: If the video cannot be read, or has nothing at the answer's times.
        ValueError: If ``ratio`` or ``seconds`` is out of range, or both are given.
    """
    from r2tuning.decoding.summary import choose_shots
    from r2tuning.video.shots import detect_shots

    if ratio is not None and seconds is not None:
        raise ValueError(f"give ratio ({ratio}) or seconds ({seconds}), not both")
    share = RATIO if ratio is None else ratio
    if not 0 < share <= 1 or (seconds is not None and not seconds > 0):
        raise ValueError(f"ratio must be above 0 and at most 1, seconds above 0, not {ratio} and {seconds}")
    budget = share * answer.duration if seconds is None else min(seconds, answer.duration)
    extent = answer.start, answer.start + answer.duration
    answer.check_video()
    shots = detect_shots(answer.video, progress)
    chosen = choose_shots(answer.saliency.times, answer.saliency.scores, extent, shots, budget)
    if not chosen:
        raise VideoError(f"{answer.video} has nothing at the times of the answer; encode it again")
    return Summary(answer, budget, [Moment(*shot) for shot in chosen])
