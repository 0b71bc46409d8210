"""Trains the demo model's CLIP on drawn frames: which sentences are true of which frames, and of which patches."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from demo.captions import caption_frames
from demo.frames import Frames, draw_frames
from r2tuning.backbone.loading import CLIP_MEAN, CLIP_STD
from r2tuning.cli.progress import show_progress

SIDE, PATCH = 128, 16
GRID = SIDE // PATCH
_LONGEST_CAPTION = 64  # tokens
_WHOLE_COSINE = 2600  # steps
_LOG_EVERY, _SAVE_EVERY = 50, 200  # steps


@dataclass(frozen=True)
class Settings:
    """How the CLIP is trained.

    Attributes:
        steps: Of the optimizer.
        batch: Frames per step.
        captions: Sentences about frames per step.
        looks: Phrases about single actors per step.
        lr: Highest learning rate.
        warmup: Steps over which it rises.
        seed: Of the weights, and of what is drawn.
    """

    steps: int = 1600
    batch: int = 64
    captions: int = 64
    looks: int = 64
    lr: float = 1.2e-3
    warmup: int = 200
    seed: int = 0


class Trainee(nn.Module):
    """The CLIP, and what is only needed to train it.

    Besides the sentences, the tokens of the actors' centres are asked for position, radius and rotation: a CLIP of the
    real world picks these up from its millions of captions, ours has to be asked. These heads are thrown away.
    """

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        width = clip.config.vision_config.hidden_size
        self.geometry = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 5))
        self.frame_scale, self.frame_bias = _scalar(math.log(10.0)), _scalar(-4.0)
        self.patch_scale, self.patch_bias = _scalar(math.log(10.0)), _scalar(-4.0)

    def forward(self, pixels: Tensor, captions: Tensor, looks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits ``[B, M]`` of captions and ``[B, P, L]`` of looks, and geometry ``[B, P, 5]`` of tokens."""
        tower = self.clip.vision_model
        hidden = tower(pixel_values=pixels).last_hidden_state
        projected = functional.normalize(self.clip.visual_projection(tower.post_layernorm(hidden)), dim=-1)
        frames = projected[:, 0] @ self.embed(captions).T * self.frame_scale.exp() + self.frame_bias
        patches = projected[:, 1:] @ self.embed(looks).T * self.patch_scale.exp() + self.patch_bias
        return frames, patches, self.geometry(hidden[:, 1:])

    def embed(self, tokens: Tensor) -> Tensor:
        """Unit vectors of sentences, read at their end token, which has the highest number."""
        text = self.clip.text_model(input_ids=tokens).last_hidden_state
        return functional.normalize(
            self.clip.text_projection(text[torch.arange(len(tokens)), tokens.argmax(dim=1)]), dim=-1
        )


def _scalar(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


def make_tokenizer(corpus: list[str]) -> CLIPTokenizer:
    """A byte-level tokenizer of CLIP's kind that has the corpus's words as single tokens, and any other in parts."""
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
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)


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
            "max_position_embeddings": _LONGEST_CAPTION,
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
    return clip


class Captioned(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Batches by number, from a first on: pixels, tokens, truths."""

    def __init__(self, frames: Frames, tokenizer: CLIPTokenizer, settings: Settings, first: int) -> None:
        self.frames, self.tokenizer, self.settings, self.first = frames, tokenizer, settings, first

    def __len__(self) -> int:
        return self.settings.steps - self.first

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        settings = self.settings
        chance = Random(f"captions {settings.seed} {self.first + index}")
        indices = sorted(chance.sample(range(len(self.frames.places)), settings.batch))
        batch = caption_frames(chance, self.frames, indices, settings.captions, settings.looks, GRID)
        # A little noise and light: videos are compressed, drawn frames are not.
        noise = torch.Generator().manual_seed(chance.getrandbits(32))
        pixels = torch.from_numpy(self.frames.pixels[indices]).float()
        grain = torch.randn(pixels.shape[1:], generator=noise).roll(chance.randrange(SIDE), -1)
        pixels += grain * chance.uniform(0, 5)
        pixels *= 0.93 + 0.14 * torch.rand(len(pixels), 1, 1, 1, generator=noise)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        return {
            "pixels": (pixels.clamp_(0, 255).div_(255) - mean) / std,
            "captions": _tokenize(self.tokenizer, batch.captions),
            "looks": _tokenize(self.tokenizer, batch.looks),
            "caption_truth": torch.from_numpy(batch.caption_truth),
            "look_truth": torch.from_numpy(batch.look_truth),
            "geometry": torch.from_numpy(self.frames.geometry[indices]),
        }


def _tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    rows = [row[:_LONGEST_CAPTION] for row in tokenizer(texts)["input_ids"]]
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return tokens


def contrast(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy of what is true, and of what is false, in equal parts; open truths are left out."""
    losses = functional.binary_cross_entropy_with_logits(logits, (truth == 1).float(), reduction="none")
    parts = [losses[truth == value].mean() for value in (1, 0) if bool((truth == value).any())]
    return torch.stack(parts).mean()


def geometry_loss(guess: Tensor, truth: Tensor) -> Tensor:
    """How wrong the tokens at the actors' centres are about position in the patch, radius and rotation."""
    there = truth[..., 2] > 0
    row = torch.arange(len(truth))[:, None].expand_as(there)[there]
    actor = truth[there]
    column = (actor[:, :2] * GRID).long().clamp(0, GRID - 1)
    token = guess[row, column[:, 1] * GRID + column[:, 0]]
    inside = actor[:, :2] * GRID - column - 0.5
    target = torch.cat([inside, (actor[:, 2:3] / 0.11).log(), actor[:, 3:]], dim=1)
    error = functional.smooth_l1_loss(token, target, beta=0.2, reduction="none")
    turns = (actor[:, 3:].abs().sum(dim=1, keepdim=True) > 0).float()
    weight = torch.cat([torch.ones_like(inside), torch.ones_like(turns) * 2, turns.expand(-1, 2) * 0.5], dim=1)
    return (error * weight).sum(dim=1).mean()


def score_guesses(logits: Tensor, truth: Tensor) -> float:
    """Mean of the shares of true and of false ones that are told apart at 0."""
    guessed = logits > 0
    return float((guessed[truth == 1].float().mean() + (~guessed[truth == 0]).float().mean()) / 2)


def learning_rate(step: int, settings: Settings) -> float:
    """Rises to its highest, falls along the beginning of a long cosine, and in the last third linearly to 0.

    Example:
        >>> settings = Settings(steps=1600, lr=1.0, warmup=200)
        >>> [round(learning_rate(step, settings), 2) for step in (0, 199, 1000, 1300, 1599)]
        [0.01, 0.99, 0.68, 0.28, 0.0]
    """
    along = 0.5 + 0.5 * math.cos(math.pi * step / _WHOLE_COSINE)
    decay_from = settings.steps * 5 // 8
    left = min(1.0, (settings.steps - step) / (settings.steps - decay_from))
    return settings.lr * min(1.0, (step + 1) / settings.warmup) * along * left


def group_parameters(model: Trainee) -> list[dict[str, object]]:
    """Matrices, which decay, and everything else."""
    parameters = list(model.parameters())
    return [
        {"params": [value for value in parameters if value.ndim > 1], "weight_decay": 0.05},
        {"params": [value for value in parameters if value.ndim <= 1], "weight_decay": 0.0},
    ]


def train(frames: Frames, settings: Settings, folder: Path) -> None:
    """Trains a CLIP and writes it with its tokenizer, in Hugging Face layout.

    Every `_SAVE_EVERY` steps its state is saved beside the folder, from which the next call goes on.

    Args:
        frames: Of the train split.
        settings: How.
        folder: Where to.
    """
    torch.manual_seed(settings.seed)
    tokenizer = make_tokenizer(collect_words(frames, settings.seed))
    model = Trainee(make_clip(tokenizer))
    optimizer = torch.optim.AdamW(group_parameters(model), lr=settings.lr, betas=(0.9, 0.98))
    state_file = folder.with_name(f"{folder.name}.state.pt")
    first = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first = state["step"]
    loader = torch.utils.data.DataLoader(
        Captioned(frames, tokenizer, settings, first), batch_size=None, shuffle=False, num_workers=1, prefetch_factor=3
    )
    begin, log = time.monotonic(), []
    for step, batch in enumerate(loader, start=first):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)
        parts, scores = judge(model, batch)
        optimizer.zero_grad(set_to_none=True)
        (parts[0] + 2 * parts[1] + 0.5 * parts[2]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        log.append([*(part.item() for part in parts), *scores])
        if (step + 1) % _LOG_EVERY == 0:
            values = " ".join(f"{value:.3f}" for value in np.mean(log, axis=0))
            print(
                f"step {step + 1}/{settings.steps} {time.monotonic() - begin:.0f} s {values}",
                file=sys.stderr,
                flush=True,
            )
            log = []
        if (step + 1) % _SAVE_EVERY == 0:
            part = state_file.with_suffix(".part")
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1},
                part,
            )
            part.replace(state_file)
    with torch.no_grad():
        model.clip.logit_scale.copy_(model.frame_scale)
    model.clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    values = validate(
        model, tokenizer, draw_frames(folder.parent / "frames", "val", 40, SIDE, 2, lambda _done, _of: None)
    )
    print("val " + " ".join(f"{value:.3f}" for value in values))


def judge(model: Trainee, batch: dict[str, Tensor]) -> tuple[list[Tensor], list[float]]:
    """Losses of captions, looks and geometry, and the shares of captions and of looks that are told right."""
    captions, looks, geometry = model(batch["pixels"], batch["captions"], batch["looks"])
    parts = [
        contrast(captions, batch["caption_truth"]),
        contrast(looks, batch["look_truth"]),
        geometry_loss(geometry, batch["geometry"]),
    ]
    with torch.no_grad():
        return parts, [score_guesses(captions, batch["caption_truth"]), score_guesses(looks, batch["look_truth"])]


def collect_words(frames: Frames, seed: int) -> list[str]:
    """Sentences to learn the tokens from."""
    chance = Random(f"corpus {seed}")
    corpus: list[str] = []
    for _ in range(300):
        indices = [chance.randrange(len(frames.places)) for _ in range(16)]
        batch = caption_frames(chance, frames, indices, 64, 32, GRID)
        corpus += [*batch.captions, *batch.looks]
    return corpus


@torch.inference_mode()
def validate(model: Trainee, tokenizer: CLIPTokenizer, frames: Frames) -> list[float]:
    """Losses and scores, as in training, on other videos."""
    data = Captioned(frames, tokenizer, Settings(seed=99), 0)
    rows = []
    for step in range(12):
        parts, scores = judge(model, data[step])
        rows.append([*(part.item() for part in parts), *scores])
    return [float(value) for value in np.mean(rows, axis=0)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the CLIP; frames are drawn into the folder beside it")
    parser.add_argument("--videos", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=1600)
    arguments = parser.parse_args()
    with show_progress("Frames", "videos") as drawing:
        drawn = draw_frames(arguments.folder.parent / "frames", "train", arguments.videos, SIDE, 2, drawing)
    train(drawn, Settings(steps=arguments.steps), arguments.folder)
