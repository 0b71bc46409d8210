"""A library as Parquet: a row for each video or vector, whatever place it is in."""

from pathlib import Path

import numpy as np
import pytest
from support.cli import refused, run

from r2tuning import Library
from r2tuning.errors import LibraryError
from r2tuning.library.export import export_library

parquet = pytest.importorskip("pyarrow.parquet")


def test_videos_and_vectors_are_rows(filled: Library, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    done = run("library", "export", out, "--library", filled.folder)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", f"Wrote {out}: 3 rows\n")
    rows = parquet.read_table(out).to_pylist()
    listed = {one.video.id: one for one in filled.list() if one.video is not None}
    assert {row["video"]: row["path"] for row in rows} == {number: one.file.path for number, one in listed.items()}
    for row in rows:
        video = listed[row["video"]].video
        assert video is not None
        assert (row["duration"], row["frames"], row["identity"]) == (video.duration, video.frames, video.identity)
        assert (row["copies"], row["truncated"], row["model"]) == ([], False, "demo")

    refused(run("library", "export", out, "--library", filled.folder), 1, "exists", "--force")
    done = run("library", "export", out, "--library", filled.folder, "--rows", "vectors", "--force")
    assert done.exit_code == 0, done.output
    table = parquet.read_table(out)
    assert table.num_rows == filled.info().rows
    for number, one in listed.items():
        assert one.video is not None
        own = table.filter(np.asarray(table["video"]) == number)
        frames = own["frame"].to_numpy()
        assert (frames[0], (np.diff(frames) > 0).all(), frames[-1] < one.video.frames) == (0, True, True)
        assert own["time"].to_numpy() == pytest.approx((frames + 0.5) / one.video.fps + one.video.start)
        lengths = np.linalg.norm(np.array(own["vector"].to_pylist(), dtype=np.float32), axis=1)
        assert lengths == pytest.approx(1, abs=2e-3)


def test_what_cannot_be_exported_is_refused(filled: Library, tmp_path: Path) -> None:
    refused(run("library", "export", tmp_path / "a.csv", "--library", filled.folder), 2, "must end with .parquet")
    refused(run("library", "export", tmp_path / "a.parquet", "--library", tmp_path / "no"), 1, "has no library")
    with pytest.raises(LibraryError, match="there is no folder"):
        export_library(filled, tmp_path / "no" / "a.parquet")
    assert list(tmp_path.iterdir()) == []
