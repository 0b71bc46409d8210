"""Trains the demo model's CLIP on drawn frames, and on sentences that are true of frames or patches."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPModel, CLIPTokenizer

from projects.moving_shapes.batches import NAMED, Captioned, Settings
from projects.moving_shapes.captions import caption_frames
from projects.moving_shapes.frames import Frames, draw_frames
from projects.moving_shapes.tiny_clip import GRID, SIDE, make_clip, make_tokenizer
from projects.moving_shapes.told import FACTS
from r2tuning.backbones import choose_device
from r2tuning.cli.options import show_progress
from r2tuning.synthetic.queries import choose_queries
from r2tuning.synthetic.scenes import Split
from r2tuning.synthetic.staging import make_video

_WEIGHTS = 0.5, 1.0, 1.0, 1.0, 1.0, 0.05  # of geometry, names, captions, looks, looks of actors, facts
_RARE = 8.0  # weight of a fact that is true, relative to one that is false
_LOG_EVERY, _SAVE_EVERY = 50, 200  # steps


class Trainee(nn.Module):
    """The CLIP, and heads that only its training needs.

    The heads predict the color, shape, size, position, radius and rotation of actors from their patches (from sentences
    alone it learns colors in half an hour, but no shapes), and facts from words, since no single frame shows that
    "sinks" and "falls" mean the same. R² reads several layers with the same weights, so the last two are trained.
    """

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        width = clip.vision_embed_dim
        self.geometry = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 5))
        self.names = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, sum(map(len, NAMED))))
        text_width = clip.text_embed_dim
        self.facts = nn.Sequential(nn.LayerNorm(text_width), nn.Linear(text_width, len(FACTS)))
        self.frame_scale, self.frame_bias = _scalar(math.log(10.0)), _scalar(-4.0)
        self.patch_scale, self.patch_bias = _scalar(math.log(10.0)), _scalar(-4.0)

    def look(self, pixels: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens ``[B, 1 + P, width]`` of the last layer and the one before, of the patches ``kept [B, P]`` only."""
        tower = self.clip.vision_model
        tokens = tower.embeddings(pixels)
        rows = torch.arange(len(pixels))[:, None]
        tokens = tower.pre_layrnorm(torch.cat([tokens[:, :1], tokens[rows, kept + 1]], dim=1))
        before = tokens
        for layer in tower.encoder.layers:
            before, tokens = tokens, layer(tokens, attention_mask=None)
        return tokens, before

    def compare(self, hidden: Tensor, captions: Tensor, looks: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[B, M]`` of captions and ``[B, P, L + A]`` of looks for tokens of frames.

        Looks are read at their last word, so that words within sentences know which actor they mean; the A looks that
        are ``alone [L]`` are read at the end of the text too.
        """
        tower = self.clip.vision_model
        projected = functional.normalize(self.clip.visual_projection(tower.post_layernorm(hidden)), dim=-1)
        frames = projected[:, 0] @ self.embed(captions, 0).T * self.frame_scale.exp() + self.frame_bias
        said = torch.cat([self.embed(looks, 1), self.embed(looks[alone], 0)])
        return frames, projected[:, 1:] @ said.T * self.patch_scale.exp() + self.patch_bias

    def tell(self, tokens: Tensor) -> Tensor:
        """Logits ``[2, texts, words, facts]`` of facts, by the last two layers."""
        states = self.clip.text_model(input_ids=tokens, output_hidden_states=True).hidden_states
        return torch.stack([self.facts(states[-1]), self.facts(states[-2])])

    def embed(self, tokens: Tensor, before: int) -> Tensor:
        """Unit vectors of texts, read ``before`` tokens before the end token, which has the highest number."""
        text = self.clip.text_model(input_ids=tokens).last_hidden_state
        read = text[torch.arange(len(tokens)), tokens.argmax(dim=1) - before]
        return functional.normalize(self.clip.text_projection(read), dim=-1)


def _scalar(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor(value))


def facts_loss(logits: Tensor, facts: Tensor, tokens: Tensor) -> Tensor:
    """Binary cross-entropy ``[layers, texts, words, facts]``, summed over facts; the few true ones count more."""
    real = tokens > 0
    losses = functional.binary_cross_entropy_with_logits(
        logits, facts.expand_as(logits), reduction="none", pos_weight=torch.tensor(_RARE)
    )
    return losses[:, real].sum(dim=-1).mean()


def contrast(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy of true and of false pairs, in equal parts, without open ones."""
    losses = functional.binary_cross_entropy_with_logits(logits, (truth == 1).float(), reduction="none")
    parts = [losses[truth == value].mean() for value in (1, 0) if bool((truth == value).any())]
    return torch.stack(parts).mean()


def geometry_loss(guess: Tensor, owners: Tensor, geometry: Tensor) -> Tensor:
    """Loss of position, radius and rotation ``[B, P, 5]`` for the actors ``owners [B, P]`` that tokens show."""
    row, token = (owners >= 0).nonzero(as_tuple=True)
    actor = geometry[row, owners[row, token]]
    target = torch.cat([(actor[:, :2] - 0.5) * GRID, (actor[:, 2:3] / 0.11).log(), actor[:, 3:]], dim=1)
    error = functional.smooth_l1_loss(guess[row, token], target, beta=0.2, reduction="none")
    turns = (actor[:, 3:].abs().sum(dim=1, keepdim=True) > 0).float()
    weight = torch.cat([torch.ones(len(actor), 2), torch.full_like(turns, 2), turns.expand(-1, 2) * 0.5], dim=1)
    return (error * weight).sum(dim=1).mean()


def names_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean cross-entropy of color, shape and size, in equal parts; ``logits [B, P, names]``, ``truth [B, P, 3]``."""
    parts = torch.split(logits, [len(names) for names in NAMED], dim=-1)
    return torch.stack(
        [
            functional.cross_entropy(part.flatten(0, 1), truth[..., index].flatten().clamp(min=-1), ignore_index=-1)
            for index, part in enumerate(parts)
        ]
    ).mean()


def score_guesses(logits: Tensor, truth: Tensor) -> float:
    """Balanced accuracy of logits."""
    guessed = logits > 0
    return float((guessed[truth == 1].float().mean() + (~guessed[truth == 0]).float().mean()) / 2)


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warmup, and a cosine to 0."""
    along = 0.5 + 0.5 * math.cos(math.pi * step / settings.steps)
    return settings.lr * min(1.0, (step + 1) / settings.warmup) * along


def make_optimizers(model: Trainee, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the towers, which needs two thirds of AdamW's steps here; AdamW for the rest."""
    towers = (model.clip.vision_model.encoder, model.clip.text_model.encoder)
    matrices = [value for tower in towers for value in tower.parameters() if value.ndim == 2]
    others = [value for value in model.parameters() if not any(value is matrix for matrix in matrices)]
    return [
        torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(frames: Frames, settings: Settings, folder: Path) -> None:
    """Trains a CLIP and writes it with its tokenizer, in Hugging Face layout.

    Every `_SAVE_EVERY` steps the state is saved beside the folder, and the next call continues from it.
    """
    torch.manual_seed(settings.seed)
    tokenizer = make_tokenizer(collect_words(frames, settings.seed))
    device = choose_device(None)
    model = Trainee(make_clip(tokenizer)).to(device)
    optimizers = make_optimizers(model, settings.lr)
    state_file = folder.with_name(f"{folder.name}.state.pt")
    first = 0
    if state_file.exists():
        state = torch.load(state_file, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first = state["step"]
    queries = collect_queries("train", len(frames.vids))
    loader = torch.utils.data.DataLoader(
        Captioned(frames, queries, tokenizer, settings, first),
        batch_size=None,
        shuffle=False,
        num_workers=1,
        prefetch_factor=3,
    )
    begin, log = time.monotonic(), []
    for step, batch in enumerate(loader, start=first):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate(step, settings)
        parts, scores = judge(model, batch, device)
        model.zero_grad(set_to_none=True)
        loss = torch.stack([weight * part for weight, part in zip(_WEIGHTS, parts, strict=False)]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        log.append([*(part.item() for part in parts), *scores])
        if (step + 1) % _LOG_EVERY == 0:  # `seeing` has to be a multiple, as its steps log less
            values = " ".join(f"{value:.3f}" for value in np.mean(log, axis=0))
            seconds = time.monotonic() - begin
            print(f"step {step + 1}/{settings.steps} {seconds:.0f} s {values}", file=sys.stderr, flush=True)
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
    validated = validate(model, tokenizer, folder.parent / "frames", device)
    print("val " + " ".join(f"{value:.3f}" for value in validated))


def judge(model: Trainee, batch: dict[str, Tensor], device: torch.device) -> tuple[list[Tensor], list[float]]:
    """Losses in the order of `_WEIGHTS`, and accuracies of shapes, captions, looks on actors, and facts."""
    with device:  # where new tensors are made
        return _judge(model, {name: value.to(device) for name, value in batch.items()})


def _judge(model: Trainee, batch: dict[str, Tensor]) -> tuple[list[Tensor], list[float]]:
    hidden, before = model.look(batch["pixels"], batch["kept"])
    owned = batch["names"][..., 0] >= 0
    names = [model.names(tokens[:, 1:]) for tokens in (hidden, before)]
    places = [geometry_loss(model.geometry(t[:, 1:]), batch["owners"], batch["geometry"]) for t in (hidden, before)]
    parts = [
        torch.stack(places).mean(),
        torch.stack([names_loss(logits, batch["names"]) for logits in names]).mean(),
    ]
    shapes = names[0].split([len(kind) for kind in NAMED], dim=-1)[1][owned].argmax(dim=-1)
    scores = [float((shapes == batch["names"][owned][:, 1]).float().mean())]
    if "captions" in batch:
        alone = batch["alone"]
        captions, looks = model.compare(hidden, batch["captions"], batch["looks"], alone)
        truth = torch.cat([batch["look_truth"], batch["look_truth"][..., alone]], dim=-1)
        facts = model.tell(batch["sentences"])
        parts += [
            contrast(captions, batch["caption_truth"]),
            contrast(looks, truth),
            # Background is easy; which actor is meant has to be learned.
            contrast(looks[owned], truth[owned]),
            facts_loss(facts, batch["facts"], batch["sentences"]),
        ]
        scores.append(score_guesses(captions, batch["caption_truth"]))
        scores.append(score_guesses(looks[owned], truth[owned]))
        scores.append(score_guesses(facts[0], batch["facts"]))
    return parts, scores


def collect_words(frames: Frames, seed: int) -> list[str]:
    """Sentences to train the tokenizer on."""
    chance = Random(f"corpus {seed}")
    corpus: list[str] = []
    for _ in range(300):
        indices = [chance.randrange(len(frames.places)) for _ in range(16)]
        batch = caption_frames(chance, frames, indices, 64, 32, GRID)
        corpus += [*batch.captions, *batch.looks]
    return corpus


def collect_queries(split: Split, videos: int) -> list[str]:
    """The queries of the first videos of a split."""
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        scripts = pool.starmap(make_video, [(seed, split) for seed in range(videos)], chunksize=8)
        found = pool.map(choose_queries, scripts, chunksize=8)
    return [query.text for queries in found for query in queries]


@torch.inference_mode()
def validate(model: Trainee, tokenizer: CLIPTokenizer, folder: Path, device: torch.device) -> list[float]:
    """Losses and accuracies, as in training, on other videos."""
    frames = draw_frames(folder, "val", 40, SIDE, 2, lambda _done, _of: None)
    data = Captioned(frames, collect_queries("val", 40), tokenizer, Settings(seed=99, seeing=0), 0)
    rows = []
    for step in range(12):
        parts, scores = judge(model, data[step], device)
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
