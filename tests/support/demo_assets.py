"""The demo's files: those of the package, or tiny ones in their place."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.grounders import save_tiny_model
from transformers import CLIPModel

from r2tuning.backbones import registry
from r2tuning.checkpoints import load_config, load_state, save_checkpoint
from r2tuning.checkpoints import published as demo
from r2tuning.checkpoints import resolve as names


def find_demo() -> Path:
    """The folder of the package's own."""
    return demo.DEMO_FOLDER.parent


def place_demo(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """Makes ``demo`` stand for a tiny seeded model, kept as the real one is: in fp16. Returns its checkpoint folder."""
    head = save_tiny_model(folder)
    config = load_config(head).model_copy(update={"name": "demo", "backbone": "r2tuning/demo"})
    save_checkpoint(head, {name: value.half() for name, value in load_state(head).items()}, config)
    clip = folder / "clip"
    CLIPModel.from_pretrained(clip).half().save_pretrained(clip)
    placed = [replace(known, folder=clip) if known.name == "demo" else known for known in registry.KNOWN_BACKBONES]
    monkeypatch.setattr(registry, "KNOWN_BACKBONES", tuple(placed))
    monkeypatch.setattr(names, "DEMO_FOLDER", head)
    return head
