"""Wires the first weights of the head: ``python -m projects.moving_shapes.warm_start FRAMES DATA FOLDER --set …``.

From random weights, a head would have to learn from moments alone which words belong to which patches, and that
movement shows in two frames; two cores have no time for that. Every weight is trained afterwards.

- The two feature maps start as linear probes of what patches show (color, shape, size, position) and what words tell
  (`told`), with a channel for each.
- Words look for patches that have what they tell. Only the last word of a thing ("a red *star*") passes on what it
  sees: other words push these channels down, so that they lose in the maximum over words (Eq. 5).
- Some units of the feed-forward layer count what the query names and the frame lacks, and what moves as the query says.
- Six self-attention heads look a little back or ahead, since positions of frames 2 s apart differ too little for
  attention to learn that soon. The difference of the positions of actors is their movement.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from projects.moving_shapes.frames import ACTIONS, PLACES, Frames, draw_frames
from projects.moving_shapes.probes import GEOMETRY, TOLD, Probe, fit_probe, fit_values, sample_patches, sample_words
from projects.moving_shapes.tiny_clip import SIDE
from projects.moving_shapes.told import LOOKS, facts_of
from r2tuning.checkpoints.folder import save_checkpoint
from r2tuning.cli.options import show_progress
from r2tuning.features.store import FeatureStore
from r2tuning.model import R2Tuning
from r2tuning.model.heads import Downsample
from r2tuning.model.layers import FeatureMap
from r2tuning.synthetic.scenes import Action
from r2tuning.training.build import build_model, describe_model
from r2tuning.training.recipes import load_recipe

_ASKED = 2.0  # value of what a word tells; what a patch shows has 1, so that all four sums differ
_CLOSED, _CLOSED_LOOK = 1.5, 3.5  # how far words are pushed down that are not the last of a thing
_SHARPNESS = 12.0  # added attention logit of a patch for each matching property
_PE = 4  # channels of the position encoding alone
_CONSTANTS, _CONSTANT = 8, 4.0  # inner channels that stabilize the inner LayerNorm
_QUIET = 0.3  # scale of the outer LayerNorm
_SEEN, _SAID = 16.0, 4.0  # width of a probe's logits from 0 to 1; patches are less certain than words

_STRENGTH = torch.tensor([0.5, 0.5, 0.75, 0.35, 0.35])  # of positions; always less than a closed door subtracts
_AWAY = (0.11, 0.22, 0.42)  # how far heads look, in radians of the position encoding: 1, 2 and 4 of 57 frames


class Channels:
    """The first meaning of each channel of the model."""

    def __init__(self) -> None:
        self._next = _PE
        self.nothing, self.asked = self._take(1), self._take(1)  # 0 and `_ASKED`, for comparison
        self.look, self.other_look = self._take(len(LOOKS)), self._take(len(LOOKS))
        self.where = [self._take(GEOMETRY) for _ in facts_of("role")]
        self.action, self.other_action = (
            self._take(len(facts_of(f"action of {who}"))) for who in ("the subject", "another")
        )
        self.corner = self._take(len(facts_of("corner")))
        self.place = self._take(len(PLACES))
        self.motion = self._take(0)

    def _take(self, count: int) -> slice:
        self._next += count
        return slice(self._next - count, self._next)


def warm_start(frames: Frames, data: Path, folder: Path, settings: list[str]) -> None:
    """Writes a checkpoint to start training from, from drawn frames and the data of the train split."""
    recipe = load_recipe("moving-shapes", settings)
    store = FeatureStore.open(data / "features")
    model = build_model(recipe, store)
    seen = sample_patches(store, frames, recipe.model.layers)
    looks = fit_probe(seen.tokens, seen.shown, seen.known)
    where = fit_values(seen.tokens[seen.is_actor], seen.where[seen.is_actor], seen.tokens[~seen.is_actor])
    words, facts = sample_words(store, data / "train.jsonl", recipe.backbone, recipe.model.layers)
    told = fit_probe(words, facts, torch.ones_like(facts))
    with torch.no_grad():
        wire_video(model.block.video_map, looks, where, seen.tokens)
        wire_query(model.block.query_map, told, words)
        wire_looking(model)
        wire_time(model)
        wire_comparing(model)
        wire_heads(model)
    save_checkpoint(folder, model.state_dict(), describe_model(recipe, model, store.facts))


def wire_video(video_map: FeatureMap, looks: Probe, where: Probe, tokens: Tensor) -> None:
    """Patches say what they show; frames say where they are."""
    channels = Channels()
    sure = Probe(looks.weight / _SEEN, looks.bias / _SEEN + 0.5)
    count = len(sure.bias)
    inner = Probe(
        torch.cat([sure.weight, sure.weight, where.weight, -where.weight]),
        torch.cat([sure.bias, sure.bias - 1, where.bias, -where.bias]),
    )
    # What is shown is clamped to [0, 1]; positions have both signs.
    outputs = torch.zeros(_linears(video_map)[-1].out_features, len(inner.bias))
    for index in range(count):
        looks_at = [channels.look.start + index, channels.other_look.start + index]
        for channel in looks_at if index < len(LOOKS) else [channels.place.start + index - len(LOOKS)]:
            outputs[channel, index], outputs[channel, count + index] = 1, -1
    for index in range(GEOMETRY):
        for place in channels.where:
            outputs[place.start + index, 2 * count + index] = _STRENGTH[index]
            outputs[place.start + index, 2 * count + GEOMETRY + index] = -_STRENGTH[index]
    wire_map(video_map, inner, outputs, torch.zeros(len(outputs)), tokens)


def wire_query(query_map: FeatureMap, told: Probe, words: Tensor) -> None:
    """Words say what they tell, and close the channels of looks and positions unless they are the last of a thing."""
    channels = Channels()
    sure = Probe(told.weight / _SAID, told.bias / _SAID + 0.75)
    # Clamped to [0, 1], except corners, for which there are no units left.
    bounded = [fact for topic, facts in TOLD.items() if topic != "corner" for fact in facts]
    inner = Probe(
        torch.cat([sure.weight, sure.weight[bounded]]),
        torch.cat([sure.bias, sure.bias[bounded] - 1]),
    )
    bound = {fact: len(sure.bias) + number for number, fact in enumerate(bounded)}
    outputs = torch.zeros(_linears(query_map)[-1].out_features, len(inner.bias))
    shift = torch.zeros(len(outputs))
    shift[channels.asked] = _ASKED
    said = (
        (channels.look, "look"),
        (channels.other_look, "look"),
        (channels.action, "action of the subject"),
        (channels.other_action, "action of another"),
        (channels.corner, "corner"),
        (channels.place, "place"),
    )
    for span, topic in said:
        for channel, fact in zip(range(span.start, span.stop), TOLD[topic], strict=True):
            outputs[channel, fact] = _ASKED
    subject, related, other = TOLD["role"]
    doors = (
        (channels.look, _CLOSED_LOOK, (subject,)),
        (channels.other_look, _CLOSED_LOOK, (related, other)),
        (channels.where[0], _CLOSED, (subject,)),
        (channels.where[1], _CLOSED, (related,)),
        (channels.where[2], _CLOSED, (other,)),
    )
    for span, closed, roles in doors:
        outputs[span, list(roles)] += closed
        shift[span] -= closed
    for fact, unit in bound.items():
        outputs[:, unit] = -outputs[:, fact]
    wire_map(query_map, inner, outputs, shift, words)


def wire_map(feature_map: FeatureMap, inner: Probe, outputs: Tensor, shift: Tensor, tokens: Tensor) -> None:
    """Makes a map approximate ``outputs [C, I] @ relu(inner(tokens)) + shift [C]``; ``tokens [N, D]`` fit its norms."""
    outer, norm = (layer for layer in feature_map if isinstance(layer, nn.LayerNorm))
    first, second = _linears(feature_map)
    count = len(inner.bias)
    outer.reset_parameters()
    norm.reset_parameters()
    first.weight *= 0.1
    first.bias.zero_()
    # Steps of Adam have the same length for small weights, which would soon be overwritten.
    outer.weight.fill_(_QUIET)
    first.weight[:count], first.bias[:count] = inner.weight / _QUIET, inner.bias
    constants = slice(count, count + _CONSTANTS)
    first.weight[constants], first.bias[constants] = 0, _CONSTANT
    values = F.linear(tokens[:20000] * _QUIET, first.weight, first.bias).relu()
    mean, spread = values.mean(), values.std(dim=1, correction=0).mean()
    second.weight *= 0.05
    second.weight[:, :count] = outputs * spread
    second.weight[:, constants] = 0
    second.bias.copy_(outputs.sum(dim=1) * mean + shift)


def _linears(layers: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


def wire_looking(model: R2Tuning) -> None:
    """Words look at patches that have what they tell."""
    channels, pooling = Channels(), model.block.spatial_pooling
    count, hidden = len(LOOKS), model.config.hidden
    strength = (_SHARPNESS * hidden**0.5) ** 0.5
    for layer in (pooling.query_projection, pooling.video_projection):
        layer.weight *= 0.05
        layer.bias.zero_()
    one = torch.eye(count)
    for span in (channels.look, channels.other_look):
        pooling.query_projection.weight[:count, span] = one * strength / (2 * _ASKED)
    # Of the two channels of a look, at least one is closed.
    pooling.query_projection.bias[:count] = _CLOSED_LOOK * strength / (2 * _ASKED)
    pooling.video_projection.weight[:count, channels.look] = one * strength
    pooling.gate.fill_(1.5)


def wire_time(model: R2Tuning) -> None:
    """Heads look ahead and back, and tell the difference."""
    channels, refinement = Channels(), model.block.temporal_refinement
    attention, width = refinement.self_attention, model.config.hidden // model.config.heads
    refinement.cross_attention.output.weight *= 0.3
    _linears(refinement.feed_forward)[-1].weight *= 0.5
    # Other content must not disturb the position encoding.
    refinement.cross_norm.weight[:_PE] = 0
    angles = [10000.0 ** (-2 * pair / model.config.hidden) for pair in range(_PE // 2)]
    tracks = torch.cat([torch.arange(place.start, place.stop) for place in channels.where])
    attention.output.weight *= 0.3
    free = channels.motion.start
    for number, away in enumerate(_AWAY):
        gain = (4 * width**0.5 / away**2 / sum(angle**2 for angle in angles)) ** 0.5
        for side, sign in enumerate((1, -1)):
            head = slice((2 * number + side) * width, (2 * number + side + 1) * width)
            for layer in (attention.query, attention.key, attention.value):
                layer.weight[head], layer.bias[head] = 0, 0
            for pair, angle in enumerate(angles):
                sine, cosine = 2 * pair, 2 * pair + 1
                turn = sign * away * angle
                row = head.start + 2 * pair
                attention.key.weight[row, sine], attention.key.weight[row + 1, cosine] = gain, gain
                # sin(p + turn), cos(p + turn)
                along, across = gain * math.cos(turn), gain * math.sin(turn)
                attention.query.weight[row, [sine, cosine]] = torch.tensor([along, across])
                attention.query.weight[row + 1, [sine, cosine]] = torch.tensor([-across, along])
            attention.value.weight[head.start : head.start + len(tracks), tracks] = torch.eye(len(tracks))
            attention.output.weight[:, head] = 0
            column = free
            for values, together in _MOTIONS[number]:
                for value in values:
                    attention.output.weight[column, head.start + value] = 1.0 if together else sign * 3.0
                    column += 1
        free = column


def wire_comparing(model: R2Tuning) -> None:
    """Counts what is named and missing, and what moves as named, in the channels of the position encoding.

    Channels of looks and places hold 0, 1 (shown), 2 (named) or 3 (both), in a scale that two more channels show, as
    they hold 0 and 2. Of these values, ``relu(x - 1) - 2 relu(x - 2)`` is 1 for 2 alone.
    """
    channels = Channels()
    first, second = _linears(model.block.temporal_refinement.feed_forward)
    second.weight[:_PE] = 0
    units = iter(range(first.out_features))

    def add_unit(inputs: dict[int, float], target: int, weight: float) -> None:
        unit = next(units)
        first.weight[unit], first.bias[unit] = 0, 0
        for channel, value in inputs.items():
            first.weight[unit, channel] = value
        second.weight[:, unit] = 0
        second.weight[target, unit] = weight

    nothing, asked = channels.nothing.start, channels.asked.start
    for target, span in enumerate((channels.look, channels.other_look, channels.place)):
        for channel in range(span.start, span.stop):
            add_unit({channel: 1.0, nothing: -0.5, asked: -0.5}, target, 1.0)
            add_unit({channel: 1.0, asked: -1.0}, target, -2.0)
    for moved, span in ((_SUBJECT_MOVES, channels.action), (_OTHER_MOVES, channels.other_action)):
        for action, value, sign, weight in _SEEN_AS:
            if value in moved:
                # Active only if the action is named: then both channels are equal.
                gate = {span.start + ACTIONS.index(action): _GATE, asked: -_GATE}
                motion = {channels.motion.start + number: sign for number in moved[value]}
                add_unit(gate | motion, 3, weight)


def wire_heads(model: R2Tuning) -> None:
    """Moments start where nothing is missing and actors move as named, on all levels alike."""
    for step in model.pyramid.modules():
        if isinstance(step, Downsample):
            step.conv.weight[:_PE] = 0
            step.conv.weight[range(_PE), range(_PE)] = 0.5
    first, second = (layer for layer in model.class_head if isinstance(layer, nn.Conv1d))
    assert first.bias is not None
    first.weight[:_PE], first.bias[:_PE] = 0, 0
    first.weight[range(_PE), range(_PE), 1] = 1
    second.weight[0, :_PE] = 0
    second.weight[0, :_PE, 1] = torch.tensor([-1.0, -1.0, -1.0, 0.5])


_SUBJECT, _OTHER = range(GEOMETRY), range(2 * GEOMETRY, 3 * GEOMETRY)
# For each distance: whose values are subtracted (False) or added (True).
_MOTIONS: tuple[tuple[tuple[Sequence[int], bool], ...], ...] = (
    ((_SUBJECT, False), (_SUBJECT, True), (_OTHER, False)),
    ((_SUBJECT, False), (_OTHER[:3], False)),
    ((range(3), False),),
)

_SUBJECT_MOVES = {0: (0, 15, 23), 1: (1, 16, 24), 2: (2, 17, 25), 3: (3, 18)}
_OTHER_MOVES = {0: (10, 20), 1: (11, 21), 2: (12, 22)}
"""The channels of motion that hold the changes of x, y, radius and cosine."""

_GATE = 4.0
_STILL = product((Action.REST, Action.SPIN, Action.BLINK), (0, 1), (1.0, -1.0), (-1.0,))
_SEEN_AS: tuple[tuple[Action, int, float, float], ...] = (
    (Action.MOVE_LEFT, 0, -1.0, 1.0),
    (Action.MOVE_RIGHT, 0, 1.0, 1.0),
    (Action.FALL, 1, 1.0, 1.0),
    (Action.RISE, 1, -1.0, 1.0),
    (Action.GROW, 2, 1.0, 1.0),
    (Action.SHRINK, 2, -1.0, 1.0),
    (Action.BOUNCE, 1, 1.0, 1.0),
    (Action.BOUNCE, 1, -1.0, 1.0),
    (Action.BOUNCE, 0, 1.0, -1.0),
    (Action.BOUNCE, 0, -1.0, -1.0),
    (Action.SPIN, 3, 1.0, 1.0),
    (Action.SPIN, 3, -1.0, 1.0),
    (Action.REST, 2, 1.0, -1.0),
    (Action.REST, 2, -1.0, -1.0),
    *_STILL,
)
"""Evidence: an action, a value, whether it grows (1) or falls (-1), and whether that confirms the action (1) or not."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path, help="cache of drawn frames")
    parser.add_argument("data", type=Path, help="folder of the annotations and features")
    parser.add_argument("folder", type=Path, help="where to write the checkpoint")
    parser.add_argument("--videos", type=int, default=1200)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    arguments = parser.parse_args()
    with show_progress("Frames", "videos") as drawing:
        drawn = draw_frames(arguments.frames, "train", arguments.videos, SIDE, 2, drawing)
    warm_start(drawn, arguments.data, arguments.folder, arguments.settings)
