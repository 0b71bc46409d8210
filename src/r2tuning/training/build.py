"""From a recipe to what a run starts with: its splits, its features, its model."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import torch

from r2tuning import __version__
from r2tuning.backbones import choose_device, load_backbone
from r2tuning.backbones.registry import hub_name
from r2tuning.checkpoints import read_checkpoint
from r2tuning.checkpoints.folder import CheckpointConfig, Provenance
from r2tuning.datasets.custom import strip_suffix
from r2tuning.errors import CheckpointWarning, DataError, R2TuningWarning, RecipeError, TrainingError
from r2tuning.evaluation.splits import FAMILY_OF, OpenSplit, open_split, read_annotations
from r2tuning.features.encode import Progress
from r2tuning.features.extraction import QueryTask, VideoFolder, VideoTask, extract_queries, extract_videos
from r2tuning.features.store import STORE_FILE, FeatureStore, StoreFacts
from r2tuning.model import R2Config, R2Tuning
from r2tuning.training.distributed import choose_accelerator
from r2tuning.training.recipes import Recipe


def open_splits(recipe: Recipe) -> tuple[OpenSplit, OpenSplit]:
    """Opens the splits to train and to validate on; the first leaves out videos that are too short."""
    data, seed = recipe.data, recipe.training.seed
    benchmark = data.find_rules(recipe.fps)
    needed = FAMILY_OF[benchmark.task]
    if recipe.model.family != needed:
        raise RecipeError(
            f"{recipe.name}: a model of the {recipe.model.family} family cannot learn {benchmark.name}; "
            f"set model.family={needed}"
        )
    if benchmark.domains and data.domain is None:
        warnings.warn(
            f"{recipe.name}: one model learns all {len(benchmark.domains)} domains; the published scores are of one "
            f"each, such as recipe {benchmark.name}/{benchmark.domains[0]}",
            R2TuningWarning,
            stacklevel=2,
        )
    training, validation = (
        open_split(data, split, fps=recipe.fps, seed=seed) for split in (data.train_split, data.validation_split)
    )
    _require_apart(training, validation)
    if recipe.model.presence and not (data.negatives or any(annotation.absent for annotation in training.annotations)):
        raise RecipeError(
            f"{recipe.name}: model.presence needs queries that a video does not show; set data.negatives=0.5, which "
            "takes queries of other videos, or annotate some"
        )
    kept = benchmark.keep_trainable(training.annotations)
    if not kept:
        raise DataError(
            f"{recipe.name}: all {len(training.annotations)} training videos are shorter than "
            f"{benchmark.min_duration:g} s"
        )
    return replace(training, annotations=kept), validation


def _require_apart(training: OpenSplit, validation: OpenSplit) -> None:
    """Refuses custom data with one video on both sides, by its name or, under two names, by its content."""
    if not training.benchmark.is_custom:
        return
    marks: list[dict[str, str]] = []
    for split in (training, validation):
        marks.append({})
        for name in dict.fromkeys(annotation.vid for annotation in split.annotations):
            facts = split.store.video_facts(name)
            marks[-1] |= dict.fromkeys(
                (strip_suffix(name), *([facts.identity] if facts and facts.identity else [])), name
            )
    both = list(dict.fromkeys((marks[0][mark], marks[1][mark]) for mark in marks[0] if mark in marks[1]))
    if both:
        one, other = both[0]
        more = f" (and {len(both) - 1} more)" if len(both) > 1 else ""
        if one == other:
            raise DataError(f"{one!r} is in training and in validation{more}; keep its queries on one side")
        raise DataError(
            f"{one!r} in training and {other!r} in validation are the same video{more}; "
            "keep its queries on one side, under one name"
        )


def prepare_features(recipe: Recipe, progress: Progress | None = None) -> None:
    """Makes the features of a recipe's custom videos and queries that are missing or out of date.

    Does nothing where the recipe names no folder of videos. An interrupted call leaves only complete features; the next
    call continues from there.
    """
    data = recipe.data
    if data.videos is None:
        return
    benchmark = data.find_rules(recipe.fps)
    splits = data.train_split, data.validation_split or benchmark.evaluation_split
    annotations = [a for split in splits for a in read_annotations(data, split, seed=recipe.training.seed)]
    files = VideoFolder(data.videos)
    names = dict.fromkeys(benchmark.video_name(annotation) for annotation in annotations)
    videos = [VideoTask(name, files.find(name), recipe.fps) for name in names]
    texts = {benchmark.query_name(annotation): annotation.query for annotation in annotations}
    queries = [QueryTask(name, text) for name, text in texts.items()]
    folder, layers = data.feature_folder, recipe.model.layers
    if (folder / STORE_FILE).is_file():
        layers = max(layers, StoreFacts.read(folder).layers)  # a model may read fewer than there are
    device = choose_device(choose_accelerator(recipe.training))
    backbone = load_backbone(recipe.backbone, layers=layers, device=device)
    with FeatureStore.fill(folder, backbone) as store:
        extract_queries(queries, store, backbone)
        failures = extract_videos(videos, store, backbone, progress=progress).failures
    if failures:
        first = failures[0]
        raise TrainingError(
            f"{first.name}: {first.reason} ({len(failures)} of {len(videos)} videos cannot be used); replace them, or "
            f"remove them from {data.annotations}"
        )


_FREE = {"dropout", "drop_path", "layers", "refinement", "init", "presence"}
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
    if recipe.training.start_from is not None:
        _take_weights(model, recipe.training.start_from, recipe)
    # The saliency family has no offsets to scale: no gradient.
    model.level_scale.requires_grad_(config.family == "grounding")
    return model


def _take_weights(model: R2Tuning, name: str, recipe: Recipe) -> None:
    config, other = read_checkpoint(name)
    for field in R2Config.model_fields:
        theirs, ours = getattr(other.config, field), getattr(model.config, field)
        if field not in _FREE and theirs != ours:
            way_out = "extract features with its backbone" if field.endswith("width") else f"set model.{field}={theirs}"
            raise TrainingError(f"{name}: has {field} {theirs}, the recipe {ours}; {way_out}")
    for fact, same, theirs, ours in (
        ("features of", hub_name(config.backbone) == hub_name(recipe.backbone), config.backbone, recipe.backbone),
        ("frames per second:", math.isclose(config.fps, recipe.fps, rel_tol=1e-6), config.fps, recipe.fps),
    ):
        if not same:
            key = "backbone" if fact == "features of" else "fps"
            warnings.warn(
                f"{name}: was trained on {fact} {theirs}, and continues with {ours}; set {key}={theirs} to keep to it",
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
    # A presence head that the checkpoint lacks stays random; one that the recipe does not ask for is left out.
    head = {name: value for name, value in model.state_dict().items() if name.startswith("presence_head.")}
    kept = {name: value for name, value in state.items() if name in head or not name.startswith("presence_head.")}
    model.load_state_dict({**head, **kept})


def describe_model(recipe: Recipe, model: R2Tuning, made: StoreFacts | None) -> CheckpointConfig:
    """The configuration of a run's checkpoints; ``made`` are the facts of the store of its features."""
    return CheckpointConfig(
        name=recipe.name,
        model=model.config,
        backbone=recipe.backbone,
        fingerprint="" if made is None else made.fingerprint,
        summary="cls" if made is None else made.summary,
        fps=recipe.fps,
        window=recipe.window,
        decoding=recipe.decoding,
        provenance=Provenance(source=f"trained with recipe {recipe.name}", created_with=__version__),
    )
