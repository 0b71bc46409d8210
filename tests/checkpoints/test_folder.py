import json
import subprocess
import sys

import pytest
import torch

from r2tuning.checkpoints.folder import CheckpointConfig, Provenance, load_config, load_state, save_checkpoint
from r2tuning.checkpoints.resolve import load_checkpoint, read_checkpoint
from r2tuning.decoding.decode import DecodingConfig
from r2tuning.errors import CheckpointError, OutputError
from r2tuning.model import R2Config, R2Tuning

SMALL = R2Config(video_width=12, query_width=10, layers=2, hidden=16, heads=2, strides=(1, 2))


def describe(**changes):
    fields = {
        "name": "small",
        "model": SMALL,
        "backbone": "openai/clip-vit-base-patch32",
        "fps": 0.5,
        "window": 150,
        "decoding": DecodingConfig(unit=2),
        "provenance": Provenance(source="a test", created_with="0"),
    }
    return CheckpointConfig(**fields | changes)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "small"
    save_checkpoint(folder, R2Tuning(SMALL).state_dict(), describe())
    return folder


def edit(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(read, path):
    with pytest.raises(CheckpointError) as caught:
        read(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    return text


def test_what_is_saved_is_loaded(tmp_path):
    model = R2Tuning(SMALL)
    save_checkpoint(tmp_path / "new" / "small", model.state_dict(), describe())
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["small"]
    config, loaded = read_checkpoint(tmp_path / "new" / "small")
    assert config == describe()
    assert not loaded.training
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())


@pytest.mark.parametrize(("form", "other"), [("released", "paper"), ("paper", "released")])
def test_the_form_is_part_of_a_checkpoint_and_the_other_one_is_refused(form, other, tmp_path):
    model = R2Tuning(SMALL.model_copy(update={"form": form}))
    save_checkpoint(tmp_path / "small", model.state_dict(), describe(model=model.config))
    config, loaded = read_checkpoint(tmp_path / "small")
    assert (config.model.form, loaded.config.form) == (form, form)
    edit(tmp_path / "small", model=model.config.model_dump() | {"form": other})
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "small")
    text = str(caught.value)  # the path and the names are long, so that their middles are left out
    assert "/small: " in text
    assert "'block.spatial_pooling.query_p" in text
    assert text.endswith("these are not the weights of an R²-Tuning model of this shape")


def test_config_json_is_for_reading(folder):
    lines = (folder / "config.json").read_text().splitlines()
    assert lines[0] == "{"
    assert '  "name": "small",' in lines


def test_views_and_half_precision_are_saved_and_load_as_single(tmp_path):
    state = R2Tuning(SMALL).half().state_dict()
    shared = torch.arange(32, dtype=torch.float16).reshape(2, 16)
    state["block.query_map.4.weight"], state["block.query_map.4.bias"] = shared[0], shared[:, ::2].reshape(-1)[:16]
    state["block.query_map.6.weight"] = state["block.query_map.6.weight"].T
    save_checkpoint(tmp_path / "half", state, describe())
    loaded = load_checkpoint(tmp_path / "half").state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert torch.equal(loaded["block.query_map.4.weight"], torch.arange(16.0))
    assert torch.equal(loaded["block.query_map.6.weight"], state["block.query_map.6.weight"].float())


def test_a_checkpoint_is_replaced_and_other_files_beside_it_stay(folder):
    (folder / "notes.txt").write_text("mine")
    state = {name: torch.ones_like(tensor) for name, tensor in R2Tuning(SMALL).state_dict().items()}
    save_checkpoint(folder, state, describe(name="second"))
    config, model = read_checkpoint(folder)
    assert config.name == "second"
    assert model.level_scale.tolist() == [1, 1]
    assert sorted(p.name for p in folder.iterdir()) == ["config.json", "model.safetensors", "notes.txt"]
    assert [p.name for p in folder.parent.iterdir()] == ["small"]


def test_a_folder_of_other_things_and_a_file_are_not_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("cat")
    with pytest.raises(OutputError, match=r"photos: has files but no checkpoint; choose"):
        save_checkpoint(tmp_path / "photos", {}, describe())
    with pytest.raises(OutputError, match=r"cat\.jpg: is a file; name a folder"):
        save_checkpoint(tmp_path / "photos" / "cat.jpg", {}, describe())
    assert [p.name for p in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        save_checkpoint(tmp_path / ("x" * 300), R2Tuning(SMALL).state_dict(), describe())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_both_files_are_needed(missing, folder):
    (folder / missing).unlink()
    text = refusal(load_checkpoint, folder)
    assert missing in text.split(": ")[0]
    assert "a checkpoint folder has config.json and model.safetensors" in text


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("\xff\xfe", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "holds a list, not an object"),
        ("{}", "name: is missing"),
    ],
)
def test_a_damaged_config_is_refused(content, said, folder):
    (folder / "config.json").write_text(content, encoding="latin-1")
    assert said in refusal(load_config, folder)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"windw": 3}, "unknown key windw; did you mean window?"),
        ({"model": {"hiden": 16}}, "unknown key model.hiden; did you mean model.hidden?"),
        ({"decoding": {"nms_sigm": 1}}, "unknown key decoding.nms_sigm; did you mean decoding.nms_sigma?"),
        ({"provenance": {"source": "x"}}, "provenance.created_with: is missing"),
        ({"fps": 0}, "fps: is 0; input should be greater than 0"),
        ({"fps": float("nan")}, "fps: "),
        ({"model": {"heads": 3}}, "model: hidden (256) must be even and a multiple of heads (3)"),
        ({"format_version": 3}, "format 3 is newer than this r2tuning reads (up to 2); upgrade r2tuning"),
        ({"format_version": 3, "novel": 1}, "upgrade r2tuning"),
        ({"format_version": 0}, "format_version: "),
    ],
)
def test_a_wrong_field_is_refused_by_name(changes, said, folder):
    edit(folder, **changes)
    assert said in refusal(load_config, folder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(share, folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "model.safetensors: truncated or not a safetensors file" in refusal(load_state, folder)


def test_weights_that_do_not_fit_are_refused_by_name(tmp_path):
    state = R2Tuning(SMALL).state_dict()
    gate = state.pop("block.spatial_pooling.gate")
    for name, said in {
        "block.spatial_pooling.gat": "missing 'block.spatial_pooling.gate'; unexpected 'block.spatial_pooling.gat'",
        "block.spatial_pooling.gate": "'block.spatial_pooling.gate' is [3], expected [2]",
    }.items():
        save_checkpoint(tmp_path / name, state | {name: torch.zeros(3)}, describe())
        assert said in refusal(load_checkpoint, tmp_path / name)
    save_checkpoint(tmp_path / "nan", state | {"block.spatial_pooling.gate": gate * float("nan")}, describe())
    assert "NaN or infinite values in 'block.spatial_pooling.gate'" in refusal(load_checkpoint, tmp_path / "nan")


def test_loading_does_not_import_the_compiler_of_torch(folder):
    """Initial weights would be drawn for nothing, and drawing them without memory imports it, for two seconds."""
    assert load_config(folder).model.init == "released"
    code = (
        "import sys; from r2tuning.checkpoints import load_checkpoint; load_checkpoint(sys.argv[1]); "
        "print({'torch._dynamo', 'sympy'} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", code, str(folder)], text=True) == "set()\n"
