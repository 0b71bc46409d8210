"""JSON as it is written, and answers that come back from it as they were."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.groundings import make_grounding

from r2tuning.errors import DataError, OutputError
from r2tuning.output.text.json import read_answers, to_json, to_jsonl, to_object
from r2tuning.results import Summary
from r2tuning.types import Moment, Saliency


def read_strictly(text: str) -> list[dict[str, object]]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_schema_is_this() -> None:
    result = make_grounding(
        [0.1, -0.25], ((1 / 3, 2 / 3, 0.12345678),), duration=4.0, start=1.5, query_truncated=True, windows=2
    )
    (read,) = read_strictly(to_json([result]))
    # as pairs: the order of the keys is part of the schema
    assert list(read.items()) == [
        ("query", "a red circle falls"),
        ("video", "trip.mp4"),
        ("duration", 4.0),
        ("start", 1.5),
        ("model", "demo"),
        ("sampling", "exact"),
        ("video_truncated", False),
        ("query_truncated", True),
        ("windows", 2),
        ("calibrated", False),
        ("presence", None),
        ("presence_threshold", None),
        ("present", None),
        ("domain_warning", ""),
        ("query_warning", ""),
        ("threshold", None),
        ("best_score", None),
        ("identity", ""),
        ("notes", [{"kind": note.kind, "text": note.text} for note in result.notes]),
        ("moments", [{"start": 0.333, "end": 0.667, "score": 0.123457}]),
        ("saliency", {"times": [2.5, 4.5], "scores": [0.1, -0.25]}),
    ]


def test_numpy_scalars_become_numbers() -> None:
    moment = Moment(np.float32(1.1), np.float64(2.0), np.float32(0.7))
    result = replace(make_grounding(), moments=[moment], windows=np.int64(3), video_truncated=np.bool_(True))
    (read,) = json.loads(to_json([result]))
    assert read["moments"] == [{"start": 1.1, "end": 2.0, "score": 0.7}]
    assert read["windows"] == 3
    assert read["video_truncated"] is True


def test_presence_is_a_number_and_a_verdict() -> None:
    low = make_grounding(calibrated=True, presence=np.float64(0.1234567), presence_threshold=0.4)
    for result, present in ((low, False), (replace(low, presence=0.4), True)):
        (read,) = read_strictly(to_json([result]))
        assert (read["calibrated"], read["presence_threshold"], read["present"]) == (True, 0.4, present)
    assert json.loads(to_json([low]))[0]["presence"] == 0.123457


def test_no_negative_zeros() -> None:
    assert "-0.0" not in to_json([make_grounding([-1e-9], ((0.0, -0.0, 0.5),))])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_numbers_that_json_lacks_are_an_error(bad: float) -> None:
    curve = Saliency(np.array([0.5]), np.array([bad], np.float32))
    for result in (replace(make_grounding(), saliency=curve), replace(make_grounding(), moments=[Moment(0, 1, bad)])):
        with pytest.raises(OutputError, match="NaN or infinity") as caught:
            to_json([result])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a b.mp4", '"it\'s".mp4', "🎬 切.mp4", "a\nb\\c.mp4", "caf\udce9.mp4"])
def test_any_name_survives_and_fits_utf8(name: str) -> None:
    results = [make_grounding(video=name), make_grounding(query=name)]
    first, second = json.loads(to_json(results).encode("utf-8"))
    assert first["video"] == second["query"] == name
    assert [json.loads(line) for line in to_jsonl(results).encode().splitlines()] == [first, second]


def test_queries_stay_readable() -> None:
    assert "切蔬菜" in to_json([make_grounding(query="切蔬菜")])


def test_a_summary_is_its_answer_and_the_shots() -> None:
    answer = make_grounding(query="")
    summary = Summary(answer, 10, [Moment(1 / 3, 4.0, 0.12345678)])
    read = json.loads(to_object([summary]))
    (plain,) = json.loads(to_json([answer]))
    assert read == plain | {
        "budget": 10.0,
        "length": 3.667,
        "shots": [{"start": 0.333, "end": 4.0, "score": 0.123457}],
    }
    with pytest.raises(OutputError, match="NaN or infinity"):
        to_object([Summary(answer, float("nan"), [])])


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
