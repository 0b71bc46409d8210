"""SigLIP and SigLIP 2 of fixed resolution, in Hugging Face layout.

**No [CLS].** SigLIP pools the patches of its last block with an attention head. Token 0 of a frame is here the mean of
the patches, in each of the K layers. The head was trained on the last block alone, after the final norm; on earlier
blocks its output has no meaning. The mean exists in every layer and lies in the space of its patches, as [CLS] does in
CLIP. The joint vector of a frame still comes from the head.

**Padding is text.** The text tower attends in both directions and was trained on sentences padded to 64 tokens without
a mask, so the padding changes the tokens before it. It runs that way here, and a sentence's own tokens are returned.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from tokenizers import Regex, Tokenizer, models, normalizers
from torch import Tensor

from r2tuning.backbones.base import Backbone, clean
from r2tuning.backbones.loading import IMAGE, TEXT, BackboneFiles
from r2tuning.backbones.vit import (
    Activation,
    ImageTowerConfig,
    Size,
    TextTower,
    TextTowerConfig,
    Tower,
    activate,
    apply_linear,
    apply_norm,
)
from r2tuning.errors import BackboneError
from r2tuning.types import Preprocessing

_HEAD = f"{IMAGE}head"


class SiglipImageConfig(ImageTowerConfig):
    """Shape of SigLIP's image tower, with SigLIP's defaults."""

    patch_size: Size = 16
    hidden_act: Activation = "gelu_pytorch_tanh"
    layer_norm_eps: PositiveFloat = 1e-6

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `TowerConfig.shapes`."""
        return {**super().shapes(), "embeddings.patch_embedding.bias": (self.hidden_size,)}


class SiglipTextConfig(TextTowerConfig):
    """Shape of SigLIP's text tower, with SigLIP's defaults."""

    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_attention_heads: Size = 12
    vocab_size: Size = 32000
    max_position_embeddings: Size = 64
    hidden_act: Activation = "gelu_pytorch_tanh"
    layer_norm_eps: PositiveFloat = 1e-6
    projection_size: Size | None = None


class SiglipImageTower(Tower):
    """SigLIP's image tower; arguments as for `Tower`."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Maps normalized RGB ``[n, 3, size, size]`` to ``[n, K, P+1, Dv]``, oldest layer and patches' mean first."""
        patches = self._run_blocks(self._embed_patches(pixels) + self.weights["embeddings.position_embedding.weight"])
        return torch.cat([patches.mean(dim=2, keepdim=True), patches], dim=2)


class SiglipBackbone(Backbone):
    """A frozen SigLIP; see `Backbone`."""

    image_config = SiglipImageConfig
    text_config = SiglipTextConfig
    image_tower = SiglipImageTower
    text_tower = TextTower
    summary = "mean"
    preprocessing_defaults = Preprocessing(fit="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))

    def __init__(self, files: BackboneFiles, **options: Any) -> None:
        patches = files.map_weights().get(f"{IMAGE}embeddings.patch_embedding.weight")
        if patches is not None and patches.ndim == 2:
            raise BackboneError(
                f"{files.name}: takes images of any shape (NaFlex), which is not supported; give a SigLIP 2 of fixed "
                f"resolution, such as google/siglip2-base-patch16-224"
            )
        super().__init__(files, **options)
        self._padding = _prepare_tokenizer(files)

    def split_words(self, query: str) -> list[tuple[str, slice]]:
        """See `Backbone.split_words`; words are separated by spaces."""
        text = clean(query)
        encoding = self._files.tokenizer.encode(text)
        spans = list(zip(encoding.offsets, encoding.special_tokens_mask, strict=True))[: self.max_query_tokens - 1]

        def find_word(token: tuple[int, tuple[tuple[int, int], int]]) -> int | None:
            (start, stop), added = token[1]
            seen = text[start:stop].rstrip()
            # A token may begin with the space before its word: its last letter decides.
            return None if added or not seen else len(text[: start + len(seen)].split())

        words = []
        for word, group in groupby(enumerate(spans), key=find_word):
            positions = [position for position, _ in group]
            if word is not None:
                words.append((text.split()[word - 1], slice(positions[0], positions[-1] + 1)))
        return words

    def _pool_frames(self, tokens: Tensor) -> Tensor:
        weights, eps = self._joint, self.image.layer_norm_eps
        patches = apply_norm(weights, f"{IMAGE}post_layernorm", tokens[:, 1:], eps)
        probe = weights[f"{_HEAD}.probe"].expand(len(tokens), -1, -1)
        thirds = (weights[f"{_HEAD}.attention.in_proj_{part}"].chunk(3) for part in ("weight", "bias"))
        query, key, value = (
            F.linear(x, weight, bias).view(*x.shape[:2], self.image.num_attention_heads, -1).transpose(1, 2)
            for x, weight, bias in zip((probe, patches, patches), *thirds, strict=True)
        )
        attended = F.scaled_dot_product_attention(query, key, value)[:, :, 0].flatten(1)
        pooled = apply_linear(weights, f"{_HEAD}.attention.out_proj", attended)
        inner = apply_linear(weights, f"{_HEAD}.mlp.fc1", apply_norm(weights, f"{_HEAD}.layernorm", pooled, eps))
        return pooled + apply_linear(weights, f"{_HEAD}.mlp.fc2", activate(inner, self.image.hidden_act))

    def _pool_queries(self, tokens: Tensor, lengths: Sequence[int]) -> Tensor:
        del lengths  # the last position is pooled, whether it is padding or not
        last = apply_norm(self._joint, f"{TEXT}final_layer_norm", tokens[:, -1], self.text.layer_norm_eps)
        return apply_linear(self._joint, f"{TEXT}head", last)

    def _pad(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([[*ids, *[self._padding] * (self.max_query_tokens - len(ids))] for ids in tokens])

    def _joint_shapes(self) -> dict[str, tuple[int, ...]]:
        width, inner, query = self.video_width, self.image.intermediate_size, self.query_width
        joint = getattr(self.text, "projection_size", None) or query
        linear: dict[str, tuple[int, ...]] = {
            f"{IMAGE}post_layernorm": (width,),
            f"{_HEAD}.layernorm": (width,),
            f"{_HEAD}.attention.out_proj": (width, width),
            f"{_HEAD}.mlp.fc1": (inner, width),
            f"{_HEAD}.mlp.fc2": (width, inner),
            f"{TEXT}final_layer_norm": (query,),
            f"{TEXT}head": (joint, query),
        }
        shapes: dict[str, tuple[int, ...]] = {
            f"{_HEAD}.probe": (1, 1, width),
            f"{_HEAD}.attention.in_proj_weight": (3 * width, width),
            f"{_HEAD}.attention.in_proj_bias": (3 * width,),
        }
        for name, shape in linear.items():
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        return shapes


def _prepare_tokenizer(files: BackboneFiles) -> int:
    """Makes the tokenizer read text as in training, which files often leave to the caller; returns the padding token.

    Both kinds saw lower case only. SigLIP's own (a SentencePiece unigram) saw no punctuation either, and pads with its
    end token; SigLIP 2's, of Gemma, pads with ``<pad>``.
    """
    tokenizer: Tokenizer = files.tokenizer
    steps: list[normalizers.Normalizer] = [normalizers.Lowercase()]
    name = "<pad>"
    if isinstance(tokenizer.model, models.Unigram):
        steps += [
            normalizers.Replace(Regex("[" + "".join(f"\\{mark}" for mark in string.punctuation) + "]"), ""),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Strip(),
        ]
        name = "</s>"
    if tokenizer.normalizer is not None:
        steps.append(tokenizer.normalizer)
    tokenizer.normalizer = normalizers.Sequence(steps)
    padding = tokenizer.token_to_id(name)
    if padding is None:
        raise BackboneError(
            f"{files.name}: its tokenizer has no {name} to pad with; use the tokenizer of this backbone"
        )
    return int(padding)
