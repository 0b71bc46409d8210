"""CLIP's transformer in plain PyTorch: what its last K blocks put out, for images and for sentences."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor


class TowerConfig(BaseModel):
    """Shape of a tower, by the names and defaults that ``config.json`` has in Hugging Face layout."""

    model_config = ConfigDict(frozen=True)

    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt = 12
    num_attention_heads: PositiveInt
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"
    layer_norm_eps: PositiveFloat = 1e-5

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight that the last blocks' outputs need."""
        width, inner = self.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_hidden_layers):
            block = f"encoder.layers.{layer}"
            for norm in ("layer_norm1", "layer_norm2"):
                shapes |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
            linear = {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
            linear |= {"mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}
            for name, shape in linear.items():
                shapes |= {f"{block}.{name}.weight": shape, f"{block}.{name}.bias": shape[:1]}
        return shapes


class ImageTowerConfig(TowerConfig):
    """Shape of the image tower."""

    hidden_size: PositiveInt = 768
    intermediate_size: PositiveInt = 3072
    num_attention_heads: PositiveInt = 12
    image_size: PositiveInt = 224
    patch_size: PositiveInt = 32

    @property
    def tokens(self) -> int:
        """P + 1."""
        return int((self.image_size // self.patch_size) ** 2 + 1)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight that the last blocks' outputs need."""
        width = self.hidden_size
        return {
            "embeddings.class_embedding": (width,),
            "embeddings.patch_embedding.weight": (width, 3, self.patch_size, self.patch_size),
            "embeddings.position_embedding.weight": (self.tokens, width),
            "pre_layrnorm.weight": (width,),  # so it is called in the file
            "pre_layrnorm.bias": (width,),
            **super().shapes(),
        }


class TextTowerConfig(TowerConfig):
    """Shape of the text tower."""

    hidden_size: PositiveInt = 512
    intermediate_size: PositiveInt = 2048
    num_attention_heads: PositiveInt = 8
    vocab_size: PositiveInt = 49408
    max_position_embeddings: PositiveInt = 77

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight that the last blocks' outputs need."""
        return {
            "embeddings.token_embedding.weight": (self.vocab_size, self.hidden_size),
            "embeddings.position_embedding.weight": (self.max_position_embeddings, self.hidden_size),
            **super().shapes(),
        }


class ImageTower:
    """The image tower.

    Args:
        weights: By the names of `ImageTowerConfig.shapes`, on the device and in the precision to run in. It takes those
            of its blocks out of the mapping.
        config: Its shape.
        layers: K, how many of the last blocks' outputs to hand out.
    """

    def __init__(self, weights: MutableMapping[str, Tensor], config: ImageTowerConfig, layers: int) -> None:
        self._weights = weights
        self._config = config
        self._blocks = Blocks(weights, config, layers)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Runs it.

        Args:
            pixels: Normalized RGB ``[n, 3, image_size, image_size]``.

        Returns:
            ``[n, K, P+1, Dv]``, oldest layer first, [CLS] token first; no final norm.
        """
        weights = self._weights
        patches = F.conv2d(pixels, weights["embeddings.patch_embedding.weight"], stride=self._config.patch_size)
        first = weights["embeddings.class_embedding"].expand(len(pixels), 1, -1)
        tokens = torch.cat([first, patches.flatten(2).transpose(1, 2)], dim=1)
        tokens = tokens + weights["embeddings.position_embedding.weight"]
        scale, shift = weights["pre_layrnorm.weight"], weights["pre_layrnorm.bias"]
        return self._blocks(F.layer_norm(tokens, scale.shape, scale, shift, self._config.layer_norm_eps))


class TextTower:
    """The text tower.

    Args:
        weights: By the names of `TextTowerConfig.shapes`, on the device and in the precision to run in. It takes those
            of its blocks out of the mapping.
        config: Its shape.
        layers: K, how many of the last blocks' outputs to hand out.
    """

    def __init__(self, weights: MutableMapping[str, Tensor], config: TextTowerConfig, layers: int) -> None:
        self._words = weights["embeddings.token_embedding.weight"]
        self._places = weights["embeddings.position_embedding.weight"]
        self._blocks = Blocks(weights, config, layers, causal=True)

    def __call__(self, ids: Tensor) -> Tensor:
        """Runs it.

        Args:
            ids: Numbers of tokens, int64 ``[n, L]``; what fills the end of a shorter sentence cannot reach its tokens.

        Returns:
            ``[n, K, L, Dq]``, oldest layer first; no final norm.
        """
        return self._blocks(F.embedding(ids, self._words) + self._places[: ids.shape[1]])


class Blocks:
    """The transformer blocks of a tower.

    Args:
        weights: By the names of `TowerConfig.shapes`; those of the blocks are taken out.
        config: Shape of the tower.
        layers: K.
        causal: Whether a token sees only those before it.
    """

    def __init__(
        self, weights: MutableMapping[str, Tensor], config: TowerConfig, layers: int, *, causal: bool = False
    ) -> None:
        self._blocks = [merge_projections(weights, layer) for layer in range(config.num_hidden_layers)]
        self._config = config
        self._layers = layers
        self._causal = causal

    def __call__(self, tokens: Tensor) -> Tensor:
        """``[n, L, D]`` in, the last K blocks' outputs ``[n, K, L, D]`` out."""
        outputs = []
        for left, block in zip(reversed(range(len(self._blocks))), self._blocks, strict=True):
            tokens = tokens + self._attend(block, self._normalize(block, "layer_norm1", tokens))
            tokens = tokens + self._transform(block, self._normalize(block, "layer_norm2", tokens))
            if left < self._layers:
                outputs.append(tokens)
        return torch.stack(outputs, dim=1)

    def _normalize(self, block: Mapping[str, Tensor], name: str, tokens: Tensor) -> Tensor:
        scale, shift = block[f"{name}.weight"], block[f"{name}.bias"]
        normalized = F.layer_norm(tokens, scale.shape, scale, shift, self._config.layer_norm_eps)
        return normalized.to(block["qkv.weight"].dtype)

    def _attend(self, block: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        projected = F.linear(tokens, block["qkv.weight"], block["qkv.bias"])
        heads = projected.view(*tokens.shape[:2], 3, self._config.num_attention_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self._causal)
        joined = attended.transpose(1, 2).flatten(2)
        return F.linear(joined, block["self_attn.out_proj.weight"], block["self_attn.out_proj.bias"])

    def _transform(self, block: Mapping[str, Tensor], tokens: Tensor) -> Tensor:
        inner = F.linear(tokens, block["mlp.fc1.weight"], block["mlp.fc1.bias"])
        # In place: the inner states are the largest that the tower makes.
        inner = inner.mul_((1.702 * inner).sigmoid_()) if self._config.hidden_act == "quick_gelu" else F.gelu(inner)
        return F.linear(inner, block["mlp.fc2.weight"], block["mlp.fc2.bias"])


def is_linear(name: str) -> bool:
    """Whether this weight is of a linear layer of a block.

    Example:
        >>> is_linear("encoder.layers.0.mlp.fc1.bias"), is_linear("encoder.layers.0.layer_norm1.bias")
        (True, False)
    """
    return ".self_attn." in name or ".mlp." in name


def is_merged(name: str) -> bool:
    """Whether `merge_projections` copies this weight into a larger one.

    Example:
        >>> is_merged("encoder.layers.0.self_attn.q_proj.bias"), is_merged("encoder.layers.0.self_attn.out_proj.bias")
        (True, False)
    """
    return any(f".self_attn.{kind}_proj." in name for kind in ("q", "k", "v"))


def merge_projections(weights: MutableMapping[str, Tensor], layer: int) -> dict[str, Tensor]:
    """Takes out the weights of a block, its three projections of queries, keys and values in one, ``qkv``."""
    prefix = f"encoder.layers.{layer}."
    names = [name for name in weights if name.startswith(prefix)]
    block = {name.removeprefix(prefix): weights.pop(name) for name in names}
    for kind in ("weight", "bias"):
        block[f"qkv.{kind}"] = torch.cat([block.pop(f"self_attn.{name}_proj.{kind}") for name in ("q", "k", "v")])
    return block
