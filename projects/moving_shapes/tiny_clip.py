"""The untrained CLIP of the demo model, and its tokenizer."""

from __future__ import annotations

import json
import math

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

SIDE, PATCH = 128, 16
GRID = SIDE // PATCH
LONGEST_CAPTION = 64
"""Tokens."""


def make_tokenizer(corpus: list[str]) -> CLIPTokenizer:
    """A byte-level CLIP tokenizer with a token for every word of the corpus."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        min_frequency=2,
        end_of_word_suffix="</w>",
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    learner.train_from_iterator(corpus, trainer)
    model = json.loads(learner.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges)  # type: ignore[arg-type]  # it takes pairs, though declared str


def make_clip(tokenizer: CLIPTokenizer, width: int = 160, text_width: int = 128) -> CLIPModel:
    """An untrained CLIP of eight layers per tower."""
    config = CLIPConfig(
        vision_config={
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": 8,
            "num_attention_heads": width // 32,
            "hidden_act": "gelu",
            "image_size": SIDE,
            "patch_size": PATCH,
        },
        text_config={
            "hidden_size": text_width,
            "intermediate_size": 2 * text_width,
            "num_hidden_layers": 8,
            "num_attention_heads": 4,
            "hidden_act": "gelu",
            "vocab_size": len(tokenizer),
            "max_position_embeddings": LONGEST_CAPTION,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        projection_dim=128,
    )
    clip = CLIPModel(config)
    # transformers' own initialization is made for wide towers: signals of narrow ones would start near 0.
    for name, parameter in clip.named_parameters():
        if parameter.ndim == 2 and "embedding" not in name:
            nn.init.trunc_normal_(parameter, std=parameter.shape[1] ** -0.5)
    nn.init.trunc_normal_(clip.vision_model.embeddings.patch_embedding.weight, std=(3 * PATCH**2) ** -0.5)
    write_positions(clip, 5.0)
    return clip


@torch.no_grad()
def write_positions(clip: CLIPModel, strength: float) -> None:
    """Encodes every patch's position in its embedding, with a strength to compare with a patch's embedding.

    Position embeddings start weak, and captions of single frames do not strengthen them: such a CLIP cannot tell left
    from right, and its features do not show what moves.
    """
    width = clip.vision_embed_dim
    x, y = torch.meshgrid(*[torch.linspace(-1, 1, GRID)] * 2, indexing="xy")
    waves = [
        wave(math.pi * times * side) for side in (x, y) for times in (0.5, 1.0, 2.0) for wave in (torch.sin, torch.cos)
    ]
    codes = torch.stack(waves, dim=-1).flatten(0, 1)
    directions, _ = torch.linalg.qr(torch.randn(width, codes.shape[1], generator=torch.Generator().manual_seed(0)))
    clip.vision_model.embeddings.position_embedding.weight[1:] += strength / 3**0.5 * codes @ directions.T
