"""The notebooks of ``examples/`` run in a fresh kernel, find what is true, and are committed as they run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode
from support.notebooks import EXAMPLES, clean, execute, list_code, list_pictures, read, read_text
from test_docs import check_options, commands_in_sentences

from r2tuning.synthetic import describe, make_video

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
NUMBER = r"\d+(?:\.\d+)?"


@pytest.fixture(autouse=True)
def untouched() -> Any:
    """Notebooks write nothing beside themselves."""
    before = {path: path.stat().st_mtime_ns for path in EXAMPLES.iterdir()}
    yield
    assert {path: path.stat().st_mtime_ns for path in EXAMPLES.iterdir()} == before


def run(name: str, place: Path, ask: str) -> tuple[NotebookNode, Any]:
    """Executes a notebook, which must leave no file, and returns it and the value of the expression."""
    notebook, value = execute(EXAMPLES / f"{name}.ipynb", place, ask)
    assert list((place / "temporary").iterdir()) == []
    assert [output for cell in list_code(notebook) for output in cell.outputs if output.get("name") == "stderr"] == []
    return notebook, value


def overlap(found: list[float], true: list[float]) -> float:
    """Intersection over union of two moments."""
    shared = max(0.0, min(found[1], true[1]) - max(found[0], true[0]))
    return shared / (max(found[1], true[1]) - min(found[0], true[0]))


def compare(name: str, notebook: NotebookNode, *, numbers: bool) -> None:
    """The committed outputs are those of this execution: words, kinds of pictures, and numbers where they are stable.

    Processors round differently, which moves a time by up to a tenth of a second.
    """
    committed = list_code(read(EXAMPLES / f"{name}.ipynb"))
    for old, new in zip(committed, list_code(notebook), strict=True):
        assert list_pictures(old) == list_pictures(new)
        told, found = read_text(old), read_text(new)
        assert re.sub(r"[\s\d]+", " ", told) == re.sub(r"[\s\d]+", " ", found)
        if numbers:
            values = [[float(number) for number in re.findall(NUMBER, text)] for text in (told, found)]
            assert values[1] == pytest.approx(values[0], abs=0.15), new.source


def test_ask(tmp_path: Path) -> None:
    notebook, value = run(
        "ask",
        tmp_path,
        "[[best.start, best.end], float(iou), answer.present, absent.present, absent.notes[0].kind]",
    )
    moment, iou, present, absent_present, note = value
    entries = map(json.loads, (EXAMPLES / "sample.jsonl").read_text(encoding="utf-8").splitlines())
    (true,) = next(entry["relevant_windows"] for entry in entries if entry["query"] == "a red ring climbing")
    assert overlap(moment, true) >= 0.7
    assert iou == pytest.approx(overlap(moment, true), abs=1e-6)
    assert (present, absent_present, note) == (True, False, "absent")
    compare("ask", notebook, numbers=True)


def test_library(tmp_path: Path) -> None:
    notebook, value = run(
        "library",
        tmp_path,
        "[[[Path(h.video).stem, h.moment.start, h.moment.end] for h in found] for found in (hits, pink)]"
        " + [hits.present, absent.present, len(like), len(answers), added.indexed.videos, again.indexed.videos]",
    )
    hits, pink, present, absent_present, *counts = value
    assert (present, absent_present) == (True, False)
    assert counts == [2, 1, 4, 0]
    assert (len(hits), len(pink)) == (3, 4)
    for found, seed, query in (
        (hits, 9000001, "a black ring jumping up and down in a cloudy sky"),
        (pink, 9000002, "A little pink heart sinks."),
    ):
        script = make_video(seed, "test")
        (true,) = (entry.moments for entry in describe(script) if entry.query == query)
        assert {video for video, *_ in found} == {script.vid}
        for moment in true:
            assert max(overlap(hit[1:], list(moment)) for hit in found[:2]) >= 0.7
    compare("library", notebook, numbers=True)


@pytest.mark.slow
def test_train(tmp_path: Path) -> None:
    notebook, value = run(
        "train",
        tmp_path,
        "[losses, *(scores[name]['MR-full-mAP'] for name in ('from nothing', 'from demo')), asked.moments,"
        " [[m.start, m.end] for m in answer.moments]]",
    )
    losses, from_nothing, from_demo, true, moments = value
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    assert 0 < from_nothing < 60 < from_demo <= 100
    assert max(overlap(moments[0], moment) for moment in true) >= 0.7
    compare("train", notebook, numbers=False)


@pytest.mark.slow
def test_ablation(tmp_path: Path) -> None:
    notebook, value = run(
        "ablation",
        tmp_path,
        "[[[r.cell.title, len(r.runs), r.spread['MR-full-mIoU'].mean] for r in done.results], len(done.failed)]",
    )
    rows, failed = value
    assert failed == 0
    assert [title for title, *_ in rows] == [
        f"model.layers={layers}, model.hidden={hidden}" for layers in (1, 2) for hidden in (32, 64)
    ]
    assert all(runs == 2 and 0 < mean < 100 for _, runs, mean in rows)
    narrow, wide = ([mean for title, _, mean in rows if title.endswith(hidden)] for hidden in ("32", "64"))
    assert max(narrow) < min(wide), "as the notebook says"
    compare("ablation", notebook, numbers=False)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_notebooks_are_executed_small_and_of_no_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    notebook = read(path)
    assert path.stat().st_size < 200_000
    assert not re.search(r'/tmp|/home|/work|/root|Users|"traceback"|Warning', re.sub(r'"image/png": ".*"', "", text))
    cells = list_code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert all(output.get("name") != "stderr" for cell in cells for output in cell.outputs)
    assert cells[-1].source == "folder.cleanup()"
    assert any(list_pictures(cell) for cell in cells)
    assert clean(read(path)) == notebook, "metadata of a run is left: python -m support.notebooks removes it"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_and_commands_of_notebooks_exist(path: Path) -> None:
    text = "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    assert [link for link in links if not (EXAMPLES / link).is_file()] == []
    commands = list(commands_in_sentences(text))
    assert commands
    for words in commands:
        check_options(words)
