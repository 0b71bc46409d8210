"""The truth of every query in every video of a corpus: ``python -m projects.moving_shapes.corpus TRUTH.jsonl``.

The videos are those of ``r2tuning synthesize --videos N --seed S --split SPLIT``, and the queries some of theirs, with
the same ids. Their truth is looked up in the state of the world, so that a right answer in another video is known. A
pair is right in the moments in which the query certainly holds, however short. Where it never certainly holds but
somebody could say that it does, the pair is ignored: moments there are neither right nor wrong. All other pairs are
wrong.

``r2tuning score PREDICTIONS.jsonl TRUTH.jsonl -b moving-shapes`` scores a ranking against the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from statistics import mean, median
from typing import TypeVar

import numpy as np

from r2tuning.errors import R2TuningError
from r2tuning.files import check_target, write_atomically
from r2tuning.metrics import CorpusTruth
from r2tuning.processes import Death, map_in_processes
from r2tuning.synthetic.actions import track_script
from r2tuning.synthetic.generate import list_seeds
from r2tuning.synthetic.queries import choose_queries
from r2tuning.synthetic.scenes import SPLITS, Split
from r2tuning.synthetic.semantics import Meaning, find_truth, to_windows
from r2tuning.synthetic.staging import make_video


@dataclass(frozen=True)
class Asked:
    """A query that is asked of every video of a corpus."""

    qid: str
    text: str
    meaning: Meaning


@dataclass(frozen=True)
class Verdict:
    """What is true of a query in a video: the moments in which it certainly holds, and whether it possibly does."""

    windows: tuple[tuple[float, float], ...]
    possible: bool


_Result = TypeVar("_Result")


def draw_queries(split: Split, seeds: Sequence[int], count: int, jobs: int = 1) -> list[Asked]:
    """Draws queries of the videos at random, no two of the same meaning; all of them if there are fewer."""
    every = [asked for each in _map(partial(partial, _list_queries, split), seeds, jobs) for asked in each]
    distinct = list({asked.meaning: asked for asked in reversed(every)}.values())[::-1]
    chosen = Random(f"corpus {split} {seeds[0]}").sample(range(len(distinct)), min(count, len(distinct)))
    return [distinct[place] for place in sorted(chosen)]


def find_everywhere(queries: Sequence[Asked], split: Split, seeds: Sequence[int], jobs: int = 1) -> list[CorpusTruth]:
    """Looks up the truth of every query in every video, see the module."""
    videos = [f"{split}-{seed:07d}" for seed in seeds]
    # verdicts[video][query]
    verdicts = _map(partial(partial, judge, split, [asked.meaning for asked in queries]), seeds, jobs)
    truths = []
    for asked, column in zip(queries, zip(*verdicts, strict=True), strict=True):
        rows = [(video, window) for video, one in zip(videos, column, strict=True) for window in one.windows]
        truths.append(
            CorpusTruth(
                asked.qid,
                [video for video, _ in rows],
                np.array([window for _, window in rows]).reshape(-1, 2),
                ignored=frozenset(
                    video for video, one in zip(videos, column, strict=True) if one.possible and not one.windows
                ),
                query=asked.text,
            )
        )
    return truths


def judge(split: Split, meanings: Sequence[Meaning], seed: int) -> list[Verdict]:
    """What is true of each meaning in the video of a seed."""
    scenes = track_script(make_video(seed, split))
    truths = [find_truth(meaning, scenes) for meaning in meanings]
    return [Verdict(to_windows(truth.certain), bool(truth.possible.any())) for truth in truths]


def to_line(truth: CorpusTruth) -> str:
    """The truth of a query as a line that `r2tuning.metrics.CorpusTruth.from_json` reads.

    Example:
        >>> print(to_line(CorpusTruth("q", ["a"], [[1, 2]], ignored={"b"}, query="a star")), end="")
        {"qid": "q", "query": "a star", "relevant_corpus": [["a", 1.0, 2.0]], "ignored_videos": ["b"]}
    """
    line = {
        "qid": truth.qid,
        "query": truth.query,
        "relevant_corpus": [[video, *row] for video, row in zip(truth.videos, truth.windows.tolist(), strict=True)],
        "ignored_videos": sorted(truth.ignored),
    }
    return json.dumps(line) + "\n"


def _list_queries(split: Split, seed: int) -> list[Asked]:
    script = make_video(seed, split)
    # As `describe` numbers them.
    return [Asked(f"{script.vid}-{n}", query.text, query.meaning) for n, query in enumerate(choose_queries(script))]


def _map(make_worker: Callable[[], Callable[[int], _Result]], seeds: Sequence[int], jobs: int) -> list[_Result]:
    """The results of all seeds, in their order."""
    results: dict[int, _Result] = {}
    with closing(map_in_processes(make_worker, seeds, jobs)) as done:
        for seed, result in done:
            if isinstance(result, Death):
                raise R2TuningError(f"the video of seed {seed} failed, {result.reason}; use fewer --jobs")
            results[seed] = result
    return [results[seed] for seed in seeds]


def main() -> None:
    """Writes the truth of a corpus, and prints how much of it is right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("truth", type=Path, metavar="TRUTH.jsonl", help="file to write")
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0, help="as for r2tuning synthesize")
    parser.add_argument("--split", choices=SPLITS, default="val")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--force", action="store_true", help="replace the file")
    options = parser.parse_args()
    check_target(options.truth, force=options.force)
    seeds = list_seeds(options.seed, options.videos)
    queries = draw_queries(options.split, seeds, options.queries, options.jobs)
    truths = find_everywhere(queries, options.split, seeds, options.jobs)
    write_atomically(options.truth, "".join(map(to_line, truths)), force=options.force)
    right = [len(set(truth.videos)) for truth in truths]
    print(
        f"{len(truths)} queries in {len(seeds)} videos: right in {mean(right):.1f} videos on average "
        f"(median {median(right):g}, most {max(right)}), arguable in {mean(len(t.ignored) for t in truths):.1f}"
    )


if __name__ == "__main__":
    main()
