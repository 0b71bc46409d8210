import warnings

import pytest
import torch
from support.golden import official_state_dict

import r2tuning
from r2tuning.checkpoints.official import read_official
from r2tuning.checkpoints.published import find_published
from r2tuning.checkpoints.resolve import convert, load_checkpoint, read_checkpoint
from r2tuning.errors import CheckpointError, CheckpointWarning, OutputError
from r2tuning.hub import hash_file


def write(folder, family, name="best.pth"):
    path = folder / name
    torch.save({"meta": {}, "state_dict": official_state_dict(family)}, path)
    return path


@pytest.mark.parametrize("family", ["grounding", "saliency"])
def test_an_official_file_and_its_conversion_are_the_same_model(family, tmp_path):
    path = write(tmp_path, family)
    official = load_checkpoint(path)
    with pytest.warns(CheckpointWarning, match="not a published file name"):
        written = convert(path, tmp_path / "ours")
    config, ours = read_checkpoint(tmp_path / "ours")
    assert config == written
    assert not official.training
    assert not ours.training
    _, expected = read_official(path)
    for name, tensor in expected.items():
        assert torch.equal(tensor, official.state_dict()[name])
        assert torch.equal(tensor, ours.state_dict()[name])


@pytest.mark.parametrize(("family", "like"), [("grounding", "qvhighlights"), ("saliency", "tvsum/BK")])
def test_settings_of_an_unknown_file_are_assumed_with_a_warning(family, like, tmp_path):
    path = write(tmp_path, family)
    with pytest.warns(CheckpointWarning, match=rf"settings of {like} are assumed \(0\.5 frames per second") as caught:
        config, model = read_checkpoint(path)
    assert caught[0].filename == __file__
    assert config.name == "best"
    assert config.model == model.config
    assert (config.fps, config.window) == {"qvhighlights": (0.5, 150), "tvsum/BK": (0.5, 650)}[like]
    assert config.provenance.source == "best.pth"
    assert config.provenance.sha256 == hash_file(path)
    assert config.provenance.created_with == r2tuning.__version__


def test_a_published_file_name_gives_its_settings_but_other_content_is_told(tmp_path):
    path = write(tmp_path, "grounding", "r2_tuning_charades-1de02112.pth")
    with pytest.warns(CheckpointWarning, match=r"SHA-256 begins [0-9a-f]{8}, not 1de02112"):
        config, _ = read_checkpoint(path)
    assert (config.name, config.fps, config.decoding.unit, config.decoding.nms) == ("charades-sta", 1, 0.1, "linear")
    assert config.model.dropout == 0.35
    assert config.provenance.source == path.name


def test_a_published_name_on_the_other_family_is_not_believed(tmp_path):
    path = write(tmp_path, "saliency", "r2_tuning_charades-1de02112.pth")
    with pytest.warns(CheckpointWarning, match="settings of tvsum/BK are assumed"):
        config, _ = read_checkpoint(path)
    assert config.decoding.nms == "none"


def test_the_model_alone_is_read_without_a_warning(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load_checkpoint(write(tmp_path, "saliency"))
    assert caught == []


def test_conversion_refuses_a_bad_file_and_a_foreign_folder(tmp_path):
    bad = tmp_path / "bad.pth"
    bad.write_bytes(b"no")
    with pytest.raises(CheckpointError, match=r"bad\.pth"):
        convert(bad, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match="has files but no checkpoint"), pytest.warns(CheckpointWarning):
        convert(write(tmp_path, "saliency"), tmp_path)


def test_bare_weights_need_their_folder(tmp_path):
    (tmp_path / "model.safetensors").touch()
    for read in (load_checkpoint, read_checkpoint):
        with pytest.raises(CheckpointError, match="pass the folder"):
            read(tmp_path / "model.safetensors")


def test_paths_resolve_and_neither_path_nor_name_is_told_with_the_nearest(tmp_path):
    with pytest.warns(CheckpointWarning):
        convert(write(tmp_path, "saliency"), tmp_path / "mine")
    assert read_checkpoint(tmp_path / "mine")[0].name == read_checkpoint(str(tmp_path / "mine"))[0].name == "best"
    with pytest.raises(
        CheckpointError, match=r"qvhighlight: neither a file, a folder nor .*; did you mean qvhighlights"
    ):
        read_checkpoint("qvhighlight")
    with pytest.raises(CheckpointError, match=r"none\.pth: neither .*; `r2tuning models` lists them"):
        read_checkpoint("none.pth")


def test_a_published_name_in_any_case_resolves_from_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("R2TUNING_CACHE", str(tmp_path / "cache"))
    entry = find_published("tvsum/BK")
    with pytest.warns(CheckpointWarning, match="SHA-256 begins"):  # seeded weights in the place of the published
        convert(write(tmp_path, "saliency"), entry.cached_folder, entry)
    config, model = read_checkpoint("TVSum/bk")
    assert config.name == "tvsum/BK"
    assert model.config.family == "saliency"
