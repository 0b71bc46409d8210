"""A tiny random CLIP in Hugging Face layout, so that tests need no download."""

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer


def tokenizer() -> CLIPTokenizer:
    """A byte-level tokenizer that knows single characters."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[])


def save_tiny_clip(
    folder: Path,
    *,
    seed: int = 0,
    video_width: int = 32,
    query_width: int = 16,
    depth: int = 5,
    image_size: int = 224,
    patch: int = 56,
) -> Path:
    """Writes a seeded CLIP and returns its folder; the defaults give 17 tokens a frame."""
    words = tokenizer()
    tower = {"num_hidden_layers": depth, "num_attention_heads": 2}
    config = CLIPConfig(
        vision_config={
            **tower,
            "hidden_size": video_width,
            "intermediate_size": 2 * video_width,
            "image_size": image_size,
            "patch_size": patch,
        },
        text_config={
            **tower,
            "hidden_size": query_width,
            "intermediate_size": 2 * query_width,
            "vocab_size": len(words),
            "max_position_embeddings": 77,
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.eos_token_id,
        },
        projection_dim=8,
    )
    torch.manual_seed(seed)
    CLIPModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder
