"""Small seeded models and tiny CLIPs, so that tests need no download."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, Unigram
from torch import Generator, Tensor, nn, randn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, SiglipConfig, SiglipModel

from r2tuning.backbones import registry
from r2tuning.backbones.clip import ClipBackbone
from r2tuning.checkpoints import load_config, load_state, save_checkpoint
from r2tuning.checkpoints import resolve as names
from r2tuning.checkpoints.folder import CheckpointConfig, Provenance
from r2tuning.checkpoints.published import DEMO_FOLDER, find_published
from r2tuning.decoding import DecodingConfig
from r2tuning.model import R2Config, R2Tuning
from r2tuning.types import Engine


class MeanClip(ClipBackbone):
    """A CLIP whose token 0 of a frame is the mean of its patches."""

    summary = "mean"

    def make_image_tower(self, engine: Engine) -> Callable[[Tensor], Tensor]:
        tower = super().make_image_tower(engine)

        def run(pixels: Tensor) -> Tensor:
            patches = tower(pixels)[:, :, 1:]
            return torch.cat([patches.mean(dim=2, keepdim=True), patches], dim=2)

        return run


@contextmanager
def float64() -> Iterator[None]:
    """New tensors are float64, so that the rounding that LayerNorms of few channels amplify hides no difference."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@st.composite
def configs(draw: st.DrawFn, **fixed: object) -> R2Config:
    """Shapes of small models of both families; ``fixed`` fields are taken as they are."""
    family = draw(st.sampled_from(["grounding", "saliency"]))
    heads = draw(st.sampled_from([1, 2]))
    shape = {
        "family": family,
        "video_width": draw(st.integers(3, 8)),
        "query_width": draw(st.integers(3, 8)),
        "layers": draw(st.integers(1, 4)),
        "hidden": 2 * heads * draw(st.integers(2, 8 // heads)),
        "heads": heads,
        "strides": (1, 2, 4, 8)[: draw(st.integers(1, 4))] if family == "grounding" else (1,),
        "form": draw(st.sampled_from(["released", "paper"])),
    }
    return R2Config(**shape | fixed)


def small_model(config: R2Config, seed: int) -> R2Tuning:
    """A model in evaluation mode with seeded weights."""
    generator = Generator().manual_seed(seed)
    model = R2Tuning(config).eval()
    norms = {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, nn.LayerNorm)}
    for name, parameter in model.named_parameters():
        noise = randn(parameter.shape, generator=generator)
        if name in norms or name == "level_scale":
            parameter.data = 1 + 0.1 * noise
        elif name.endswith("gate"):
            parameter.data = noise
        elif parameter.dim() == 1:
            parameter.data = 0.1 * noise
        else:
            parameter.data = noise / parameter[0].numel() ** 0.5
    return model


def features(config: R2Config, batch: int, frames: int, patches: int, tokens: int, seed: int) -> tuple[Tensor, Tensor]:
    """Seeded video ``[B, K, T, P+1, Dv]`` and query ``[B, K, L, Dq]``."""
    generator = Generator().manual_seed(seed)
    video = randn(batch, config.layers, frames, patches + 1, config.video_width, generator=generator)
    query = randn(batch, config.layers, tokens, config.query_width, generator=generator)
    return video, query


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


def siglip_tokenizer(version: int) -> Tokenizer:
    """A tokenizer of single characters with the parts of SigLIP's (SentencePiece, T5) or SigLIP 2's (BPE, Gemma)."""
    letters = sorted({chr(code) for code in range(33, 127)})
    space = "▁"
    if version == 1:
        pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (space, -2.0), *((letter, -3.0) for letter in letters)]
        words = Tokenizer(Unigram([*pieces, (f"{space}a", -1.0), (f"{space}do", -1.5), ("g", -2.5)], 2, False))
        words.pre_tokenizer = pre_tokenizers.Metaspace(space, "always")
        words.decoder = decoders.Metaspace(space, "always")
        end = "</s>"
    else:
        tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", space, *letters, "do", "dog", f"{space}a"]
        tokens += [f"<0x{byte:02X}>" for byte in range(256)]
        vocabulary = {token: index for index, token in enumerate(tokens)}
        merges = [("d", "o"), ("do", "g"), (space, "a")]
        words = Tokenizer(BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
        words.normalizer = normalizers.Replace(" ", space)
        words.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        words.decoder = decoders.Sequence([decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse()])
        end = "<eos>"
    words.add_special_tokens(["<pad>", end])
    words.post_processor = processors.TemplateProcessing(f"$A {end}", special_tokens=[(end, 1)])
    return words


def save_tiny_siglip(
    folder: Path,
    *,
    version: int = 2,
    seed: int = 0,
    video_width: int = 32,
    query_width: int = 16,
    depth: int = 5,
    image_size: int = 64,
    patch: int = 16,
) -> Path:
    """Writes a seeded SigLIP of fixed resolution and returns its folder; the defaults give 17 tokens a frame."""
    words = siglip_tokenizer(version)
    tower = {"num_hidden_layers": depth, "num_attention_heads": 2}
    config = SiglipConfig(
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
            "vocab_size": words.get_vocab_size(),
            "projection_size": video_width,
            **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 1),
        },
    )
    torch.manual_seed(seed)
    model = SiglipModel(config)
    # transformers starts biases at 0, which would hide that one is missing.
    for parameter in model.parameters():
        if parameter.ndim == 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    words.save(str(folder / "tokenizer.json"))
    processor = {
        "do_resize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "resample": 2 if version == 2 else 3,
    }
    processor |= {"size": {"height": image_size, "width": image_size}, "image_processor_type": "SiglipImageProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def save_tiny_model(
    folder: Path, *, family: str = "grounding", window: float = 150, fps: float = 1, seed: int = 0
) -> Path:
    """Writes a seeded CLIP to ``folder/clip`` and a checkpoint for it to ``folder/model``; returns the latter."""
    clip = save_tiny_clip(folder / "clip", seed=seed)
    model = R2Config(family=family, video_width=32, query_width=16, layers=3, hidden=16, heads=2)
    torch.manual_seed(seed)
    state = R2Tuning(model).state_dict()
    # Gates start at zero, which would hide mistakes in what they let through.
    state = {name: value + 0.3 * torch.randn_like(value) if "gate" in name else value for name, value in state.items()}
    config = CheckpointConfig(
        name="tiny",
        model=model,
        backbone=str(clip),
        fps=fps,
        window=window,
        decoding=DecodingConfig(nms="normal" if family == "grounding" else "none"),
        provenance=Provenance(source="seeded", created_with="tests"),
    )
    save_checkpoint(folder / "model", state, config)
    return folder / "model"


def place_demo(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Makes ``demo`` stand for a tiny seeded model, kept as the real one is: in fp16. Returns its checkpoint folder."""
    head = save_tiny_model(folder)
    config = load_config(head).model_copy(update={"name": "demo", "backbone": "r2tuning/demo"})
    save_checkpoint(head, {name: value.half() for name, value in load_state(head).items()}, config)
    clip = folder / "clip"
    CLIPModel.from_pretrained(clip).half().save_pretrained(clip)
    placed = [replace(known, folder=clip) if known.name == "demo" else known for known in registry.KNOWN_BACKBONES]
    monkeypatch.setattr(registry, "KNOWN_BACKBONES", tuple(placed))
    monkeypatch.setattr(names, "DEMO_FOLDER", head)
    return head


def place_published(name: str) -> Path:
    """Puts the demo's weights where a published checkpoint is cached, which cannot be here; returns their file."""
    shutil.copytree(DEMO_FOLDER, find_published(name).cached_folder)
    return find_published(name).cached_folder / "model.safetensors"
