"""Moving Shapes is read as it is written, and its files have their places."""

from pathlib import Path

import numpy as np
import pytest

from r2tuning.datasets import find_benchmark, load_annotations
from r2tuning.datasets.download import dataset_folder
from r2tuning.errors import DataError
from r2tuning.evaluation.splits import DataConfig, read_annotations
from r2tuning.synthetic import describe, describe_absent, make_video
from r2tuning.synthetic.queries import to_line
from r2tuning.synthetic.scenes import SPLITS
from r2tuning.training.recipes import load_recipe

BENCHMARK = find_benchmark("moving-shapes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Annotations of a video of each split."""
    for split in SPLITS:
        lines = map(to_line, describe(make_video(1, split)))
        (tmp_path / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return tmp_path


def test_what_is_read_is_what_was_known(folder: Path) -> None:
    made = describe(make_video(1, "test"))
    read = load_annotations(BENCHMARK.find_file(folder, "test"), BENCHMARK, split="test")
    assert [(a.qid, a.vid, a.query, a.duration, a.moments) for a in read] == [
        (a.qid, a.vid, a.query, a.duration, a.moments) for a in made
    ]
    for one, other in zip(read, made, strict=True):
        np.testing.assert_array_equal(one.saliency, other.saliency)


def test_queries_that_are_true_of_no_moment_are_labelled_too(tmp_path: Path) -> None:
    path = tmp_path / "test_absent.jsonl"
    path.write_text("".join(map(to_line, describe_absent(make_video(1, "test")))), encoding="utf-8")
    for annotation in load_annotations(path, BENCHMARK):
        assert annotation.moments == ()
        assert annotation.saliency is not None
        assert not annotation.saliency.any()


def test_a_frame_more_or_less_than_clips_is_an_error(folder: Path) -> None:
    annotation = load_annotations(folder / "val.jsonl", BENCHMARK)[0]
    assert annotation.clips is not None
    assert BENCHMARK.frame_rate(annotation) == 0.5
    target = BENCHMARK.saliency_target(annotation, annotation.clips, 0.5)
    assert target.shape == (annotation.clips,)
    assert annotation.saliency is not None
    very_good = [max(ratings) == 4 for ratings in annotation.saliency]
    assert target.tolist() == very_good
    assert BENCHMARK.positive_frames(annotation, target).tolist() == very_good
    assert 0 < sum(very_good) < np.count_nonzero(annotation.saliency.any(axis=1))
    with pytest.raises(DataError, match="val-0000001"):
        BENCHMARK.saliency_target(annotation, annotation.clips - 1, 0.5)


def test_the_recipe_trains_on_train_and_validates_on_val(folder: Path) -> None:
    data = load_recipe("moving-shapes", [f"data.annotations={folder}"]).data
    assert data.find_rules(fps=1) is BENCHMARK
    training, validation = (read_annotations(data, split) for split in (data.train_split, str(data.validation_split)))
    assert {a.vid for a in training} == {"train-0000001"}
    assert {a.vid for a in validation} == {"val-0000001"}


def test_features_lie_beside_the_videos_not_among_them(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = DataConfig(benchmark="moving-shapes")
    assert shapes.model_copy(update={"annotations": folder}).feature_folder == folder / "features"
    assert shapes.model_copy(update={"features": Path("elsewhere")}).feature_folder == Path("elsewhere")
    monkeypatch.setenv("R2TUNING_CACHE", str(folder))
    assert shapes.feature_folder == dataset_folder(BENCHMARK) / "features"
    # The authors' features are downloaded into the annotations' folder.
    assert DataConfig(benchmark="tacos", annotations=folder).feature_folder == folder
