"""Annotations of the benchmarks and of custom data, read and checked; here, the benchmarks by name.

One file per benchmark says what is special to it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from r2tuning.datasets.annotations import Annotation, LabelRule, fit_moments, mark_moments, to_ground_truth
from r2tuning.datasets.benchmark import Benchmark, Split
from r2tuning.datasets.custom import CUSTOM, load_custom
from r2tuning.datasets.entries import read_json
from r2tuning.datasets.highlight_detection import TVSUM, YOUTUBE_HIGHLIGHTS
from r2tuning.datasets.moment_retrieval import CHARADES_STA, EGO4D_NLQ, TACOS
from r2tuning.datasets.qvhighlights import MOVING_SHAPES, QVHIGHLIGHTS
from r2tuning.errors import DataError, R2TuningWarning
from r2tuning.metrics.records import QueryId

__all__ = [
    "BENCHMARKS",
    "CUSTOM",
    "Annotation",
    "Benchmark",
    "LabelRule",
    "Split",
    "find_benchmark",
    "fit_moments",
    "load_annotations",
    "load_custom",
    "mark_moments",
    "to_ground_truth",
]

BENCHMARKS = (QVHIGHLIGHTS, EGO4D_NLQ, CHARADES_STA, TACOS, YOUTUBE_HIGHLIGHTS, TVSUM, MOVING_SHAPES)
"""The paper's six in the order of its tables, then the synthetic one."""

_BY_NAME = {benchmark.name: benchmark for benchmark in (*BENCHMARKS, CUSTOM)}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark called ``name``, in upper or lower case; ``custom`` stands for the user's data.

    Example:
        >>> find_benchmark("charades")
        Traceback (most recent call last):
        r2tuning.errors.DataError: no benchmark 'charades'; did you mean charades-sta?
    """
    if name.lower() in _BY_NAME:
        return _BY_NAME[name.lower()]
    near = get_close_matches(name.lower(), list(_BY_NAME), n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_BY_NAME)}"
    raise DataError(f"no benchmark {name!r}; {hint}")


def load_annotations(
    path: str | Path,
    benchmark: Benchmark,
    *,
    split: str | None = None,
    domain: str | None = None,
    find: Callable[[str], Path] | None = None,
) -> list[Annotation]:
    """Reads and checks an annotation file, the authors' or one of the public re-releases.

    Moments are fitted to their video (see `fit_moments`), and one warning counts those that changed. The first wrong
    entry is a DataError, as ``file:line: field: what``.

    Args:
        path: A ``.jsonl`` or ``.json`` file; for custom data, what `load_custom` reads.
        benchmark: The benchmark of the file.
        split: Keeps the videos of this split if one file may hold all (YouTube Highlights, TVSum).
        domain: Keeps the videos of this domain.
        find: For custom data, finds the file of a video, see `load_custom`.
    """
    path = Path(path)
    if benchmark.parse is None:
        return load_custom(path, find)
    if split is not None:
        benchmark.find_split(split)
    if domain is not None and domain not in benchmark.domains:
        names = " or ".join(benchmark.domains)
        raise DataError(f"{benchmark.name} has no domain {domain!r}; choose {names or 'none'}")

    places: dict[QueryId, str] = {}
    annotations: list[Annotation] = []
    swapped = cut = 0
    for entry in read_json(path):
        parsed = benchmark.parse(entry)
        if parsed.qid in places:
            raise DataError(f"{entry.place}: qid: {parsed.qid!r} is already that of {places[parsed.qid]}; keep one")
        places[parsed.qid] = entry.place
        if annotations and parsed.labelled != annotations[0].labelled:
            raise DataError(f"{entry.place}: relevant_windows: only some queries of the file have any; complete it")
        try:
            annotation = fit_moments(parsed)
        except DataError as error:
            raise DataError(f"{entry.place}: relevant_windows: {error}") from None
        swapped += sum(start > end for start, end in parsed.moments)
        cut += sum(sorted(was) != list(now) for was, now in zip(parsed.moments, annotation.moments, strict=True))
        annotations.append(annotation)
    if swapped or cut:
        warnings.warn(
            f"{path}: {swapped} moments ended before they started and were swapped, "
            f"{cut} reached beyond their video and were cut",
            R2TuningWarning,
            stacklevel=2,
        )

    chosen = [
        a for a in annotations if domain in (None, a.domain) and (not split or benchmark.is_in_split(a.vid, split))
    ]
    if not chosen:
        raise DataError(f"{path}: has no video of {benchmark.name} in split {split}, domain {domain}; check the file")
    return chosen
