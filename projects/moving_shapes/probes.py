"""Linear probes of the demo CLIP: what a patch shows, where its actor is, and what a word tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.moving_shapes.captions import cover, find_owners
from projects.moving_shapes.frames import COLORS, PLACES, SHAPES, SIZES, UNKNOWN, Frames
from projects.moving_shapes.tiny_clip import GRID
from projects.moving_shapes.told import LOOKS, facts_of, tell_tokens
from r2tuning.backbones.loading import load_files
from r2tuning.datasets import find_benchmark, load_annotations
from r2tuning.features.store import FeatureStore
from r2tuning.model.layers import temporal_endpoints
from r2tuning.synthetic.scenes import Size

_VIDEOS, _SENTENCES = 100, 4000  # that probes are fitted on
_STEPS = 400  # of fitting them

TOLD = {
    "look": range(22),
    "role": range(22, 25),
    "action of the subject": range(25, 36),
    "action of another": range(36, 47),
    "corner": range(47, 52),
    "place": range(52, 62),
}
"""Numbers of the probed facts of words: `FACTS`, but with one set of looks for all actors."""

KINDS: tuple[Sequence[Enum], ...] = (COLORS, SHAPES, SIZES)
GEOMETRY = 5  # x, y, log radius, cosine, sine


@dataclass(frozen=True)
class Probe:
    """A linear map of normalized tokens: ``weight [outputs, D]`` and ``bias [outputs]``."""

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Patches:
    """Tokens of patches with one actor, of empty patches, and of whole frames.

    Attributes:
        tokens: ``[N, Dv + 2]``, normalized.
        shown: ``[N, looks + places]``, what they show.
        known: ``[N, looks + places]``, whether that is clear.
        where: ``[N, 5]``, position, radius and rotation of the actor.
        is_actor: ``[N]``, whether there is one.
    """

    tokens: Tensor
    shown: Tensor
    known: Tensor
    where: Tensor
    is_actor: Tensor


def sample_patches(store: FeatureStore, frames: Frames, layers: int) -> Patches:
    """Tokens of the first videos, with as many empty patches as patches of one actor."""
    chance = torch.Generator().manual_seed(0)
    parts: list[Patches] = []
    for video, vid in enumerate(frames.vids[:_VIDEOS]):
        span = slice(frames.starts[video], frames.starts[video + 1])
        tokens = normalize_tokens(store.video(vid)[:, -layers:].float())  # [T, K, P+1, Dv+2]
        coverage = cover(frames.geometry[span], GRID)
        owners = torch.from_numpy(find_owners(coverage).astype(np.int64))
        actor, bare = owners >= 0, torch.from_numpy((coverage <= 0).all(axis=1))
        bare &= torch.rand(bare.shape, generator=chance) < actor.float().mean() / bare.float().mean()
        frame, _ = actor.nonzero(as_tuple=True)
        attributes = torch.from_numpy(frames.attributes[span].astype(np.int64))[frame, owners[actor], : len(KINDS)]
        where = locate(torch.from_numpy(frames.geometry[span])[frame, owners[actor]])
        looks, sure = (torch.cat(columns, dim=1) for columns in zip(*map(_show, attributes.T, KINDS), strict=True))
        scenes = F.one_hot(torch.from_numpy(frames.places[span].astype(np.int64)), len(PLACES)).float()
        nothing = torch.zeros(int(bare.sum()), len(LOOKS))
        for layer in tokens.unbind(1):
            parts += [
                _collect(layer[:, 1:][actor], looks, torch.zeros(len(looks), len(PLACES)), where, sure),
                _collect(layer[:, 1:][bare], nothing, torch.zeros(len(nothing), len(PLACES))),
                _collect(layer[:, 0], torch.zeros(len(scenes), len(LOOKS)), scenes),
            ]
    return Patches(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Patches)))


def normalize_tokens(features: Tensor) -> Tensor:
    """Features ``[T, K, P+1, Dv]`` with their endpoints, normalized like in the first layer of the video's map."""
    ends = temporal_endpoints(torch.ones(1, len(features), dtype=torch.bool))[0, :, None, None]
    wide = torch.cat([features, ends.expand(*features.shape[:-1], 2)], dim=-1)
    return F.layer_norm(wide, wide.shape[-1:])


def locate(geometry: Tensor) -> Tensor:
    """Center in [-1, 1], logarithm of the radius, and rotation of actors ``[N, 5]``."""
    radius = (geometry[:, 2:3] / Size.MEDIUM.value).log()
    return torch.cat([geometry[:, :2] * 2 - 1, radius, geometry[:, 3:]], dim=1)


def _show(index: Tensor, kind: Sequence[Enum]) -> tuple[Tensor, Tensor]:
    """Which of a kind's looks is shown, and whether that is clear, both ``[N, looks of the kind]``."""
    shown = F.one_hot(index.clamp(min=0), len(kind)).float() * (index >= 0)[:, None]
    return shown, (index != UNKNOWN).float()[:, None].expand_as(shown)


def _collect(
    tokens: Tensor, looks: Tensor, places: Tensor, where: Tensor | None = None, sure: Tensor | None = None
) -> Patches:
    count = len(tokens)
    return Patches(
        tokens,
        torch.cat([looks, places], dim=1),
        torch.cat([torch.ones_like(looks) if sure is None else sure, torch.ones_like(places)], dim=1),
        torch.zeros(count, GEOMETRY) if where is None else where,
        torch.full((count,), where is not None),
    )


def sample_words(store: FeatureStore, annotations: Path, backbone: str, layers: int) -> tuple[Tensor, Tensor]:
    """Normalized tokens ``[N, Dq]`` of sentences, and the facts ``[N, 62]`` that they tell, in the order of `TOLD`."""
    tokenizer = load_files(backbone).tokenizer
    words, facts = [], []
    for annotation in load_annotations(annotations, find_benchmark("moving-shapes"))[:_SENTENCES]:
        values = store.query(str(annotation.qid))[:, -layers:].float()  # [L, K, Dq]
        ends = [end for _, end in tokenizer.encode(annotation.query).offsets][: len(values)]
        told = torch.from_numpy(tell_tokens(annotation.query, ends)).float()
        words.append(F.layer_norm(values, values.shape[-1:]).flatten(0, 1))
        facts.append(told.repeat_interleave(values.shape[1], dim=0))
    truth = torch.cat(facts)
    of_subject, of_another = (truth[:, list(facts_of(f"look of {who}"))] for who in ("the subject", "another"))
    return torch.cat(words), torch.cat([torch.maximum(of_subject, of_another), truth[:, 2 * len(LOOKS) :]], dim=1)


def fit_probe(tokens: Tensor, truth: Tensor, known: Tensor) -> Probe:
    """Logistic regression of ``truth`` from tokens ``[N, D]``, where it is ``known [N, outputs]``."""
    probe = nn.Linear(tokens.shape[1], truth.shape[1])
    nn.init.zeros_(probe.weight)
    nn.init.constant_(probe.bias, -3.0)
    optimizer = torch.optim.AdamW(probe.parameters(), lr=0.03, weight_decay=1e-3)
    chance = torch.Generator().manual_seed(0)
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = 0.03 * (1 - step / _STEPS)
        rows = torch.randint(len(tokens), (8192,), generator=chance)
        losses = F.binary_cross_entropy_with_logits(probe(tokens[rows]), truth[rows], reduction="none")
        loss = (losses * known[rows]).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        guess = probe(tokens) > 0
        hit = (guess & (truth > 0) & (known > 0)).sum() / ((truth > 0) & (known > 0)).sum()
        wrong = (guess & (truth == 0) & (known > 0)).sum() / guess.sum().clamp(min=1)
    print(f"probe of {truth.shape[1]}: loss {loss.item():.3f}, found {hit:.3f}, of what is found wrong {wrong:.3f}")
    return Probe(probe.weight.detach(), probe.bias.detach())


def fit_values(tokens: Tensor, truth: Tensor, others: Tensor) -> Probe:
    """Ridge regression of ``truth [N, outputs]``; other tokens should give about 0."""
    weight = 0.1 * len(tokens) / len(others)
    x = torch.cat([tokens, others * weight**0.5])
    x = torch.cat([x, torch.cat([torch.ones(len(tokens), 1), torch.full((len(others), 1), weight**0.5)])], dim=1)
    y = torch.cat([truth, torch.zeros(len(others), truth.shape[1])])
    solution = torch.linalg.solve(x.T @ x + 1e-3 * len(x) * torch.eye(x.shape[1]), x.T @ y).T
    guess = tokens @ solution[:, :-1].T + solution[:, -1]
    explained = 1 - (guess - truth).square().mean(0) / (truth - truth.mean(0)).square().mean(0)
    print("values: share explained", [round(value, 3) for value in explained.tolist()])
    return Probe(solution[:, :-1].contiguous(), solution[:, -1])
