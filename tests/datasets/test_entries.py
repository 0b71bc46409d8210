from pathlib import Path

import pytest

from r2tuning.datasets.entries import read_csv, read_json
from r2tuning.errors import DataError


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_keep_their_numbers_across_mark_blank_lines_and_carriage_returns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '\ufeff\n{"a": 1}\r\n  \n{"a": 2}')
    assert [(e.place, e.values, e.key) for e in read_json(path)] == [
        (f"{path}:2", {"a": 1}, None),
        (f"{path}:4", {"a": 2}, None),
    ]


def test_line_separators_inside_a_string_do_not_end_a_line(tmp_path: Path) -> None:
    text = "a\u2028b\u0085c\x0bd"
    path = write(tmp_path / "a.jsonl", '{"a": "' + text.replace("\x0b", "\\u000b") + '"}\n')
    assert [e.values["a"] for e in read_json(path)] == [text]


def test_json_is_objects_by_name_or_an_array(tmp_path: Path) -> None:
    by_name = write(tmp_path / "a.json", '{"v1": {"a": 1},\n "v2": {}}')
    assert [(e.place, e.values, e.key) for e in read_json(by_name)] == [
        (f"{by_name}:v1", {"a": 1}, "v1"),
        (f"{by_name}:v2", {}, "v2"),
    ]
    array = write(tmp_path / "b.json", '[{"a": 1}]')
    assert [(e.place, e.values, e.key) for e in read_json(array)] == [(f"{array}:[0]", {"a": 1}, None)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": 1', "a.jsonl:2: not JSON: Expecting ',' delimiter"),
        ("a.jsonl", '{"a": 1}\n[1, 2]', "a.jsonl:2: holds a list; give an object"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1: not JSON: "),
        ("a.jsonl", b'{"a": 1}\n{"a": "caf\xe9"}', "a.jsonl:2: not UTF-8: byte 0xe9 at position 10; save"),
        ("a.jsonl", '{"a": 1}'.encode("utf-16"), "a.jsonl:1: not UTF-8: byte 0xff at position 0"),
        ("a.jsonl", "", "a.jsonl: has no annotations"),
        ("a.jsonl", "\n\n", "a.jsonl: has no annotations"),
        ("a.json", "{}", "a.json: has no annotations"),
        ("a.json", "3", "a.json: holds 3; give an object or an array of objects"),
        ("a.json", '{"v1": [1]}', "a.json:v1: holds a list; give an object"),
        ("a.json", '{\n\n"v1" 3}', "a.json: not JSON: Expecting ':' delimiter: line 3 column 6"),
        ("a.txt", '{"a": 1}', "a.txt: the ending '.txt' is unknown; give a .jsonl or .json file"),
    ],
)
def test_json_refusals(tmp_path: Path, name: str, content: bytes | str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_json(write(tmp_path / name, content))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read: No such file"):
        read_json(tmp_path / "none.jsonl")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match=r"folder\.csv: cannot be read: Is a directory"):
        read_csv(tmp_path / "folder.csv")


def test_csv_takes_quotes_and_values_of_several_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", '\ufeffa, b\r\n\r\n1,"x, ""y""\r\nz"\r\n,\r\n2,w\r\n')
    assert [(e.place, e.values) for e in read_csv(path)] == [
        (f"{path}:3", {"a": "1", "b": 'x, "y"\nz'}),
        (f"{path}:6", {"a": "2", "b": "w"}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n1,2,3\n", "a.csv:3: 3 values for 2 columns (a, b); put text with ',' in quotes"),
        ("a,b\n1\n", "a.csv:2: 1 values for 2 columns"),
        ('a,b\n1,"2\n', "a.csv:2: not CSV: unexpected end of data"),
        ("a,b\n", "a.csv: has no annotations"),
        (b"a,b\n1,\xff\n", "a.csv:2: not UTF-8: byte 0xff at position 2"),
    ],
)
def test_csv_refusals(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_csv(write(tmp_path / "a.csv", content))
    assert message in str(caught.value)
