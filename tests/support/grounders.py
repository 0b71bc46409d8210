"""Small seeded models with a tiny CLIP, for tests that need the whole path."""

from pathlib import Path

import torch
from support.tiny_clip import save_tiny_clip

from r2tuning.checkpoints.folder import CheckpointConfig, Provenance, save_checkpoint
from r2tuning.decoding import DecodingConfig
from r2tuning.model import R2Config, R2Tuning


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
