"""The truth of a small corpus is that of each query in each video, asked one by one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from projects.moving_shapes.corpus import Asked, draw_queries, find_everywhere
from r2tuning.metrics import CorpusTruth
from r2tuning.synthetic import describe, make_video
from r2tuning.synthetic.actions import track_script
from r2tuning.synthetic.generate import list_seeds
from r2tuning.synthetic.queries import choose_queries
from r2tuning.synthetic.scenes import FPS
from r2tuning.synthetic.semantics import find_truth

ROOT = Path(__file__).resolve().parents[2]
SEEDS = list_seeds(7, 6)
VIDEOS = [f"val-{seed:07d}" for seed in SEEDS]


@pytest.fixture(scope="module")
def corpus() -> tuple[list[Asked], list[CorpusTruth]]:
    queries = draw_queries("val", SEEDS, 1000)
    return queries, find_everywhere(queries, "val", SEEDS)


def test_every_pair_is_as_asked_directly(corpus: tuple[list[Asked], list[CorpusTruth]]) -> None:
    queries, truths = corpus
    scripts = [make_video(seed, "val") for seed in SEEDS]
    assert [script.vid for script in scripts] == VIDEOS
    meanings = {query.meaning for script in scripts for query in choose_queries(script)}
    assert {asked.meaning for asked in queries} == meanings
    arguable = elsewhere = 0
    for asked, truth in zip(queries, truths, strict=True):
        assert (truth.qid, truth.query) == (asked.qid, asked.text)
        for script in scripts:
            direct = find_truth(asked.meaning, track_script(script))
            marked = np.zeros(script.frames, dtype=bool)
            for video, (start, end) in zip(truth.videos, truth.windows, strict=True):
                if video == script.vid:
                    marked[round(start * FPS) : round(end * FPS)] = True
            assert np.array_equal(marked, direct.certain)
            only_arguable = bool(direct.possible.any() and not direct.certain.any())
            assert (script.vid in truth.ignored) == only_arguable
            arguable += only_arguable
            elsewhere += bool(marked.any()) and not asked.qid.startswith(script.vid)
    assert arguable > 0
    assert elsewhere > 3


def test_queries_are_those_of_the_annotations(corpus: tuple[list[Asked], list[CorpusTruth]]) -> None:
    """Ids, sentences and moments in the own video are those that `synthesize` writes."""
    annotated = {one.qid: one for seed in SEEDS for one in describe(make_video(seed, "val"))}
    for truth in corpus[1]:
        one = annotated[truth.qid]
        own = [tuple(row) for video, row in zip(truth.videos, truth.windows.tolist(), strict=True) if video == one.vid]
        assert (truth.query, own) == (one.query, list(one.moments))


def test_some_queries_are_drawn_and_none_twice() -> None:
    drawn, again = draw_queries("val", SEEDS, 5), draw_queries("val", SEEDS, 5)
    assert drawn == again
    assert len({asked.meaning for asked in drawn}) == len(drawn) == 5
    assert drawn != draw_queries("val", list_seeds(8, 6), 5)


def test_command_writes_what_score_reads(tmp_path: Path) -> None:
    file = tmp_path / "truth.jsonl"
    command = [sys.executable, "-m", "projects.moving_shapes.corpus", str(file), "--videos", "4", "--queries", "6"]
    command += ["--seed", "7", "--jobs", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("6 queries in 4 videos: right in ")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    seeds = list_seeds(7, 4)
    expected = find_everywhere(draw_queries("val", seeds, 6), "val", seeds)
    for line, truth in zip(lines, expected, strict=True):
        read = CorpusTruth.from_json(line)
        assert (read.qid, read.query, read.videos, read.ignored) == (
            truth.qid,
            truth.query,
            truth.videos,
            truth.ignored,
        )
        assert np.array_equal(read.windows, truth.windows)
