"""The document has a section for every result; sections without results stay unchanged."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.moving_shapes.options import COLUMNS
from projects.moving_shapes.ranking import SHOWN
from projects.moving_shapes.report import (
    SplitFacts,
    draw_refinement,
    main,
    read_table,
    replace_section,
    tabulate_kinds,
    tabulate_splits,
)
from r2tuning.errors import DataError
from r2tuning.synthetic import describe, describe_absent, make_video
from r2tuning.synthetic.queries import choose_queries, to_line
from r2tuning.synthetic.scenes import SPLITS

ROOT = Path(__file__).resolve().parents[2]
METRICS = {"MR-full-R1@0.5": 61.25, "MR-full-mAP": 40.5, "HL-min-VeryGood-Hit1": 70.0, "MR-full-R5@0.5": 80.0}


def save_table(path: Path, cells: list[tuple[dict[str, str], float]], left: int = 0) -> Path:
    rows = [
        {"settings": settings, "metrics": {"MR-full-mAP": {"mean": mean, "deviation": 0.5}}} for settings, mean in cells
    ]
    path.write_text(json.dumps({"cells": rows, "failed": [], "left": left}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations of two videos of each split."""
    folder = tmp_path_factory.mktemp("shapes")
    for split in SPLITS:
        scripts = [make_video(seed, split) for seed in range(2)]
        for mark, about in (("", describe), ("_absent", describe_absent)):
            lines = [to_line(annotation) for script in scripts for annotation in about(script)]
            (folder / f"{split}{mark}.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "moving-shapes.md", tmp_path / "docs")
    return tmp_path / "docs"


def section(docs: Path, name: str) -> str:
    text = (docs / "moving-shapes.md").read_text(encoding="utf-8")
    return text.partition(f"<!-- numbers: {name} -->\n")[2].partition(f"\n<!-- end: {name} -->")[0]


def test_statistics_are_those_of_the_files(folder: Path, docs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = section(docs, "refinement")
    main([str(folder), "--docs", str(docs)])
    table = section(docs, "statistics")
    rows = {cells[1].strip(): cells[2:5] for line in table.splitlines() if len(cells := line.split("|")) == 6}
    known = {split: [a for seed in range(2) for a in describe(make_video(seed, split))] for split in SPLITS}
    assert [cell.strip() for cell in rows["videos"]] == ["2", "2", "2"]
    assert [int(cell) for cell in rows["queries"]] == [len(known[split]) for split in SPLITS]
    spent = [sum({a.vid: a.duration for a in known[split]}.values()) / 3600 for split in SPLITS]
    np.testing.assert_allclose([float(cell) for cell in rows["hours of video"]], spent, atol=0.051)
    assert rows["queries that name an unseen combination"][1].strip() == "0 %"
    assert int(rows["queries that name an unseen combination"][2].split()[0]) > 0
    kinds = [int(cells[2].split()[0]) for title, cells in rows.items() if title.startswith("queries about")]
    assert sum(kinds) == pytest.approx(100, abs=4)  # seven rounded shares
    assert "![" in table
    with Image.open(docs / "images" / "moving-shapes-statistics.png") as picture:
        assert picture.size == (1000, 660)
    # Nothing else was measured.
    assert section(docs, "refinement") == before
    assert "unchanged without refinement.json" in capsys.readouterr().err


def test_every_result_has_its_place(
    folder: Path, docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bins = [{"words": "1-10", "queries": 9, "mAP": 44.0}, {"words": "41+", "queries": 0, "mAP": None}]
    better = {name: value + 5 for name, value in METRICS.items()}
    group = {"by": "kind", "group": "place", "queries": 4, "r1_50": 75.0, "r1_70": 50.0, "mean_ap": 62.5}
    for name, content in {
        "test": {"metrics": better, "bins": bins},
        "zero-shot": {"metrics": METRICS},
        "kinds-val": {"groups": [group]},
        "kinds-test": {"groups": [group | {"r1_50": 25.0}]},
        "scores": {
            "presence": {"present": 20, "absent": 7},
            "separation": [
                {"absent": "one thing differs", "queries": 7, "auroc": {"best moment": 0.8125, "top saliency": 0.5}}
            ],
        },
        "options": {"baseline": [dict.fromkeys(COLUMNS, 62.5), dict.fromkeys(COLUMNS, 64.5)]},
        "ranking": {"score": {"weights": [1, 0, 0, 0], **dict.fromkeys(SHOWN, 12.5)}},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    ways = [(way, str(k)) for way in ("reversed", "forward", "mean", "single") for k in (2, 3)]
    cells = [({"model.refinement": way, "model.layers": k}, 30.0 + int(k)) for way, k in (("reversed", "1"), *ways)]
    save_table(tmp_path / "refinement.json", cells)
    losses = [
        ({"losses.video_calibration": video, "losses.layer_calibration": layer}, 40.0)
        for video, layer in (("0", "0"), ("0.1", "0"), ("0", "0.1"), ("0.1", "0.1"))
    ]
    save_table(tmp_path / "calibration.json", losses)
    main([str(folder), str(tmp_path), "--docs", str(docs)])
    assert capsys.readouterr().err == ""
    text = (docs / "moving-shapes.md").read_text(encoding="utf-8")
    assert "Not measured yet" not in text
    assert "| CLIP, zero-shot | 61.25 | 40.50 | 70.00 |" in section(docs, "results")
    assert "| R²-Tuning | 66.25 | 45.50 | 75.00 |" in section(docs, "results")
    assert "| place | 4 | 75.00 | 62.50 | 4 | 25.00 | 62.50 |" in section(docs, "kinds")
    assert "| one thing differs | 7 | 0.812 | 0.500 |" in section(docs, "absent")
    assert "| score | 12.5 | " in section(docs, "ranking")
    assert "| baseline | 63.5 ± 1.4 | " in section(docs, "options")
    assert "| forward | 3 | 33.00 ± 0.50 |" in section(docs, "refinement")
    assert section(docs, "calibration").count("40.00 ± 0.50") == 4
    charts = {path.name for path in (docs / "images").iterdir()}
    assert charts == {f"moving-shapes-{n}.png" for n in ("statistics", "lengths", "refinement", "calibration")}
    main([str(folder), str(tmp_path), "--docs", str(docs)])  # again: the same
    assert (docs / "moving-shapes.md").read_text(encoding="utf-8") == text


def test_a_kind_that_a_split_lacks_is_a_dash() -> None:
    group = {"by": "kind", "group": "look", "queries": 4, "r1_50": 75.0, "r1_70": 50.0, "mean_ap": 62.5}
    assert "| look | - | - | - | 4 | 75.00 | 62.50 |" in tabulate_kinds([], [group])


def test_an_unfinished_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"refinement.json: 2 cells left, 0 failed; run r2tuning ablate again"):
        read_table(save_table(tmp_path / "refinement.json", [], left=2))


def test_a_document_without_the_section_is_refused() -> None:
    for text in ("nothing", "<!-- numbers: x --> open"):
        with pytest.raises(DataError, match="has no section <!-- numbers: x -->"):
            replace_section(text, "x", "new")


def test_ratings_and_moments_are_counted() -> None:
    script = make_video(4, "test")
    facts = SplitFacts("test", describe(script), 0, [query.meaning for query in choose_queries(script)])
    assert facts.durations == [script.duration]
    assert set(facts.ratings) <= {1, 2, 3, 4}
    assert len(facts.ratings) == sum(int((a.saliency > 0).sum()) for a in facts.annotations if a.saliency is not None)
    assert len(facts.lengths) >= len(facts.covered) == len(facts.words)
    assert max(facts.covered) <= 60
    assert tabulate_splits([facts]).count("\n") > 15


def test_lines_are_drawn_in_four_colors(tmp_path: Path) -> None:
    cells = [({"model.refinement": "reversed", "model.layers": "1"}, 20.0)]
    cells += [({"model.refinement": w, "model.layers": "2"}, 25.0) for w in ("reversed", "forward", "mean", "single")]
    draw_refinement(read_table(save_table(tmp_path / "table.json", cells)), tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as chart:
        colors = {color for _, color in chart.convert("RGB").getcolors(100_000) or ()}
    assert {(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)} <= colors
