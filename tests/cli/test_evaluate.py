"""``r2tuning evaluate`` and ``r2tuning score`` as a user runs them."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cli import refused, run
from support.golden import export_official
from support.small_benchmarks import charades_lines, make_model, save_charades, save_features, write_lines

from r2tuning.checkpoints import save_checkpoint
from r2tuning.evaluation.predict import evaluate_model
from r2tuning.evaluation.splits import DataConfig, open_split

WITHHELD = {"qid": 1, "vid": "a", "query": "a dog runs", "duration": 150}
LABELLED = WITHHELD | {
    "relevant_windows": [[20, 40]],
    "relevant_clip_ids": [10, 11],
    "saliency_scores": [[4, 4, 4]] * 2,
}


def save_model(folder: Path, family: str = "grounding", **settings: Any) -> Path:
    config, model = make_model(family, **settings)
    save_checkpoint(folder, model.state_dict(), config)
    return folder


def rows(shown: str) -> dict[str, list[str]]:
    """Rows of a table by their first cell."""
    return {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.startswith(" ") and line.split()}


@pytest.fixture(scope="module")
def charades(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_charades(tmp_path_factory.mktemp("charades"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "m", window=8)


@pytest.fixture
def qvhighlights(tmp_path: Path) -> Path:
    folder = tmp_path / "qv"
    write_lines(folder / "qvhighlights_val.jsonl", [LABELLED])
    write_lines(folder / "qvhighlights_test.jsonl", [WITHHELD])
    return save_features(folder, {"a": 75}, ["1"])


def test_a_table_beside_the_published_scores(charades: Path, model: Path) -> None:
    result = run("evaluate", "charades-sta", "--checkpoint", model, "--annotations", charades)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("small on charades-sta, test split, 12 queries\n")
    shown = rows(result.stdout)
    assert shown["metric"] == ["ours", "published", "difference"]
    from r2tuning.checkpoints import read_checkpoint

    config, network = read_checkpoint(model)
    data = DataConfig(benchmark="charades-sta", annotations=charades, features=charades)
    metrics = evaluate_model(network, config, open_split(data, fps=1))
    assert metrics["MR-full-R1@0.5"] != 60.48
    assert shown["MR-full-R1@0.5"] == [
        f"{metrics['MR-full-R1@0.5']:.2f}",
        "60.48",
        f"{metrics['MR-full-R1@0.5'] - 60.48:+.2f}",
    ]
    assert shown["MR-full-mAP"] == [f"{metrics['MR-full-mAP']:.2f}"]
    assert "MR-full-R5@0.95" not in shown

    printed = run("evaluate", "charades-sta", "-c", model, "--annotations", charades, "--json", "-", "--bins")
    content = json.loads(printed.stdout)
    assert content["metrics"] == metrics
    assert content["published"] == {"MR-full-R1@0.3": 70.91, "MR-full-R1@0.5": 60.48, "MR-full-R1@0.7": 38.66}
    assert [content[name] for name in ("recipe", "split", "model", "queries")] == ["charades-sta", "test", "small", 12]
    assert content["bins"][0] == {"words": "1-10", "queries": 12, "mAP": metrics["MR-full-mAP"]}


def save_constant(folder: Path) -> Path:
    """An authors' file whose point at p with stride s always answers [p - s, p + 2.9 s] at 1 fps, with score 0.5."""
    _, model = make_model()
    state = model.state_dict()
    for head, bias in (("class_head", [0.0]), ("offset_head", [0.0, math.log(2.9)])):
        state[f"{head}.2.weight"].zero_()
        state[f"{head}.2.bias"].copy_(torch.tensor(bias))
    state["level_scale"].fill_(1)
    folder.mkdir(exist_ok=True)
    torch.save({"meta": {}, "state_dict": export_official(state)}, folder / "mine.pth")
    return folder / "mine.pth"


def test_what_a_pth_does_not_say_is_taken_from_the_recipe(tmp_path: Path) -> None:
    """All scores tie, so the first answer is that of the first point: [0, 2.9] s, or [0, 2] in multiples of 2 s."""
    ends = [4.2, 2.0, 3.0, 5.0, 7.0]
    # IoU of [0, 2.9]: 0.69, 0.69, 0.97, 0.58, 0.41; of [0, 2]: 0.48, 1, 0.67, 0.4, 0.29.
    by_recipe, by_qvhighlights = 100 * 4 / 5, 100 * 2 / 5
    videos = {f"V{index}": 20 for index in range(len(ends))}
    lines = [
        {"qid": i, "vid": f"V{i}", "query": "a person sits", "duration": 20.0, "relevant_windows": [[0.0, end]]}
        for i, end in enumerate(ends)
    ]
    write_lines(tmp_path / "charades_test.jsonl", lines)
    save_features(tmp_path, videos, map(str, range(len(ends))))
    pth, answers = save_constant(tmp_path / "pth"), tmp_path / "answers.jsonl"
    arguments = ["charades-sta", "--annotations", tmp_path, "--json", "-", "--predictions", answers, "--force", "-c"]

    def score(checkpoint: Path) -> tuple[float, float, str]:
        """R1@0.5, the score of the moment of the second point, and stderr."""
        result = run("evaluate", *arguments, checkpoint)
        assert result.exit_code == 0, result.output
        first = json.loads(answers.read_text().splitlines()[0])["pred_relevant_windows"]
        second = [score for start, end, score in first if (start, end) in ((0.0, 3.9), (0.0, 4.0))]
        return json.loads(result.stdout)["metrics"]["MR-full-R1@0.5"], max(second), " ".join(result.stderr.split())

    found, second, said = score(pth)
    assert found == by_recipe
    assert 0 < second < 0.5 * (1 - 2.9 / 3.9) + 1e-6  # linear suppression; normal would leave 0
    assert "settings of the recipe charades-sta are assumed (1 frames per second, windows of 195 s, times in" in said
    assert "multiples of 0.1 s, NMS linear)" in said

    converted = run("convert", pth, tmp_path / "folder")
    assert converted.exit_code == 0, converted.output
    assert "fps, window, decoding and CLIP of qvhighlights" in " ".join(converted.stderr.split())
    found, _, said = score(tmp_path / "folder")
    assert found == by_recipe
    assert "were assumed to be those of qvhighlights, and are now those of the recipe charades-sta" in said

    config = tmp_path / "folder" / "config.json"
    content = json.loads(config.read_text())
    assert content["provenance"].pop("assumed") == "qvhighlights"
    config.write_text(json.dumps(content))
    found, second, said = score(tmp_path / "folder")  # what a folder says itself is not replaced
    assert (found, second) == (by_qvhighlights, 0.5)  # the second has IoU 0.5 with the first: normal leaves it alone
    assert "assumed" not in said


def test_other_splits_have_no_published_scores(charades: Path, model: Path) -> None:
    arguments = ["charades-sta", "-c", model, "--annotations", charades, "--split", "train", "--bins"]
    result = run("evaluate", *arguments)
    assert result.exit_code == 0, result.output
    assert rows(result.stdout)["metric"] == ["ours"]
    assert rows(result.stdout)["1-10"][0] == "12"
    assert rows(result.stdout)["41+"] == ["0", "-"]


def test_windows_only_where_asked_for(charades: Path, model: Path) -> None:
    arguments = ["charades-sta", "-c", model, "--annotations", charades, "--json", "-"]
    whole, windowed = run("evaluate", *arguments), run("evaluate", *arguments, "--windows")
    assert json.loads(whole.stdout)["metrics"] != json.loads(windowed.stdout)["metrics"]


def test_predictions_can_be_scored_again(charades: Path, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "answers.jsonl"
    arguments = ["charades-sta", "-c", model, "--annotations", charades, "--predictions", file]
    first = run("evaluate", *arguments, "--json", tmp_path / "scores.json")
    assert first.exit_code == 0, first.output
    again = run("score", file, charades / "charades_test.jsonl", "--benchmark", "charades-sta", "--json", "-")
    metrics = json.loads((tmp_path / "scores.json").read_text())["metrics"]
    assert json.loads(again.stdout) == {"benchmark": "charades-sta", "queries": 12, "metrics": metrics}
    assert len(json.loads(file.read_text().splitlines()[0])["pred_relevant_windows"]) > 10
    refused(run("evaluate", *arguments), 1, "answers.jsonl exists", "--force")
    assert run("evaluate", *arguments, "--force").exit_code == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["answers.jsonl", "scores.json"]


def test_submission_of_a_split_whose_truth_is_withheld(qvhighlights: Path, model: Path, tmp_path: Path) -> None:
    arguments = ["qvhighlights", "-c", model, "--annotations", qvhighlights, "--split", "test"]
    refused(run("evaluate", *arguments), 1, "test split of qvhighlights is withheld", "highlight_test_with_gt.jsonl")
    result = run("evaluate", *arguments, "--submission", tmp_path / "new" / "send")
    assert (result.exit_code, result.stdout) == (0, ""), result.output
    assert "withheld: 1 predictions, no scores" in result.stderr
    (line,) = (tmp_path / "new" / "send" / "hl_test_submission.jsonl").read_text().splitlines()
    answer = json.loads(line)
    assert list(answer) == ["qid", "query", "vid", "pred_relevant_windows", "pred_saliency_scores"]
    assert (len(answer["pred_relevant_windows"]), len(answer["pred_saliency_scores"])) == (10, 75)

    write_lines(qvhighlights / "highlight_test_with_gt.jsonl", [LABELLED])
    scored = run("evaluate", *arguments, "--submission", tmp_path / "new" / "send", "--force")
    assert scored.exit_code == 0, scored.output
    assert "HL-min-VeryGood-mAP" in rows(scored.stdout)
    assert json.loads((tmp_path / "new" / "send" / "hl_test_submission.jsonl").read_text()) == answer


def test_saliency_models_and_domains(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    # The first video of each of two domains is for validation.
    videos = {"sTEELN-vY30": "PR", "fWutDQy1nnY": "VU", "J0nA4VgnoCo": "VT"}
    ratings = {vid: draw.integers(1, 6, (20, 20)).tolist() for vid in videos}
    anno = {vid: {"title": "a title", "anno": rows} for vid, rows in ratings.items()}
    (tmp_path / "tvsum_anno.json").write_text(json.dumps(anno))
    save_features(tmp_path, dict.fromkeys(videos, 21), videos)
    saved = save_model(tmp_path / "m", "saliency")
    file = tmp_path / "answers.jsonl"
    result = run("evaluate", "tvsum/VT", "-c", saved, "--annotations", tmp_path, "--predictions", file)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("small on tvsum/VT, val split, 1 queries\n")
    assert rows(result.stdout)["mAP"][1] == "89.81"
    (line,) = map(json.loads, file.read_text().splitlines())
    assert list(line) == ["qid", "query", "vid", "pred_saliency_scores"]
    options = ["--benchmark", "tvsum", "--split", "val", "--domain", "VT"]
    again = run("score", file, tmp_path / "tvsum_anno.json", *options)
    assert rows(again.stdout)["mAP"] == rows(result.stdout)["mAP"][:1]
    everything = run("score", file, tmp_path / "tvsum_anno.json", "--benchmark", "tvsum", "--missing", "zero")
    assert {"mAP", "VT-mAP", "VU-mAP", "PR-mAP"} <= set(rows(everything.stdout))
    assert rows(everything.stdout)["VU-mAP"] == ["0.00"]
    refused(run("score", file, tmp_path / "tvsum_anno.json", "--benchmark", "tvsum"), 1, "no prediction for 2 queries")
    refused(run("evaluate", "tvsum/VT", "-c", saved, "--annotations", tmp_path, "--bins"), 2, "tvsum has no moments")


def test_what_cannot_be_evaluated_is_refused(
    charades: Path, model: Path, qvhighlights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "cache"))
    place = ["--annotations", charades]
    refused(run("evaluate", "charades-sta", "-c", model), 1, "folder not found", "r2tuning download charades-sta")
    refused(run("evaluate", "charades", "-c", model), 1, "no such recipe", "did you mean charades-sta?")
    refused(run("evaluate", "charades-sta", "-c", tmp_path / "no", *place), 1, "neither a file, a folder nor")
    refused(run("evaluate", "charades-sta", "-c", model, *place, "--split", "val"), 1, "has no split 'val'")
    empty = ["--features", tmp_path / "cache"]
    refused(run("evaluate", "charades-sta", "-c", model, *place, *empty), 1, "r2tuning extract", "r2tuning download")
    saliency = save_model(tmp_path / "s", "saliency")
    refused(
        run("evaluate", "charades-sta", "-c", saliency, *place),
        1,
        "small: gives saliency only",
        "charades-sta scores moments",
    )
    send = ["--submission", tmp_path / "send"]
    refused(
        run("evaluate", "charades-sta", "-c", model, *place, *send), 2, "only the val and test splits of qvhighlights"
    )
    assert not (tmp_path / "send").exists()
    refused(run("evaluate", "charades-sta", "-c", model, *place, "--predictions", "a.json"), 2, "must end in .jsonl")
    (tmp_path / "send").write_text("a file")
    refused(
        run("evaluate", "qvhighlights", "-c", model, "--annotations", qvhighlights, *send), 1, "send: cannot be made"
    )


def test_scoring_needs_no_pytorch(charades: Path, tmp_path: Path) -> None:
    answers = [{"qid": x["qid"], "pred_relevant_windows": [[*x["relevant_windows"][0], 1]]} for x in charades_lines()]
    script = (
        "import sys\n"
        "from r2tuning.cli.main import run\n"
        "try: run()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "heavy = {'torch', 'transformers', 'matplotlib', 'av', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    files = [str(write_lines(tmp_path / "a.jsonl", answers)), str(charades / "charades_test.jsonl")]
    command = [sys.executable, "-c", script, "score", *files, "--benchmark", "charades-sta"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout)["MR-full-mAP"] == ["100.00"]


def test_scoring_refuses_bad_lines_and_missing_answers(charades: Path, tmp_path: Path) -> None:
    truth = charades / "charades_test.jsonl"
    answers = [{"qid": x["qid"], "pred_relevant_windows": [[*x["relevant_windows"][0], 1]]} for x in charades_lines()]
    perfect = write_lines(tmp_path / "perfect.jsonl", answers)
    options = ["--benchmark", "charades-sta"]
    assert rows(run("score", perfect, truth, *options).stdout)["MR-full-mAP"] == ["100.00"]
    fewer = write_lines(tmp_path / "fewer.jsonl", answers[:9])
    refused(run("score", fewer, truth, *options), 1, "no prediction for 3 queries (9, 10, 11) of 12", "--missing zero")
    assert rows(run("score", fewer, truth, *options, "--missing", "zero").stdout)["MR-full-mAP"] == ["75.00"]
    bad = write_lines(tmp_path / "bad.jsonl", [*answers[:2], answers[2] | {"pred_relevant_windows": [[1, 2]]}])
    refused(run("score", bad, truth, *options), 1, f"{bad}:3: pred_relevant_windows[0]: ")
    refused(run("score", tmp_path / "no.jsonl", truth, *options), 1, "no.jsonl: cannot be read")
    refused(run("score", perfect, truth, "-b", "tvsum", "--bins"), 2, "tvsum has no moments")
