"""Training batches of the demo's CLIP: frames, of which some patches are seen, and sentences, with their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from random import Random

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from projects.moving_shapes.captions import caption_frames
from projects.moving_shapes.frames import COLORS, SHAPES, SIZES, Frames
from projects.moving_shapes.tiny_clip import GRID, LONGEST_CAPTION, SIDE
from projects.moving_shapes.told import FACTS, tell_tokens
from r2tuning.types import CLIP_PREPROCESSING

NAMED: tuple[Sequence[Enum], ...] = (COLORS, SHAPES, SIZES)
_KEPT = 28  # patches of a frame that are seen, except in the last steps
_WHOLE_FROM = 0.92  # of the steps


@dataclass(frozen=True)
class Settings:
    """How the CLIP is trained.

    Attributes:
        steps: Number of steps.
        seeing: The first of them, in which the vision tower alone is trained.
        batch: Frames per step.
        captions: Sentences about frames per step.
        looks: Phrases about single actors per step.
        queries: Queries of the train split per step, of which only the words are trained.
        lr: Highest learning rate.
        warmup: Steps until it is reached.
        seed: Of weights and batches.
    """

    steps: int = 4400
    seeing: int = 1600
    batch: int = 64
    captions: int = 40
    looks: int = 48
    queries: int = 40
    lr: float = 2e-3
    warmup: int = 300
    seed: int = 0


class Captioned(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Batches by step, starting with step ``first``."""

    def __init__(
        self, frames: Frames, queries: Sequence[str], tokenizer: CLIPTokenizer, settings: Settings, first: int
    ) -> None:
        self.frames, self.queries, self.tokenizer = frames, queries, tokenizer
        self.settings, self.first = settings, first

    def __len__(self) -> int:
        return self.settings.steps - self.first

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        chance = Random(f"captions {settings.seed} {self.first + index}")
        indices = sorted(chance.sample(range(len(self.frames.places)), settings.batch))
        batch = caption_frames(chance, self.frames, indices, settings.captions, settings.looks, GRID)
        # A little noise and brightness: videos are compressed, drawn frames are not.
        noise = torch.Generator().manual_seed(chance.getrandbits(32))
        pixels = torch.from_numpy(self.frames.pixels[indices]).float()
        grain = torch.randn(pixels.shape[1:], generator=noise).roll(chance.randrange(SIDE), -1)
        pixels += grain * chance.uniform(0, 5)
        pixels *= 0.93 + 0.14 * torch.rand(len(pixels), 1, 1, 1, generator=noise)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_PREPROCESSING.mean, CLIP_PREPROCESSING.std))
        whole = self.first + index >= settings.steps * _WHOLE_FROM
        kept = choose_patches(torch.from_numpy(batch.touched), GRID**2 if whole else _KEPT, noise)
        rows = torch.arange(len(pixels))[:, None]
        attributes = torch.from_numpy(self.frames.attributes[indices]).long()
        owners = torch.from_numpy(batch.owners)[rows, kept].long()
        tensors = {
            "pixels": (pixels.clamp_(0, 255).div_(255) - mean) / std,
            "kept": kept,
            "names": torch.where(owners[..., None] < 0, -1, attributes[rows, owners, : len(NAMED)]),
            "geometry": torch.from_numpy(self.frames.geometry[indices]),
            "owners": owners,
        }
        if self.first + index < settings.seeing:
            return tensors
        told = [*chance.sample(self.queries, settings.queries), *batch.captions]
        sentences, facts = _tell(self.tokenizer, told)
        return tensors | {
            "sentences": sentences,
            "facts": facts,
            "captions": _tokenize(self.tokenizer, batch.captions),
            "looks": _tokenize(self.tokenizer, batch.looks),
            "alone": torch.from_numpy(batch.alone),
            "caption_truth": torch.from_numpy(batch.caption_truth),
            "look_truth": torch.from_numpy(batch.look_truth)[rows, kept],
        }


def choose_patches(touched: Tensor, count: int, noise: torch.Generator) -> Tensor:
    """Indices of ``count`` patches of each frame, sorted; patches that show actors come first."""
    return (touched.float() + torch.rand(touched.shape, generator=noise)).topk(count).indices.sort().values


def _tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    rows = [row[:LONGEST_CAPTION] for row in tokenizer(texts)["input_ids"]]
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return tokens


def _tell(tokenizer: CLIPTokenizer, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Tokens ``[texts, words]`` and what they tell, ``[texts, words, facts]``."""
    tokens = _tokenize(tokenizer, texts)
    facts = torch.zeros(*tokens.shape, len(FACTS))
    for row, text, spans in zip(
        facts, texts, tokenizer(texts, return_offsets_mapping=True)["offset_mapping"], strict=True
    ):
        told = torch.from_numpy(tell_tokens(text, [end for _, end in spans[:LONGEST_CAPTION]]))
        row[: len(told)] = told
    return tokens, facts
