"""Trains the demo model's CLIP on drawn frames: which sentences are true of which frames, and of which patches."""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

from demo.captions import caption_frames
from demo.frames import COLOURS, SHAPES, SIZES, Frames, draw_frames
from demo.tiny_clip import GRID, LONGEST_CAPTION, SIDE, make_clip, make_tokenizer
from r2tuning.backbone.loading import CLIP_MEAN, CLIP_STD
from r2tuning.cli.progress import show_progress

GEOMETRY_FILE = "geometry.safetensors"
NAMED = (COLOURS, SHAPES, SIZES)
_KEPT = 28  # patches of a frame that are looked at, but in the last steps, which see all
_WHOLE_FROM = 0.92  # of the steps
_WEIGHTS = 0.5, 1.0, 1.0, 1.0, 1.0  # of geometry, names, captions, looks, looks of actors
_LOG_EVERY, _SAVE_EVERY = 50, 200  # steps


@dataclass(frozen=True)
class Settings:
    """How the CLIP is trained.

    Attributes:
        steps: Of the optimizers.
        seeing: The first of them, in which the vision tower learns to name what it sees, without sentences.
        batch: Frames per step.
        captions: Sentences about frames per step.
        looks: Phrases about single actors per step.
        lr: Highest learning rate.
        warmup: Steps over which it rises.
        seed: Of the weights, and of what is drawn.
    """

    steps: int = 2700
    seeing: int = 1600
    batch: int = 64
    captions: int = 40
    looks: int = 48
    lr: float = 2e-3
    warmup: int = 300
    seed: int = 0


class Trainee(nn.Module):
    """The CLIP, and what is only needed to train it.

    Besides the sentences, the tokens of actors are asked for colour, shape and size, and those of their centres for
    position, radius and rotation: a CLIP of the real world picks these up from its millions of captions, ours has to be
    asked (from sentences alone it learned colours in half an hour, but no shapes). The CLIP does not hold these heads;
    that of geometry is saved beside it, for `demo.warm_start`.
    """

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        width = clip.config.vision_config.hidden_size
        self.geometry = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 5))
        self.names = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(map(len, NAMED))))
        self.frame_scale, self.frame_bias = _scalar(math.log(10.0)), _scalar(-4.0)
        self.patch_scale, self.patch_bias = _scalar(math.log(10.0)), _scalar(-4.0)

    def look(self, pixels: Tensor, kept: Tensor) -> Tensor:
        """Tokens ``[B, 1 + P, width]`` of frames of which only the patches ``kept [B, P]``, sorted, are seen."""
        tower = self.clip.vision_model
        tokens = tower.embeddings(pixels)
        rows = torch.arange(len(pixels))[:, None]
        tokens = torch.cat([tokens[:, :1], tokens[rows, kept + 1]], dim=1)
        return tower.encoder(inputs_embeds=tower.pre_layrnorm(tokens)).last_hidden_state

    def compare(self, hidden: Tensor, captions: Tensor, looks: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[B, M]`` of captions and ``[B, P, L + A]`` of looks for tokens of frames.

        Looks are read at their last word, so that words within long sentences know whom they mean, and those that are
        ``alone [L]``, A in number, at the end of the text too.
        """
        tower = self.clip.vision_model
        projected = functional.normalize(self.clip.visual_projection(tower.post_layernorm(hidden)), dim=-1)
        frames = projected[:, 0] @ self.embed(captions, 0).T * self.frame_scale.exp() + self.frame_bias
        said = torch.cat([self.embed(looks, 1), self.embed(looks[alone], 0)])
        return frames, projected[:, 1:] @ said.T * self.patch_scale.exp() + self.patch_bias

    def embed(self, tokens: Tensor, before: int) -> Tensor:
        """Unit vectors of texts, read so many tokens before the end token, which has the highest number."""
        text = self.clip.text_model(input_ids=tokens).last_hidden_state
        read = text[torch.arange(len(tokens)), tokens.argmax(dim=1) - before]
        return functional.normalize(self.clip.text_projection(read), dim=-1)


def _scalar(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


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
        }
        if self.first + index < settings.seeing:
            return tensors
        return tensors | {
            "captions": _tokenize(self.tokenizer, batch.captions),
            "looks": _tokenize(self.tokenizer, batch.looks),
            "alone": torch.from_numpy(batch.alone),
            "caption_truth": torch.from_numpy(batch.caption_truth),
            "look_truth": torch.from_numpy(batch.look_truth)[rows, kept],
        }


def choose_patches(touched: Tensor, count: int, noise: torch.Generator) -> Tensor:
    """Numbers of ``count`` patches of each frame, sorted: those that show actors, then any others."""
    return (touched.float() + torch.rand(touched.shape, generator=noise)).topk(count).indices.sort().values


def _tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    rows = [row[:LONGEST_CAPTION] for row in tokenizer(texts)["input_ids"]]
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for row, ids in zip(tokens, rows, strict=True):
        row[: len(ids)] = torch.tensor(ids)
    return tokens


def contrast(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy of what is true, and of what is false, in equal parts; open truths are left out."""
    losses = functional.binary_cross_entropy_with_logits(logits, (truth == 1).float(), reduction="none")
    parts = [losses[truth == value].mean() for value in (1, 0) if bool((truth == value).any())]
    return torch.stack(parts).mean()


def geometry_loss(guess: Tensor, kept: Tensor, truth: Tensor) -> Tensor:
    """How wrong the tokens at the actors' centres are about position in the patch, radius and rotation.

    Args:
        guess: ``[B, P, 5]``.
        kept: Numbers ``[B, P]`` of the patches.
        truth: ``[B, actors, 5]``.
    """
    column = (truth[..., :2] * GRID).long().clamp(0, GRID - 1)
    here = kept[:, None] == (column[..., 1] * GRID + column[..., 0])[..., None]
    row, number, place = (here & (truth[..., 2] > 0)[..., None]).nonzero(as_tuple=True)
    actor, token = truth[row, number], guess[row, place]
    inside = actor[:, :2] * GRID - column[row, number] - 0.5
    target = torch.cat([inside, (actor[:, 2:3] / 0.11).log(), actor[:, 3:]], dim=1)
    error = functional.smooth_l1_loss(token, target, beta=0.2, reduction="none")
    turns = (actor[:, 3:].abs().sum(dim=1, keepdim=True) > 0).float()
    weight = torch.cat([torch.ones_like(inside), torch.ones_like(turns) * 2, turns.expand(-1, 2) * 0.5], dim=1)
    return (error * weight).sum(dim=1).mean()


def names_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross-entropy of colour, shape and size, in equal parts; ``logits [B, P, names]``, ``truth [B, P, 3]``."""
    parts = logits.split([len(names) for names in NAMED], dim=-1)
    return torch.stack(
        [
            functional.cross_entropy(part.flatten(0, 1), truth[..., index].flatten().clamp(min=-1), ignore_index=-1)
            for index, part in enumerate(parts)
        ]
    ).mean()


def score_guesses(logits: Tensor, truth: Tensor) -> float:
    """Mean of the shares of true and of false ones that are told apart at 0."""
    guessed = logits > 0
    return float((guessed[truth == 1].float().mean() + (~guessed[truth == 0]).float().mean()) / 2)


def learning_rate(step: int, settings: Settings) -> float:
    """Rises to its highest, then falls along a cosine to 0.

    Example:
        >>> settings = Settings(steps=1000, lr=1.0, warmup=100)
        >>> [round(learning_rate(step, settings), 2) for step in (0, 99, 500, 999)]
        [0.01, 0.98, 0.5, 0.0]
    """
    along = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
    return settings.lr * min(1.0, (step + 1) / settings.warmup) * along


def make_optimizers(model: Trainee, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices within the towers, which needs two thirds of AdamW's steps here; AdamW for all else."""
    towers = (model.clip.vision_model.encoder, model.clip.text_model.encoder)
    matrices = [value for tower in towers for value in tower.parameters() if value.ndim == 2]
    others = [value for value in model.parameters() if not any(value is matrix for matrix in matrices)]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
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
    optimizers = make_optimizers(model, settings.lr)
    state_file = folder.with_name(f"{folder.name}.state.pt")
    first = 0
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first = state["step"]
    loader = torch.utils.data.DataLoader(
        Captioned(frames, tokenizer, settings, first), batch_size=None, shuffle=False, num_workers=1, prefetch_factor=3
    )
    begin, log = time.monotonic(), []
    for step, batch in enumerate(loader, start=first):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate(step, settings)
        parts, scores = judge(model, batch)
        model.zero_grad(set_to_none=True)
        torch.stack([weight * part for weight, part in zip(_WEIGHTS, parts, strict=False)]).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        log.append([*(part.item() for part in parts), *scores])
        if (step + 1) % _LOG_EVERY == 0:  # `seeing` has to be a multiple, as its steps log less
            values = " ".join(f"{value:.3f}" for value in np.mean(log, axis=0))
            print(
                f"step {step + 1}/{settings.steps} {time.monotonic() - begin:.0f} s {values}",
                file=sys.stderr,
                flush=True,
            )
            log = []
        if (step + 1) % _SAVE_EVERY == 0:
            part = state_file.with_suffix(".part")
            saved = [optimizer.state_dict() for optimizer in optimizers]
            torch.save({"model": model.state_dict(), "optimizers": saved, "step": step + 1}, part)
            part.replace(state_file)
    with torch.no_grad():
        model.clip.logit_scale.copy_(model.frame_scale)
    model.clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    save_file(model.geometry.state_dict(), folder / GEOMETRY_FILE)
    values = validate(
        model, tokenizer, draw_frames(folder.parent / "frames", "val", 40, SIDE, 2, lambda _done, _of: None)
    )
    print("val " + " ".join(f"{value:.3f}" for value in values))


def judge(model: Trainee, batch: dict[str, Tensor]) -> tuple[list[Tensor], list[float]]:
    """Losses in the order of `_WEIGHTS`; shares of shapes, captions and looks on actors that are right."""
    hidden = model.look(batch["pixels"], batch["kept"])
    names, owned = model.names(hidden[:, 1:]), batch["names"][..., 0] >= 0
    parts = [
        geometry_loss(model.geometry(hidden[:, 1:]), batch["kept"], batch["geometry"]),
        names_loss(names, batch["names"]),
    ]
    shapes = names.split([len(kind) for kind in NAMED], dim=-1)[1][owned].argmax(dim=-1)
    scores = [float((shapes == batch["names"][owned][:, 1]).float().mean())]
    if "captions" in batch:
        alone = batch["alone"]
        captions, looks = model.compare(hidden, batch["captions"], batch["looks"], alone)
        truth = torch.cat([batch["look_truth"], batch["look_truth"][..., alone]], dim=-1)
        parts += [
            contrast(captions, batch["caption_truth"]),
            contrast(looks, truth),
            # Ground behind actors is easily told; which actor is meant is what has to be learned.
            contrast(looks[owned], truth[owned]),
        ]
        scores.append(score_guesses(captions, batch["caption_truth"]))
        scores.append(score_guesses(looks[owned], truth[owned]))
    return parts, scores


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
    data = Captioned(frames, tokenizer, Settings(seed=99, seeing=0), 0)
    rows = []
    for step in range(12):
        parts, scores = judge(model, data[step])
        rows.append([*(part.item() for part in parts), *scores])
    return [float(value) for value in np.mean(rows, axis=0)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the CLIP; frames are drawn into the folder beside it")
    parser.add_argument("--videos", type=int, default=1200)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    arguments = parser.parse_args()
    with show_progress("Frames", "videos") as drawing:
        drawn = draw_frames(arguments.folder.parent / "frames", "train", arguments.videos, SIDE, 2, drawing)
    train(drawn, Settings(steps=arguments.steps), arguments.folder)
