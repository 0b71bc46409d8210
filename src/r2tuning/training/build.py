"""The model that a run starts from, and the configuration of its checkpoints."""

from __future__ import annotations

import warnings

import torch

from r2tuning import __version__
from r2tuning.backbones.registry import hub_name
from r2tuning.checkpoints import read_checkpoint
from r2tuning.checkpoints.folder import CheckpointConfig, Provenance
from r2tuning.errors import CheckpointWarning, TrainingError
from r2tuning.features.store import FeatureStore
from r2tuning.model import R2Config, R2Tuning
from r2tuning.training.config import Recipe

_FREE = {"dropout", "drop_path", "layers", "refinement"}
"""Settings that may differ from those of the checkpoint to start from."""

_GATES = ("block.spatial_pooling.gate", "block.temporal_refinement.gate")
"""The only weights that the steps of the block do not share: one number per step, the last layer's at the end."""


def build_model(recipe: Recipe, store: FeatureStore) -> R2Tuning:
    """Builds the model that a run starts from: random by the seed, or with the weights of another checkpoint.

    The store determines the widths. Another checkpoint must have the same shape, except for the number of layers.
    """
    if store.layers < recipe.model.layers:
        raise TrainingError(
            f"{store.folder}: features have {store.layers} layers, the recipe needs {recipe.model.layers}; "
            f"set model.layers, or extract more"
        )
    # Features made for this run were already compared by fingerprint.
    if store.facts is not None and recipe.data.videos is None:
        made, wanted = store.facts.backbone, recipe.backbone
        if hub_name(made) != hub_name(wanted):
            raise TrainingError(
                f"{store.folder}: has features of {made}, but the recipe names {wanted}; set backbone={made}"
            )
    config = recipe.model.model_copy(update={"video_width": store.video_width, "query_width": store.query_width})
    torch.manual_seed(recipe.training.seed)
    model = R2Tuning(config)
    model.fused = recipe.training.fused
    if recipe.training.start_from is not None:
        _take_weights(model, recipe.training.start_from, recipe.backbone)
    # The saliency family has no offsets to scale: no gradient.
    model.level_scale.requires_grad_(config.family == "grounding")
    return model


def _take_weights(model: R2Tuning, name: str, backbone: str) -> None:
    config, other = read_checkpoint(name)
    for field in R2Config.model_fields:
        theirs, ours = getattr(other.config, field), getattr(model.config, field)
        if field not in _FREE and theirs != ours:
            way_out = "extract features with its CLIP" if field.endswith("width") else f"set model.{field}={theirs}"
            raise TrainingError(f"{name}: has {field} {theirs}, the recipe {ours}; {way_out}")
    if hub_name(config.backbone) != hub_name(backbone):
        warnings.warn(
            f"{name}: was trained on features of {config.backbone}, and continues with those of {backbone}",
            CheckpointWarning,
            stacklevel=3,
        )
    state = other.state_dict()
    for gate in _GATES:
        initial, given = model.state_dict()[gate], state[gate]
        more = max(0, len(initial) - len(given))
        # Steps that the checkpoint lacks start like its shallowest one, or from their initial value.
        first = given[:1].expand(more) if len(given) else initial[:more]
        state[gate] = torch.cat([first, given])[-len(initial) :] if len(initial) else initial
    model.load_state_dict(state)


def describe_model(recipe: Recipe, model: R2Tuning) -> CheckpointConfig:
    """The configuration of a run's checkpoints."""
    return CheckpointConfig(
        name=recipe.name,
        model=model.config,
        backbone=recipe.backbone,
        fps=recipe.fps,
        window=recipe.window,
        decoding=recipe.decoding,
        provenance=Provenance(source=f"trained with recipe {recipe.name}", created_with=__version__),
    )
