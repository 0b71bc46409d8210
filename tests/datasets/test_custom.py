import csv
import json
import posixpath
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.files import shared_file

from r2tuning.datasets import Annotation, load_custom
from r2tuning.errors import DataError

HEADER = ("video", "start", "end", "query")
Row = tuple[str, float, float, str]

# Words, quotes, commas, line ends of all kinds and other alphabets; a lone surrogate is no text, \0 no CSV.
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=12)
texts = words.map(str.strip).filter(bool)
spans = st.tuples(st.floats(0, 1000), st.floats(0.001, 1000)).map(lambda pair: (pair[0], pair[0] + pair[1]))
rows = st.lists(st.builds(lambda v, s, q: (v, *s, q), texts, spans, texts), min_size=1, max_size=8)


def write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([HEADER, *rows])


def write_jsonl(path: Path, rows: list[Row]) -> None:
    lines = [json.dumps(dict(zip(HEADER, row, strict=True)), ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines), encoding="utf-8", newline="\n")


def facts(annotations: list[Annotation]) -> list[tuple[object, ...]]:
    return [(a.qid, a.vid, a.query, a.duration, a.moments, a.clips, a.domain) for a in annotations]


@given(rows)
@settings(max_examples=60)
def test_what_is_written_is_read_from_both_formats(rows: list[Row]) -> None:
    expected: dict[tuple[str, str], set[tuple[float, float]]] = {}
    for video, start, end, query in rows:
        name = posixpath.normpath(unicodedata.normalize("NFC", video))
        expected.setdefault((name, query), set()).add((start, end))
    with TemporaryDirectory() as folder:
        write_csv(Path(folder) / "a.csv", rows)
        write_jsonl(Path(folder) / "a.jsonl", rows)
        from_csv = load_custom(Path(folder) / "a.csv")
        assert facts(from_csv) == facts(load_custom(Path(folder) / "a.jsonl"))
    assert [(a.qid, a.vid, a.query) for a in from_csv] == [(i, *key) for i, key in enumerate(expected)]
    assert [set(a.moments) for a in from_csv] == list(expected.values())
    assert all(list(a.moments) == sorted(a.moments) for a in from_csv)


def test_rows_of_one_query_on_one_video_are_its_moments(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "note,video,start,end,query\n,trip.mp4,8,9,a dog\n,beach.mp4,0,1,a dog\nlater, trip.mp4 ,1.5,4, a dog\n",
        encoding="utf-8",
    )
    assert facts(load_custom(path)) == [
        (0, "trip.mp4", "a dog", None, ((1.5, 4), (8, 9)), None, None),
        (1, "beach.mp4", "a dog", None, ((0, 1),), None, None),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.mp4,5,2,q", "end: 2 s is not after the start, 5 s; correct one"),
        ("a.mp4,5,5,q", "end: 5 s is not after the start, 5 s; correct one"),
        ("a.mp4,-1,5,q", "start: is '-1'; input should be greater than or equal to 0"),
        ("a.mp4,nan,5,q", "start: is 'nan'; input should be a finite number"),
        ("a.mp4,0:60,5,q", "start: is '0:60', which is no time; write seconds, m:ss.s or h:mm:ss.s"),
        ("a.mp4,0:7,9,q", "start: is '0:7', which is no time"),
        ("a.mp4,1:60:00,5,q", "start: is '1:60:00', which is no time"),
        ('a.mp4,"1,500",5,q', "start: is '1,500', which may be 1.500 or 1500; write one of them"),
        ("a.mp4,,5,q", "has one of start and end; give both, or neither if the video lacks the query"),
        ("a.mp4,1,5,", "query: is ''; write at least one character"),
        (",1,5,q", "video: is ''; write at least one character"),
    ],
)
def test_csv_rows_are_refused_by_line_and_column(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"video,start,end,query\nok.mp4,0,1,q\n{row}\n", encoding="utf-8")
    with pytest.raises(DataError) as caught:
        load_custom(path)
    assert str(caught.value).startswith(f"{path}:3: {message}")


@pytest.mark.parametrize(
    "text",
    [
        "video,start,end,query\nk.mp4,61.5,3662.25,a dog\n",
        "video;start;end;query\nk.mp4;61.5;3662.25;a dog\n",
        "video;start;end;query\r\nk.mp4;61,5;3662,250;a dog\r\n",  # as a spreadsheet of most of Europe saves it
        "video\tstart\tend\tquery\nk.mp4\t61,5\t3662.25\ta dog\n",
        'video,start,end,query\nk.mp4,"61,5","3662,25",a dog\n',
        "video,start,end,query\nk.mp4,1:01.5,1:01:02.25,a dog\n",
        "video;start;end;query\nk.mp4;01:01,5;01:01:02,25;a dog\n",
        "video,start,end,query\rk.mp4,61.5,3662.25,a dog\r",  # as old Excel for Mac saves it
    ],
)
def test_what_spreadsheets_save(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    (annotation,) = load_custom(path)
    assert (annotation.vid, annotation.query, annotation.moments) == ("k.mp4", "a dog", ((61.5, 3662.25),))
    assert annotation.places == (f"{path}:2",)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clock", (1.0, 2.5)),
        ("comma", (1.5, 2.5)),
        ("cr", (1.0, 2.0)),
        ("semi", (1.0, 2.0)),
        ("twice", "called 'query'"),
    ],
)
def test_the_files_of_users(name: str, expected: object) -> None:
    path = shared_file(f"bugs/18_{name}.csv")
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected):
            load_custom(path)
    else:
        (annotation,) = load_custom(path)
        assert annotation.moments == (expected,)


def test_misspelt_columns_and_text_for_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("video,star,end,query\na.mp4,0,1,q\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv:2: start: is missing; rename 'star'\?"):
        load_custom(path)
    path.write_text("video|start|end|query\na.mp4|0|1|q\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.csv:2: video: is missing; the keys are \['video|start|end|query'\]"):
        load_custom(path)
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"video": "a.mp4", "start": "0", "end": 1, "query": "q"}', encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl:1: start: is '0'; input should be a valid number"):
        load_custom(lines)


def test_rows_without_times_are_queries_that_the_video_lacks(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("video,start,end,query\na.mp4,1,4,a dog\na.mp4,,,a cat\nb.mp4, ,,a dog\n")
    rows = [("a.mp4", 1, 4, "a dog"), ("a.mp4", None, None, "a cat"), ("b.mp4", None, None, "a dog")]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(dict(zip(HEADER, row, strict=True))) for row in rows))
    for file in ("a.csv", "a.jsonl"):
        found = load_custom(tmp_path / file)
        assert [(a.vid, a.query, a.moments, a.absent, a.labelled) for a in found] == [
            ("a.mp4", "a dog", ((1, 4),), False, True),
            ("a.mp4", "a cat", (), True, True),
            ("b.mp4", "a dog", (), True, True),
        ]
    (tmp_path / "a.csv").write_text("video,start,end,query\na.mp4,1,4,a dog\n./a,,,a dog\n")
    with pytest.raises(
        DataError, match=r"a.csv:3: has no times, but .*a.csv:2 gives the query a moment in a.mp4; remove"
    ):
        load_custom(tmp_path / "a.csv")
