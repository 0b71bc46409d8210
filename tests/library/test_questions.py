"""More like a moment, frames like a picture, and what must not be there."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import av
import pytest
import torch
from support.cli import refused, run

from r2tuning import Grounder, Library
from r2tuning.cli.search import _read_moment
from r2tuning.datasets.annotations import Annotation
from r2tuning.errors import LibraryError, QueryError, VideoError
from r2tuning.library.segments import SAME

Shapes = dict[Path, list[Annotation]]


def embed(grounder: Grounder, video: Path) -> torch.Tensor:
    """The vector of every frame, without a library."""
    encoded = grounder.encode(video)
    return grounder.backbone.embed_frames(encoded.read(0, encoded.frames).transpose(0, 1))


def test_more_like_a_moment_are_the_nearest_other_frames(filled: Library, shapes: Shapes, grounder: Grounder) -> None:
    """Frames 10 to 14 of the first video, against a comparison of all frames."""
    video = next(iter(shapes))
    hits = filled.search(like=(video, 20, 30), top=100)
    vectors = {str(path): embed(grounder, path) for path in shapes}
    mean = torch.nn.functional.normalize(vectors[str(video)][10:15].mean(dim=0), dim=0)
    cosines = {path: (values @ mean).numpy() for path, values in vectors.items()}
    assert not [hit for hit in hits if hit.video == str(video) and hit.moment.start < 30 and hit.moment.end > 20]
    assert not any(hit.refined for hit in hits)
    assert {hit.video for hit in hits} == set(vectors)
    for path in set(vectors) - {str(video)}:
        best = max((hit for hit in hits if hit.video == path), key=lambda hit: hit.score)
        # Rows are thinned, and the mean is of frames like those that were kept.
        assert best.cosine == pytest.approx(cosines[path].max(), abs=1 - SAME)
        inside = cosines[path][
            int(best.moment.start / 2) : max(int(best.moment.start / 2) + 1, int(best.moment.end / 2))
        ]
        assert inside.max() == pytest.approx(cosines[path].max(), abs=1 - SAME)


def test_a_frame_is_found_by_its_picture(filled: Library, shapes: Shapes, tmp_path: Path) -> None:
    video = list(shapes)[1]
    with av.open(str(video)) as container:
        frame = next(frame for number, frame in enumerate(container.decode(video=0)) if number == 40)
        frame.to_image().save(tmp_path / "frame.png")
    (best,) = filled.search(image=tmp_path / "frame.png", top=1)
    assert best.video == str(video)
    assert best.cosine > SAME
    assert best.moment.start <= 40 <= best.moment.end
    assert filled.search(image=tmp_path / "frame.png").query == "like frame.png"


def test_what_must_not_be_there_lowers_the_score(filled: Library, shapes: Shapes) -> None:
    """A sentence without itself has probability p (1 - p); one without something else only loses."""
    query = next(iter(shapes.values()))[0].query
    plain = {(hit.number, hit.moment.start): hit.score for hit in filled.search(query, top=100)}
    against_itself = filled.search(query, without=[query], top=100)
    for hit in against_itself:
        before = plain[hit.number, hit.moment.start]
        assert hit.score == pytest.approx(before * (1 - before), abs=0.02)
    other = filled.search(query, without=["a black star", "the sky"], top=100)
    assert other.query == f"{query} (without: a black star) (without: the sky)"
    for hit in other:
        assert hit.score <= plain[hit.number, hit.moment.start] + 1e-6
    assert [hit.score for hit in other] == sorted((hit.score for hit in other), reverse=True)


def test_impossible_questions_are_refused(filled: Library, shapes: Shapes, tmp_path: Path) -> None:
    video = next(iter(shapes))
    for question in ({}, {"query": "a", "image": "b.png"}, {"image": "b.png", "without": ["a"]}):
        with pytest.raises(ValueError, match="give one of query, like and image"):
            filled.search(**question)
    with pytest.raises(LibraryError, match="has no moment from 500 to 600 seconds; it lasts from 0 to"):
        filled.search(like=(video, 500, 600))
    with pytest.raises(LibraryError, match="is not in the library"):
        filled.search(like=(tmp_path / "other.mp4", 0, 1))
    (tmp_path / "text.png").write_text("no picture")
    for name in ("text.png", "gone.png", ""):
        with pytest.raises(VideoError, match="name a picture"):
            filled.search(image=tmp_path / name)
    with pytest.raises(QueryError):
        filled.search("a dog", without=[" "])


def test_moments_are_read_as_a_clock_shows_them(filled: Library, shapes: Shapes) -> None:
    assert _read_moment("/a@b/c.mp4@1:00:05.5-3606") == ("/a@b/c.mp4", 3605.5, 3606)
    video = next(iter(shapes))
    result = run("library", "search", "--like", f"{video}@0:20-0:30", "--library", filled.folder, "-n", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(f"Query: like {video.name} from 20 to 30 s\n")
    assert "Times are those of similar frames" in result.stdout
    for wrong in (video, f"{video}@5-2", f"{video}@a-b", "@1-2", f"{video}@1-2-3", f"{video}@-1-2", f"{video}@inf-nan"):
        refused(run("library", "search", "--like", wrong, "--library", filled.folder), 2, "--like", "0:12-0:18")
    refused(run("library", "search", "--library", filled.folder), 2, "say what to look for")
    refused(run("library", "search", "--without", "a", "--image", "a.png"), 2, "--without")
    refused(run("library", "search", "a", "b", "--after", "1-2-3"), 2, "one query at a time")


def test_several_queries_are_asked_in_turn(filled: Library) -> None:
    queries = ["a red circle", "something blue"]
    result = run("library", "search", *queries, "--library", filled.folder, "-n", "2", "--json", "-")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [found["query"] for found in content["searches"]] == queries
    for query, found in zip(queries, content["searches"], strict=True):
        alone = run("library", "search", query, "--library", filled.folder, "-n", "2", "--json", "-")
        assert json.loads(alone.stdout) == found


def test_vectors_alone_cannot_tell_what_is_not_there(shapes: Shapes, tmp_path: Path) -> None:
    library = Library(tmp_path / "library", model="demo", keep="vectors")
    library.add(next(iter(shapes)))
    with pytest.raises(LibraryError, match="keeps vectors only"):
        library.search("a red circle", without=["a star"])


def test_a_watched_folder_is_added_to(shapes: Shapes, tmp_path: Path) -> None:
    """A file appears while the command watches; Ctrl-C ends it."""
    first, second, _ = shapes
    (tmp_path / "videos").mkdir()
    shutil.copy(first, tmp_path / "videos")
    command = [
        sys.executable,
        "-m",
        "r2tuning",
        "library",
        "add",
        str(tmp_path / "videos"),
        "--watch",
        "--model",
        "demo",
    ]
    command += ["--library", str(tmp_path / "library")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        shutil.copy(second, tmp_path / "videos" / "part")
        (tmp_path / "videos" / "part").rename(tmp_path / "videos" / second.name)
        again = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate()
    assert "1 video encoded" in line
    assert "1 video encoded" in again
    assert "1 new, 1 unchanged" in again
    assert (process.returncode, rest) == (130, "")
    assert said.splitlines()[-1].startswith("stopped; what is complete is in ")
    assert len(Library(tmp_path / "library").list()) == 2
