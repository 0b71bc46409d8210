"""Answers come back from JSON as they were written."""

import json
from pathlib import Path

import numpy as np
import pytest
from support.groundings import make_grounding

from r2tuning.errors import DataError, OutputError
from r2tuning.output.text.json import read_answers, to_json
from r2tuning.results import Summary
from r2tuning.types import Moment


def test_answers_come_back(tmp_path: Path) -> None:
    results = [
        make_grounding(query='🎬 "x" </script>\n\x00', video="caf\udce9.mp4", start=-0.5, sampling="fast", windows=3),
        make_grounding(
            [], (), video_truncated=True, query_truncated=True, calibrated=True, presence=0.25, domain_warning="odd"
        ),
    ]
    (tmp_path / "a.json").write_text(to_json(results), encoding="utf-8")
    found = read_answers(tmp_path / "a.json")
    assert [answer.to_dict() for answer in found] == [result.to_dict() for result in results]
    np.testing.assert_allclose(found[0].saliency.scores, results[0].saliency.scores)


def test_files_of_earlier_and_later_versions_are_read(tmp_path: Path) -> None:
    (answer,) = json.loads(to_json([make_grounding()]))
    for key in ("calibrated", "presence", "presence_threshold", "present", "domain_warning", "notes"):
        answer.pop(key, None)
    (tmp_path / "a.json").write_text(json.dumps([answer | {"colour": "red"}]), encoding="utf-8")
    assert read_answers(tmp_path / "a.json")[0].query == "a red circle falls"


WRONG = {
    "no JSON": ("[", "not JSON"),
    "an object": ("{}", "holds no list of answers"),
    "a number": ("3", "holds no list of answers"),
    "nothing": ("[]", "holds no list of answers"),
    "something else": ('[{"query": "a"}]', "not an answer"),
    "no objects": ("[3]", "not an answer"),
    "deep": ("[" * 100_000, "not JSON"),
    "uneven": (to_json([make_grounding()]).replace('"scores": [', '"scores": [0.5,'), "differ in number"),
}


@pytest.mark.parametrize(("text", "reason"), WRONG.values(), ids=WRONG)
def test_what_holds_no_answers_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=reason) as caught:
        read_answers(tmp_path / "a.json")
    assert "a.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_answers(tmp_path / "a.json")


def test_summaries_come_back() -> None:
    summary = Summary(make_grounding(query=""), 10.0, [Moment(1.0, 4.0, 0.5), Moment(6.0, 7.5, -0.25)])
    assert Summary.from_dict(json.loads(json.dumps(summary.to_dict()))).to_dict() == summary.to_dict()
    with pytest.raises(DataError, match="not a summary"):
        Summary.from_dict(make_grounding().to_dict())


def test_results_save_themselves(tmp_path: Path) -> None:
    answer = make_grounding()
    answer.save(tmp_path / "a.json")
    assert [found.to_dict() for found in read_answers(tmp_path / "a.json")] == [answer.to_dict()]
    with pytest.raises(OutputError, match="--force"):
        answer.save(tmp_path / "a.json")
    answer.save(tmp_path / "a.srt")
    assert (tmp_path / "a.srt").read_text().startswith("1\n00:00:02,000 --> ")
    Summary(answer, 10.0, [Moment(6.0, 7.0, 0.1), Moment(8.0, 9.0, 0.5)]).save(tmp_path / "a.csv")
    rows = (tmp_path / "a.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == ["8.000", "6.000"]  # best first, as of any answer
