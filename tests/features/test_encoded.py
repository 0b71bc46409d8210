"""Encoded videos: in memory or on disk, they hold the same numbers; files are whole or refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.groundings import make_facts

from r2tuning.errors import FeatureError
from r2tuning.features.encoded import EncodedVideo, FeatureWriter

FACTS = make_facts(video="a video.mp4", start=1.5, fps=0.5, fingerprint="0123456789abcdef")
VALUES = torch.randn(10, 2, 5, 8, generator=torch.Generator().manual_seed(0))


def encode(memory_limit: int, parts: list[int]) -> EncodedVideo:
    writer = FeatureWriter(memory_limit)
    for part in VALUES.split(parts):
        writer.append(part)
    return writer.finish(FACTS)


@pytest.mark.parametrize("memory_limit", [0, 400, 10**6], ids=["file", "spilled later", "memory"])
@pytest.mark.parametrize("parts", [[10], [3, 3, 4], [1] * 10], ids=str)
def test_the_same_numbers_wherever_they_are_kept(memory_limit: int, parts: list[int], tmp_path: Path) -> None:
    encoded = encode(memory_limit, parts)
    assert (encoded.frames, encoded.layers, encoded.tokens, encoded.width) == (10, 2, 5, 8)
    encoded.save(tmp_path / "a.safetensors")
    for video in (encoded, EncodedVideo.load(tmp_path / "a.safetensors")):
        assert video.facts == FACTS
        assert torch.equal(video.read(0, 10), VALUES.half().transpose(0, 1))
        assert torch.equal(video.read(4, 7), VALUES[4:7].half().transpose(0, 1))


def test_temporary_files_go_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    encoded = encode(0, [5, 5])
    assert len(list(tmp_path.iterdir())) == 1
    del encoded
    assert not list(tmp_path.iterdir())
    writer = FeatureWriter(0)
    writer.append(VALUES)
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_outlying_channels_do_not_become_infinite() -> None:
    writer = FeatureWriter()
    writer.append(torch.full((1, 1, 1, 2), 1e6))
    assert torch.isfinite(writer.finish(FACTS).read(0, 1)).all()


def test_an_existing_file_is_replaced_only_by_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("old")
    encode(10**6, [10]).save(path)
    assert EncodedVideo.load(path).frames == 10
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]
    with pytest.raises(FeatureError, match="there is no folder"):
        encode(0, [10]).save(tmp_path / "nowhere" / "a.safetensors")


def test_damaged_and_foreign_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    encode(10**6, [10]).save(path)
    whole = path.read_bytes()
    facts = json.loads(FACTS.model_dump_json())
    missing = {**facts}
    del missing["fps"]

    def foreign(metadata: dict[str, str], name: str = "video", dtype: torch.dtype = torch.float16) -> None:
        save_file({name: VALUES.to(dtype)}, path, metadata=metadata)

    cases = [
        (lambda: path.write_bytes(whole[: len(whole) // 2]), "truncated or not a safetensors file"),
        (lambda: path.write_bytes(b""), "truncated or not a safetensors file"),
        (lambda: path.write_text("hello, this is no tensor file"), "truncated or not a safetensors file"),
        (lambda: foreign({}), "not features of a video"),
        (lambda: foreign({"r2tuning": "{}"}, name="weights"), "not features of a video"),
        (lambda: foreign({"r2tuning": json.dumps(facts)}, dtype=torch.float32), "not features of a video"),
        (lambda: foreign({"r2tuning": json.dumps(missing)}), "fps: is missing"),
        (lambda: foreign({"r2tuning": json.dumps({**facts, "fps": -1})}), "fps: is -1; input should be greater than 0"),
        (path.unlink, "no such file"),
    ]
    for damage, message in cases:
        damage()
        with pytest.raises(FeatureError, match=message) as caught:
            EncodedVideo.load(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
