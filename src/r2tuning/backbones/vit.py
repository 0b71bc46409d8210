"""Transformers of images and sentences in plain PyTorch: the outputs of their last K blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat
from torch import Tensor

Size = Annotated[int, Field(ge=1, le=10**6)]
"""A width or a count; more would be a claim that takes all memory before it is checked."""

Activation = Literal["quick_gelu", "gelu", "gelu_pytorch_tanh"]


class TowerConfig(BaseModel):
    """Shape of a tower, with the names of ``config.json`` in Hugging Face layout and CLIP's defaults."""

    model_config = ConfigDict(frozen=True)

    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Annotated[int, Field(ge=1, le=1000)] = 12
    num_attention_heads: Size
    hidden_act: Activation = "quick_gelu"
    layer_norm_eps: PositiveFloat = 1e-5

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the name and shape of every weight that the tower uses."""
        width, inner = self.hidden_size, self.intermediate_size
        block: dict[str, tuple[int, ...]] = {
            "layer_norm1": (width,),
            "self_attn.q_proj": (width, width),
            "self_attn.k_proj": (width, width),
            "self_attn.v_proj": (width, width),
            "self_attn.out_proj": (width, width),
            "layer_norm2": (width,),
            "mlp.fc1": (inner, width),
            "mlp.fc2": (width, inner),
        }
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(self.num_hidden_layers):
            for name, shape in block.items():
                full = f"encoder.layers.{layer}.{name}"
                shapes |= {f"{full}.weight": shape, f"{full}.bias": shape[:1]}
        return shapes


class ImageTowerConfig(TowerConfig):
    """Shape of an image tower."""

    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_attention_heads: Size = 12
    image_size: Size = 224
    patch_size: Size = 32

    @property
    def patches(self) -> int:
        """P."""
        return int((self.image_size // self.patch_size) ** 2)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `TowerConfig.shapes`."""
        return {
            "embeddings.patch_embedding.weight": (self.hidden_size, 3, self.patch_size, self.patch_size),
            "embeddings.position_embedding.weight": (self.patches, self.hidden_size),
            **super().shapes(),
        }


class TextTowerConfig(TowerConfig):
    """Shape of a text tower."""

    hidden_size: Size = 512
    intermediate_size: Size = 2048
    num_attention_heads: Size = 8
    vocab_size: Size = 49408
    max_position_embeddings: Size = 77

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `TowerConfig.shapes`."""
        return {
            "embeddings.token_embedding.weight": (self.vocab_size, self.hidden_size),
            "embeddings.position_embedding.weight": (self.max_position_embeddings, self.hidden_size),
            **super().shapes(),
        }


class Tower(ABC):
    """What all towers share: the transformer blocks.

    Args:
        weights: Named as in ``config.shapes()``, on the device and in the precision to run in.
        config: Shape of the tower.
        layers: K, how many of the last blocks' outputs to return.
    """

    causal: ClassVar[bool] = False

    def __init__(self, weights: Mapping[str, Tensor], config: TowerConfig, layers: int) -> None:
        self.weights = weights
        self.config = config
        self.layers = layers

    @abstractmethod
    def __call__(self, values: Tensor) -> Tensor:
        """Runs the tower on pixels or token ids."""

    def _run_blocks(self, tokens: Tensor) -> Tensor:
        """Maps ``[n, L, D]`` to the last K blocks' outputs ``[n, K, L, D]``."""
        outputs = []
        precision = self.weights["encoder.layers.0.mlp.fc1.weight"].dtype  # of the linear layers, bf16 for one engine
        depth = self.config.num_hidden_layers
        for layer in range(depth):
            block = f"encoder.layers.{layer}"
            normalized = self._normalize(f"{block}.layer_norm1", tokens).to(precision)
            tokens = tokens + self._attend(f"{block}.self_attn", normalized)
            normalized = self._normalize(f"{block}.layer_norm2", tokens).to(precision)
            inner = activate(self._project(f"{block}.mlp.fc1", normalized), self.config.hidden_act)
            tokens = tokens + self._project(f"{block}.mlp.fc2", inner)
            if layer >= depth - self.layers:
                outputs.append(tokens)
        return torch.stack(outputs, dim=1)

    def _attend(self, name: str, tokens: Tensor) -> Tensor:
        shape = *tokens.shape[:2], self.config.num_attention_heads, -1
        query, key, value = (
            self._project(f"{name}.{part}_proj", tokens).view(*shape).transpose(1, 2) for part in ("q", "k", "v")
        )
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self._project(f"{name}.out_proj", attended.transpose(1, 2).flatten(2))

    def _normalize(self, name: str, tokens: Tensor) -> Tensor:
        return apply_norm(self.weights, name, tokens, self.config.layer_norm_eps)

    def _project(self, name: str, tokens: Tensor) -> Tensor:
        return apply_linear(self.weights, name, tokens)

    def _embed_patches(self, pixels: Tensor) -> Tensor:
        """Maps ``[n, 3, side, side]`` to patches ``[n, P, D]``, row by row, without positions."""
        kernel = self.weights["embeddings.patch_embedding.weight"]
        shift = self.weights.get("embeddings.patch_embedding.bias")
        return F.conv2d(pixels, kernel, shift, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)


class TextTower(Tower):
    """A text tower; arguments as for `Tower`."""

    def __call__(self, ids: Tensor) -> Tensor:
        """Maps token ids, int64 ``[n, L]``, to ``[n, K, L, Dq]``, oldest layer first, without the final norm."""
        positions = self.weights["embeddings.position_embedding.weight"][: ids.shape[1]]
        return self._run_blocks(F.embedding(ids, self.weights["embeddings.token_embedding.weight"]) + positions)


def activate(inner: Tensor, kind: Activation) -> Tensor:
    """Applies a tower's activation; may change its input, which is the largest state of a tower.

    Example:
        >>> activate(torch.tensor([1.0]), "quick_gelu")
        tensor([0.8458])
    """
    if kind == "quick_gelu":
        return inner.mul_((1.702 * inner).sigmoid_())
    return F.gelu(inner, approximate="tanh" if kind == "gelu_pytorch_tanh" else "none")


def apply_linear(weights: Mapping[str, Tensor], name: str, tokens: Tensor) -> Tensor:
    """Applies the linear layer of this name."""
    return F.linear(tokens, weights[f"{name}.weight"], weights[f"{name}.bias"])


def apply_norm(weights: Mapping[str, Tensor], name: str, tokens: Tensor, eps: float) -> Tensor:
    """Applies the layer normalization of this name."""
    scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return F.layer_norm(tokens, scale.shape, scale, shift, eps)


def is_linear(name: str) -> bool:
    """Returns whether a weight belongs to a linear layer of a block.

    Example:
        >>> is_linear("encoder.layers.0.mlp.fc1.bias"), is_linear("encoder.layers.0.layer_norm1.bias")
        (True, False)
    """
    return ".self_attn." in name or ".mlp." in name
