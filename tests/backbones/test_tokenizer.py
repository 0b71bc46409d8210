"""The tokenizer against transformers' own, from both kinds of files."""

import json
import shutil
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from r2tuning.backbones.loading import load_tokenizer
from r2tuning.checkpoints.published import DEMO_FOLDER

SENTENCES = [
    "a red circle falls",
    "  A  DOG's\tball, 3 o'clock!\n",
    "don't stop: we're 42% there…",
    "Привет, мир — 你好 🎉👩‍👩‍👧",
    "café cafe\u0301 ﬁne İstanbul",
    "</script><b>'quotes\"",
    "<|startoftext|> in a <|endoftext|> sentence",
    "word " * 100,
]


@pytest.fixture(params=["tokenizer.json", "vocab.json"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The demo's tokenizer, in one of the two forms."""
    for path in (DEMO_FOLDER.parent / "clip").glob("*token*.json"):
        shutil.copy(path, tmp_path)
    if request.param == "vocab.json":
        model = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]
        (tmp_path / "tokenizer.json").unlink()
        (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]), encoding="utf-8")
        merges = [" ".join(pair) for pair in model["merges"]]
        (tmp_path / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return tmp_path


def test_tokens_are_those_of_transformers(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "clip"}')
    theirs, ours = AutoTokenizer.from_pretrained(folder), load_tokenizer(folder)
    assert ours.get_vocab_size() == len(theirs) > 1000
    for sentence in SENTENCES:
        assert ours.encode(sentence).ids == theirs(sentence, verbose=False)["input_ids"], sentence


def test_a_file_that_cuts_and_pads_is_told_not_to(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=9)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert len(load_tokenizer(folder).encode("word " * 100).ids) > 100
    assert len(load_tokenizer(folder).encode("a red circle").ids) < 9
