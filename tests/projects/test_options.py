"""What the short trainings of `options` and `any_order` start from, and the table they fill."""

import json
from pathlib import Path

import torch

from projects.moving_shapes.any_order import WAYS, build_variants
from projects.moving_shapes.options import COLUMNS, renew_heads, tabulate_options, take_subset
from r2tuning.checkpoints import read_checkpoint
from r2tuning.model import R2Config, R2Tuning


def write_lines(file: Path, counts: dict[str, int]) -> None:
    lines = [{"qid": f"{vid}-{n}", "vid": vid} for n in range(20) for vid, count in counts.items() if n < count]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read_qids(file: Path) -> list[str]:
    return [json.loads(line)["qid"] for line in file.read_text(encoding="utf-8").splitlines()]


def test_subsets_have_the_same_videos(tmp_path: Path) -> None:
    write_lines(tmp_path / "train.jsonl", {"a": 12, "b": 11, "c": 14, "d": 20, "e": 12})
    write_lines(tmp_path / "train_absent.jsonl", {"a": 4, "b": 9, "c": 3, "d": 5, "e": 4})
    write_lines(tmp_path / "val.jsonl", {"v": 9})
    take_subset(tmp_path, tmp_path / "few", 2, 3, 2, val=5)
    take_subset(tmp_path, tmp_path / "more", 2, 5)
    take_subset(tmp_path, tmp_path / "later", 2, 1, skip=2)
    assert read_qids(tmp_path / "few" / "train.jsonl") == ["a-0", "a-1", "a-2", "d-0", "d-1", "d-2"]
    assert read_qids(tmp_path / "few" / "train_absent.jsonl") == ["a-0", "a-1", "d-0", "d-1"]
    assert len(read_qids(tmp_path / "few" / "val.jsonl")) == 5
    assert {qid[0] for qid in read_qids(tmp_path / "more" / "train.jsonl")} == {"a", "d"}
    assert len(read_qids(tmp_path / "more" / "train.jsonl")) == 10
    assert read_qids(tmp_path / "more" / "train_absent.jsonl") == []
    assert read_qids(tmp_path / "later" / "train.jsonl") == ["e-0"]


def test_heads_are_made_anew_and_the_block_stays(tmp_path: Path) -> None:
    renew_heads("demo", tmp_path / "start")
    (config, old), (same, new) = read_checkpoint("demo"), read_checkpoint(str(tmp_path / "start"))
    assert same.model == config.model
    before, after = old.state_dict(), new.state_dict()
    for name, value in before.items():
        kept = name.startswith(("block.", "query_pooling.")) or name == "level_scale"
        assert kept or not torch.equal(value, after[name]), name
        if name.startswith("block."):
            torch.testing.assert_close(after[name], value, rtol=0, atol=0)


def test_all_ways_share_their_weights_and_no_layer_is_favored() -> None:
    config = R2Config(video_width=8, query_width=6, layers=2, hidden=16, heads=2)
    model = R2Tuning(config)
    with torch.no_grad():
        model.block.spatial_pooling.gate.copy_(torch.tensor([1.0, 3.0]))
        variants = build_variants(model)
    assert list(variants) == list(WAYS)
    video, query = torch.randn(2, 2, 5, 4, 8), torch.randn(2, 2, 3, 6)
    for variant in variants.values():
        assert variant.block.spatial_pooling.gate.tolist() == [2.0] * variant.config.steps
        assert not variant.block.spatial_pooling.gate.requires_grad
        assert variant.class_head[0].weight is model.class_head[0].weight
    # In the opposite order of the layers, one way is the other.
    one, other = (variants[way].eval() for way in ("reversed", "forward"))
    with torch.no_grad():
        torch.testing.assert_close(one(video, query).hidden, other(video.flip(1), query.flip(1)).hidden)
        assert not torch.allclose(one(video, query).hidden, other(video, query).hidden)


def test_the_tables_have_a_row_for_each_cell_and_compare_runs_of_one_seed() -> None:
    base = [dict.fromkeys(COLUMNS, value) for value in (50.0, 60.0, 70.0)]
    other = [{**run, "MR-full-mAP": run["MR-full-mAP"] + gain} for run, gain in zip(base, (1.0, 2.0, 3.0), strict=True)]
    values, differences = tabulate_options({"baseline": base, "other": other}).split("\n\n")
    assert values.startswith(
        "|  | R1@0.5 | R1@0.7 | mAP | HD mAP | Hit@1 | AUROC: one word | seen | unseen | other video"
    )
    assert values.splitlines()[2].startswith("| baseline | 60.0 ± 10.0 | 60.0 ± 10.0 | 60.0 ± 10.0 |")
    assert values.splitlines()[3].startswith("| other | 60.0 ± 10.0 | 60.0 ± 10.0 | 62.0 ± 11.0 |")
    (row,) = differences.splitlines()[2:]
    assert row.startswith("| other | +0.0 ± 0.0 | +0.0 ± 0.0 | +2.0 ± 1.0 |")
    (alone,) = tabulate_options({"baseline": base[:1]}).splitlines()[2:]
    assert alone.startswith("| baseline | 50.0 | 50.0 |")
