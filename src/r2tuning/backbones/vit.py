"""CLIP's transformers in plain PyTorch: the outputs of their last K blocks, for images and for sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt
from torch import Tensor


class TowerConfig(BaseModel):
    """Shape of a tower, with the names and defaults of ``config.json`` in Hugging Face layout."""

    model_config = ConfigDict(frozen=True)

    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt = 12
    num_attention_heads: PositiveInt
    hidden_act: Literal["quick_gelu", "gelu"] = "quick_gelu"
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
        """See `TowerConfig.shapes`."""
        width = self.hidden_size
        return {
            "embeddings.class_embedding": (width,),
            "embeddings.patch_embedding.weight": (width, 3, self.patch_size, self.patch_size),
            "embeddings.position_embedding.weight": (self.tokens, width),
            "pre_layrnorm.weight": (width,),  # the published spelling
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
        """See `TowerConfig.shapes`."""
        return {
            "embeddings.token_embedding.weight": (self.vocab_size, self.hidden_size),
            "embeddings.position_embedding.weight": (self.max_position_embeddings, self.hidden_size),
            **super().shapes(),
        }


class _Tower:
    """What both towers share: the transformer blocks.

    Args:
        weights: Named as in ``config.shapes()``, on the device and in the precision to run in.
        config: Shape of the tower.
        layers: K, how many of the last blocks' outputs to return.
    """

    causal = False

    def __init__(self, weights: Mapping[str, Tensor], config: TowerConfig, layers: int) -> None:
        self._weights = weights
        self._config = config
        self._layers = layers

    def _run_blocks(self, tokens: Tensor) -> Tensor:
        """Maps ``[n, L, D]`` to the last K blocks' outputs ``[n, K, L, D]``."""
        outputs = []
        precision = self._weights["encoder.layers.0.mlp.fc1.weight"].dtype  # of the linear layers, bf16 for one engine
        depth = self._config.num_hidden_layers
        for layer in range(depth):
            block = f"encoder.layers.{layer}"
            normalized = self._normalize(f"{block}.layer_norm1", tokens).to(precision)
            tokens = tokens + self._attend(f"{block}.self_attn", normalized)
            normalized = self._normalize(f"{block}.layer_norm2", tokens).to(precision)
            tokens = tokens + self._transform(f"{block}.mlp", normalized)
            if layer >= depth - self._layers:
                outputs.append(tokens)
        return torch.stack(outputs, dim=1)

    def _attend(self, name: str, tokens: Tensor) -> Tensor:
        shape = *tokens.shape[:2], self._config.num_attention_heads, -1
        query, key, value = (
            self._project(f"{name}.{part}_proj", tokens).view(*shape).transpose(1, 2) for part in ("q", "k", "v")
        )
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self._project(f"{name}.out_proj", attended.transpose(1, 2).flatten(2))

    def _transform(self, name: str, tokens: Tensor) -> Tensor:
        inner = self._project(f"{name}.fc1", tokens)
        # In place: these are the largest states of the tower.
        inner = inner.mul_((1.702 * inner).sigmoid_()) if self._config.hidden_act == "quick_gelu" else F.gelu(inner)
        return self._project(f"{name}.fc2", inner)

    def _normalize(self, name: str, tokens: Tensor) -> Tensor:
        scale, shift = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return F.layer_norm(tokens, scale.shape, scale, shift, self._config.layer_norm_eps)

    def _project(self, name: str, tokens: Tensor) -> Tensor:
        return F.linear(tokens, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])


class ImageTower(_Tower):
    """The image tower; arguments as for `_Tower`."""

    def __call__(self, pixels: Tensor) -> Tensor:
        """Runs the tower.

        Args:
            pixels: Normalized RGB ``[n, 3, image_size, image_size]``.

        Returns:
            ``[n, K, P+1, Dv]``, oldest layer first, [CLS] token first, without the final norm.
        """
        kernel = self._weights["embeddings.patch_embedding.weight"]
        patches = F.conv2d(pixels, kernel, stride=kernel.shape[-1]).flatten(2).transpose(1, 2)
        first = self._weights["embeddings.class_embedding"].expand(pixels.shape[0], 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self._weights["embeddings.position_embedding.weight"]
        return self._run_blocks(self._normalize("pre_layrnorm", tokens))


class TextTower(_Tower):
    """The text tower; arguments as for `_Tower`."""

    causal = True

    def __call__(self, ids: Tensor) -> Tensor:
        """Runs the tower.

        Args:
            ids: Token ids, int64 ``[n, L]``. Attention is causal: padding at the end does not change the tokens before.

        Returns:
            ``[n, K, L, Dq]``, oldest layer first, without the final norm.
        """
        positions = self._weights["embeddings.position_embedding.weight"][: ids.shape[1]]
        return self._run_blocks(F.embedding(ids, self._weights["embeddings.token_embedding.weight"]) + positions)


def is_linear(name: str) -> bool:
    """Returns whether a weight belongs to a linear layer of a block.

    Example:
        >>> is_linear("encoder.layers.0.mlp.fc1.bias"), is_linear("encoder.layers.0.layer_norm1.bias")
        (True, False)
    """
    return ".self_attn." in name or ".mlp." in name
