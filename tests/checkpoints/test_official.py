import os
import pickle
from pathlib import Path

import pytest
import torch
from support.golden import export_official, official_shapes, official_state_dict

from r2tuning.checkpoints.official import read_official
from r2tuning.errors import CheckpointError
from r2tuning.model import R2Config, R2Tuning

FAMILIES = ["grounding", "saliency"]


def write(folder, content, name="best.pth"):
    path = folder / name
    torch.save(content, path)
    return path


def refusal(path):
    """The text of the one-line error that reading ``path`` gives."""
    with pytest.raises(CheckpointError) as caught:
        read_official(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_again_gives_identical_tensors(family, tmp_path):
    official = official_state_dict(family)
    constant = {"loss._loss_sal.scale": torch.ones(1)}
    path = write(tmp_path, {"meta": {"epoch": 30, "hooks": None}, "state_dict": official | constant})
    config, ours = read_official(path)
    assert config == R2Config(family=family)
    back = export_official(ours)
    assert back.keys() == official.keys()
    assert all(torch.equal(back[name], official[name]) for name in official)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_and_shapes_are_the_models_own(family, tmp_path):
    config, ours = read_official(write(tmp_path, official_state_dict(family)))
    model = R2Tuning(config)
    assert {n: t.shape for n, t in model.state_dict().items()} == {n: t.shape for n, t in ours.items()}
    assert sum(p.numel() for p in model.parameters()) == {"grounding": 2_836_242, "saliency": 1_846_281}[family]


def test_tensors_land_where_the_block_uses_them(tmp_path):
    official = official_state_dict("grounding")
    _, ours = read_official(write(tmp_path, official))
    for name, source in {
        "block.spatial_pooling.query_projection.weight": "adapter.q_map.weight",
        "block.spatial_pooling.video_projection.weight": "adapter.v_map.weight",
        "block.temporal_refinement.cross_attention.output.bias": "adapter.tem.cross_att.m.bias",
        "block.temporal_refinement.self_attention.value.weight": "adapter.tem.self_att.v.weight",
        "block.temporal_refinement.feed_forward_norm.bias": "adapter.tem.ffn_norm.bias",
        "pyramid.levels.0.0.conv.weight": "pyramid.blocks.1.1.weight",
        "pyramid.levels.2.1.norm.weight": "pyramid.blocks.3.8.weight",
        "pyramid.levels.2.2.conv.weight": "pyramid.blocks.3.11.weight",
        "offset_head.2.weight": "coord_head.module.3.weight",
        "level_scale": "coef",
    }.items():
        assert torch.equal(ours[name], official[source]), name


def test_other_widths_are_read_from_the_shapes(tmp_path):
    config = R2Config(video_width=24, query_width=20, layers=2, hidden=16, heads=8, strides=(1, 2, 4))
    state = R2Tuning(config).state_dict()
    assert read_official(write(tmp_path, export_official(state)))[0] == config


def test_half_precision_becomes_single(tmp_path):
    official = official_state_dict("saliency")
    _, ours = read_official(write(tmp_path, {name: tensor.half() for name, tensor in official.items()}))
    assert {tensor.dtype for tensor in ours.values()} == {torch.float32}
    assert torch.equal(ours["level_scale"], official["coef"])  # the seeded values are fp16 numbers


@pytest.fixture(scope="module")
def small():
    """All the names of the grounding family, with small tensors."""
    return export_official(R2Tuning(R2Config(video_width=24, query_width=20, hidden=16)).state_dict())


@pytest.mark.parametrize("name", sorted(official_shapes("grounding")))
def test_every_key_is_needed_in_its_own_shape(name, small, tmp_path):
    official = dict(small)
    tensor = official.pop(name)
    assert f"missing {name!r};" in refusal(write(tmp_path, official))
    official[name] = torch.zeros(tensor.shape[0] + 1, *tensor.shape[1:])
    assert f"{name!r} is {list(official[name].shape)}, expected {list(tensor.shape)}" in refusal(
        write(tmp_path, official)
    )


@pytest.mark.parametrize(
    ("extra", "value", "said"),
    [
        ("adapter.extra", torch.ones(1), "unexpected 'adapter.extra'"),
        ("pyramid.blocks.5.1.weight", torch.ones(1), "unexpected 'pyramid.blocks.5.1.weight'"),
        ("loss._loss_sal.scale", torch.ones(2), "'loss._loss_sal.scale' is [2], expected [1]"),
        ("coef", torch.ones(4, dtype=torch.int64), "not a plain float tensor: 'coef'"),
        ("coef", torch.ones(4).to_sparse(), "not a plain float tensor: 'coef'"),
        ("coef", "four", "not a plain float tensor: 'coef'"),
        ("coef", torch.tensor([1, 1, float("nan"), 1]), "NaN or infinite values in 'coef'"),
        ("adapter.gate", torch.full((3,), float("-inf")), "NaN or infinite values in 'adapter.gate'"),
        (7, torch.ones(1), "the state dict has the key 7"),
    ],
)
def test_other_content_is_refused_by_name(extra, value, said, small, tmp_path):
    assert said in refusal(write(tmp_path, small | {extra: value}))


def test_many_missing_keys_are_counted(small, tmp_path):
    kept = {name: tensor for name, tensor in small.items() if not name.startswith("coord_head")}
    text = refusal(write(tmp_path, kept))
    assert "missing 'coord_head.module.1.weight', 'coord_head.module.1.bias'" in text
    assert "and 1 more" in text


def test_saliency_weights_with_a_grounding_head_are_neither(tmp_path):
    official = official_state_dict("saliency")
    official["coord_head.module.3.bias"] = torch.zeros(2)
    assert "missing 'coord_head.module.1.weight'" in refusal(write(tmp_path, official))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "holds a list"),
        ({"state_dict": [1]}, "holds a list"),
        (torch.ones(2), "holds a Tensor"),
        ({}, "not an R²-Tuning model: no 'adapter.video_map.0.weight' among 0 keys"),
        ({"fc.weight": torch.ones(2)}, "not an R²-Tuning model"),
    ],
)
def test_content_of_the_wrong_type_is_refused(content, said, tmp_path):
    assert said in refusal(write(tmp_path, content))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 1e-6, 1e-5, 1e-3, 0.5, 0.99])
def test_a_truncated_file_is_refused(share, zipped, tmp_path):
    path = tmp_path / "cut.pth"
    torch.save({"state_dict": official_state_dict("saliency")}, path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "again" in refusal(path)


@pytest.mark.parametrize("content", [b"hello\n" * 9, b"<html>not found</html>", b"PK\x03\x04", pickle.dumps([1])])
def test_another_kind_of_file_is_refused(content, tmp_path):
    path = tmp_path / "page.pth"
    path.write_bytes(content)
    assert "again" in refusal(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "No such file" in refusal(tmp_path / "none.pth")
    assert "directory" in refusal(tmp_path)


class Hostile:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle"])
def test_a_hostile_pickle_does_not_run(kind, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "hostile.pth"
    content = {"meta": Hostile(marker), "state_dict": official_state_dict("saliency")}
    if kind == "bare pickle":
        path.write_bytes(pickle.dumps(Hostile(marker), protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    text = refusal(path)
    assert text.startswith("refused: it holds")
    assert "mkdir" in text
    assert not marker.exists()
    if kind == "bare pickle":  # the file is as hostile as it should be
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert marker.exists()
