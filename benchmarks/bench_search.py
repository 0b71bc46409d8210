"""Which way of searching many videos finds the right moment: ``python benchmarks/bench_search.py FOLDER``.

Writes videos of Moving Shapes that no training has seen, puts them into a library with the demo model, and asks it
queries whose truth in every video is looked up in the state of the world. With ``--join J``, videos are joined to long
ones. Prints VCMR, NDCG and seconds per query of

- the library: candidates by the vectors of frames, windows around them, refined and fused;
- the same with every peak refined instead of 20, which asks every video that fits into one window, for the first
  ``--everywhere`` queries, and the library for these alone;
- windows of a fixed grid, overlapping by half and side by side, instead of windows around the peaks (long videos);
- chunks of 30 seconds with 5 seconds of overlap, ranked by the mean of their vectors: the usual way of other tools.

What is there in FOLDER already is not made again.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.shapes import write_shapes

from projects.moving_shapes.corpus import draw_queries, find_everywhere
from projects.moving_shapes.shared import to_markdown
from r2tuning import Library
from r2tuning.cli.options import show_progress
from r2tuning.decoding.windows import Window, plan_windows
from r2tuning.library import search as searching
from r2tuning.library.search import Finder
from r2tuning.library.segments import FrameVectors, Peak
from r2tuning.metrics import CorpusPrediction, CorpusTruth, evaluate_corpus
from r2tuning.synthetic.generate import list_seeds
from r2tuning.synthetic.scenes import SPLITS, Split
from r2tuning.synthetic.staging import make_video

SHOWN = ("VCMR-R1@0.5", "VCMR-R5@0.5", "VCMR-R10@0.5", "VCMR-R1@0.7", "VCMR-R10@0.7", "VR-R1", "NDCG10@0.5")
MOST = 100
CHUNK, OVERLAP = 30, 5

Answer = list[tuple[str, float, float, float]]
"""Video, start, end and score of each hit."""


class GridFinder(Finder):
    """Refines the windows of a fixed grid whose middle is nearest to a peak."""

    overlap = 0.5

    def place_window(self, peak: Peak) -> Window:
        """See `Finder`."""
        frames = self.snapshot.videos[peak.video].frames
        windows = plan_windows(frames, self.snapshot.generation.facts.window, self.overlap)
        return min(windows, key=lambda window: abs(window.start + window.stop - 2 * peak.frame))


class SparseGridFinder(GridFinder):
    """As `GridFinder`, with windows side by side."""

    overlap = 0.0


def make_videos(folder: Path, split: Split, seeds: range, join: int) -> None:
    """Writes the videos that are missing; each holds ``join`` of the world's."""
    folder.mkdir(parents=True, exist_ok=True)
    with show_progress("Writing", "videos") as progress:
        for place in range(0, len(seeds), join):
            path = folder / f"{name_video(split, seeds[place])}.mp4"
            if not path.exists():
                part = path.with_suffix(".part.mp4")
                write_shapes(part, seeds[place : place + join], split)
                part.rename(path)
            progress(place // join + 1, len(seeds) // join)


def name_video(split: str, seed: int) -> str:
    """The name of a video of the world, as in its truth."""
    return f"{split}-{seed:07d}"


def join_truths(truths: list[CorpusTruth], split: Split, seeds: range, join: int) -> list[CorpusTruth]:
    """The truth in joined videos. One is ignored if the query may be true in it and is not certain anywhere."""
    place = {}
    for first in range(0, len(seeds), join):
        offset = 0
        for seed in seeds[first : first + join]:
            place[name_video(split, seed)] = name_video(split, seeds[first]), offset
            offset += round(make_video(seed, split).duration)
    joined = []
    for truth in truths:
        videos = [place[video][0] for video in truth.videos]
        shifts = np.array([place[video][1] for video in truth.videos])
        ignored = {place[video][0] for video in truth.ignored} - set(videos)
        windows = truth.windows + shifts[:, None] if videos else truth.windows
        joined.append(replace(truth, videos=tuple(videos), windows=windows, ignored=frozenset(ignored), grades=None))
    return joined


def ask_library(library: Library, candidates: int) -> Callable[[str], Answer]:
    """Asks as a user does."""

    def ask(query: str) -> Answer:
        hits = library.search(query, top=MOST, candidates=candidates)
        return [(Path(hit.video).stem, hit.moment.start, hit.moment.end, hit.score) for hit in hits]

    return ask


def ask_grid(library: Library, finder: type[GridFinder]) -> Callable[[str], Answer]:
    """As the library, but with windows of a grid."""
    ask = ask_library(library, searching.BLOCK)

    def on_grid(query: str) -> Answer:
        ours, searching.Finder = searching.Finder, finder  # type: ignore[misc]
        try:
            return ask(query)
        finally:
            searching.Finder = ours  # type: ignore[misc]

    return on_grid


def ask_chunks(library: Library) -> Callable[[str], Answer]:
    """Ranks chunks of a fixed length by the cosine of their mean vector."""
    snapshot = library.look()
    backbone = library._load(snapshot.generation.facts).backbone
    names, spans, vectors = [], [], []
    for number, video in snapshot.videos.items():
        frames = spread(snapshot.view.read(number), video.frames)
        for start in np.arange(0, max(video.duration - OVERLAP, 1), CHUNK - OVERLAP):
            end = min(start + CHUNK, video.duration)
            chunk = frames[int(start * video.fps) : max(int(start * video.fps) + 1, round(end * video.fps))]
            names.append(Path(snapshot.files[number][0].path).stem)
            spans.append((float(start), float(end)))
            vectors.append(torch.nn.functional.normalize(chunk.mean(dim=0), dim=0))
    stacked = torch.stack(vectors)

    def ask(query: str) -> Answer:
        cosines = stacked @ backbone.embed_queries([query])[0]
        best = cosines.topk(min(MOST, len(cosines)))
        return [(names[i], *spans[i], float(c)) for c, i in zip(best.values, best.indices.tolist(), strict=True)]

    return ask


def spread(found: FrameVectors, frames: int) -> torch.Tensor:
    """A vector for every frame of a video: one that was left out has that of the last one kept."""
    rows = np.searchsorted(found.frames, np.arange(frames), side="right") - 1
    return torch.from_numpy(found.vectors[rows]).float()


def measure(ask: Callable[[str], Answer], truths: list[CorpusTruth], title: str) -> Iterator[str]:
    """The row of a way."""
    found, seconds = [], 0.0
    with show_progress(title, "queries") as progress:
        for done, truth in enumerate(truths, start=1):
            start = time.process_time()
            rows = ask(truth.query or "")
            seconds += time.process_time() - start
            windows = np.array([row[1:] for row in rows], dtype=np.float64).reshape(-1, 3)
            found.append(CorpusPrediction(truth.qid, [row[0] for row in rows], windows))
            progress(done, len(truths))
    scores = evaluate_corpus(found, truths)
    yield title
    yield from (f"{scores[name]:.1f}" for name in SHOWN)
    yield f"{seconds / len(truths):.3f}"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of videos and library; kept")
    parser.add_argument("--split", choices=SPLITS, default="val")
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--videos", type=int, default=300)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--join", type=int, default=1, help="how many videos make a long one")
    parser.add_argument("--everywhere", type=int, default=60, help="queries for which every peak is refined")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    seeds = list_seeds(options.seed, options.videos)
    make_videos(options.folder / "videos", options.split, seeds, options.join)
    library = Library(options.folder / "library", model="demo")
    with show_progress("Encoding", "videos") as progress:
        library.add(options.folder / "videos", jobs=options.jobs, progress=progress)
    truths = find_everywhere(draw_queries(options.split, seeds, options.queries), options.split, seeds, options.jobs)
    truths = join_truths(truths, options.split, seeds, options.join)
    ask, some = ask_library(library, searching.BLOCK), truths[: options.everywhere]
    ways = [("the library", ask, truths), ("chunks of 30 s", ask_chunks(library), truths)]
    if options.join > 1:
        ways.append(("grid windows that overlap by half", ask_grid(library, GridFinder), truths))
        ways.append(("grid windows side by side", ask_grid(library, SparseGridFinder), truths))
    if some:
        ways.append((f"the library, {len(some)} queries", ask, some))
        ways.append((f"every peak, {len(some)} queries", ask_library(library, 100_000), some))
    rows = [list(measure(ask, truths, title)) for title, ask, truths in ways]
    info = library.info()
    print(f"{info.videos} videos, {info.seconds / 3600:.1f} h, {len(truths)} queries; CPU seconds per query")
    print(to_markdown(["", *SHOWN, "s"], rows))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
