import json
from dataclasses import replace

import numpy as np
import pytest
from support.groundings import make_grounding

from r2tuning.errors import OutputError
from r2tuning.output.text.json import to_json, to_jsonl, to_object
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
