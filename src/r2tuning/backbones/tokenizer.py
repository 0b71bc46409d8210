"""Tokenizers of backbones, from the files that hub repositories hold."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from r2tuning.errors import BackboneError
from r2tuning.files import parse_json, read_file

TOKENIZER_FILE = "tokenizer.json"
VOCABULARY_FILES = ("vocab.json", "merges.txt")
"""CLIP's older form of the tokenizer."""
SENTENCEPIECE_FILE = "spiece.model"
"""SigLIP's older form, which is not read."""

_START, _END = "<|startoftext|>", "<|endoftext|>"
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""How CLIP splits a sentence into words."""


def has_tokenizer(folder: Path) -> bool:
    """Returns whether a folder has one of the forms that `load_tokenizer` reads."""
    return (folder / TOKENIZER_FILE).is_file() or all((folder / name).is_file() for name in VOCABULARY_FILES)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Loads ``tokenizer.json`` of a folder, or else ``vocab.json`` and ``merges.txt``; neither truncates nor pads.

    Raises:
        ValueError: If it ends no sentence with a token: towers pool there.
    """
    file = folder / TOKENIZER_FILE
    tokenizer = Tokenizer.from_buffer(_read(file)) if file.is_file() else _build_tokenizer(folder)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if not tokenizer.encode("").ids:
        raise ValueError("the tokenizer adds no end token")
    return tokenizer


def _read(path: Path) -> bytes:
    return read_file(path, BackboneError, "download the folder again")


def _build_tokenizer(folder: Path) -> Tokenizer:
    vocabulary_file, merges_file = (folder / name for name in VOCABULARY_FILES)
    vocabulary: dict[str, int] = parse_json(_read(vocabulary_file))
    lines = _read(merges_file).decode().splitlines()
    pairs = (line.partition(" ") for line in lines if line and not line.startswith("#version"))
    merges = [(first, second) for first, _, second in pairs]
    tokenizer = Tokenizer(
        BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=_END)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.add_special_tokens([_START, _END])
    tokenizer.post_processor = processors.RobertaProcessing(
        (_END, vocabulary[_END]), (_START, vocabulary[_START]), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer
