"""The wired weights of the demo's head do what they are wired for."""

from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F

from projects.moving_shapes.frames import ACTIONS
from projects.moving_shapes.probes import TOLD, Probe, fit_probe, fit_values
from projects.moving_shapes.told import FACTS, LOOKS
from projects.moving_shapes.warm_start import Channels, wire_comparing, wire_map, wire_time
from r2tuning.model import R2Config, R2Tuning
from r2tuning.model.layers import FeatureMap, position_encoding
from r2tuning.synthetic.scenes import Action


@pytest.fixture
def model() -> R2Tuning:
    torch.manual_seed(0)
    return R2Tuning(R2Config(video_width=160, query_width=128, hidden=128, heads=8, layers=2)).eval()


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def test_topics_of_words_are_those_of_facts_with_looks_told_once() -> None:
    assert [number for numbers in TOLD.values() for number in numbers] == list(range(len(FACTS) - len(LOOKS)))
    assert len(TOLD["place"]) == len({name for topic, name in FACTS if topic == "place"})


def test_channels_leave_no_room_and_do_not_overlap() -> None:
    channels = Channels()
    spans = [channels.nothing, channels.asked, channels.look, channels.other_look, *channels.where]
    spans += [channels.action, channels.other_action, channels.corner, channels.place]
    taken = [number for span in spans for number in range(span.start, span.stop)]
    assert taken == list(range(4, channels.motion.start))
    assert channels.motion.start + 26 == 128  # what `wire_time` fills


def test_a_map_gives_what_it_is_wired_for() -> None:
    torch.manual_seed(1)
    tokens = F.layer_norm(torch.randn(500, 40), (40,))
    feature_map = FeatureMap(40, 64, 0.0).eval()
    inner = Probe(torch.randn(12, 40) * 0.1, torch.randn(12) * 0.3)
    outputs, shift = torch.zeros(64, 12), torch.randn(64)
    outputs[:20] = torch.randn(20, 12)
    wire_map(feature_map, inner, outputs, shift, tokens)
    wanted = F.linear(F.linear(tokens, inner.weight, inner.bias).relu(), outputs, shift)
    # The inner LayerNorm spreads tokens a little differently, and what is left of random weights is small.
    error = (feature_map(tokens) - wanted).abs()
    assert error.mean() < 0.12
    assert wanted[:, :20].std() > 1


def test_heads_look_ahead_and_back(model: R2Tuning) -> None:
    wire_time(model)
    attention, frames = model.block.temporal_refinement.self_attention, 57
    x = torch.randn(1, frames, 128)
    x[..., :4] = 0
    located = x + position_encoding(torch.ones(1, frames, dtype=torch.bool), 128)
    queries, keys = (layer(located).view(frames, 8, 16) for layer in (attention.query, attention.key))
    weights = (torch.einsum("thc,shc->hts", queries, keys) / 4).softmax(dim=-1)
    looked = weights @ torch.arange(frames).float() - torch.arange(frames)  # [heads, frames]
    for pair, away in enumerate((0.11, 0.22, 0.42)):
        expected = away * frames / (2 * torch.pi)
        torch.testing.assert_close(looked[2 * pair, 8:-8].mean(), torch.tensor(expected), rtol=0.1, atol=0)
        torch.testing.assert_close(looked[2 * pair + 1, 8:-8].mean(), torch.tensor(-expected), rtol=0.1, atol=0)


def test_what_is_missing_is_counted_in_any_scale(model: R2Tuning) -> None:
    wire_comparing(model)
    channels, layer = Channels(), model.block.temporal_refinement.feed_forward
    values = torch.zeros(128)
    values[channels.asked] = 2.0
    first = channels.look.start
    values[first : first + 4] = torch.tensor([0.0, 1.0, 2.0, 3.0])  # neither, there, asked for, both
    counted = [float(layer(scale * values + shift)[0] / scale) for scale, shift in ((1.0, 0.0), (0.5, -0.3))]
    expected = 1 + float(layer[-1].bias[0])
    assert counted[0] == pytest.approx(expected, abs=1e-4)
    assert counted[1] == pytest.approx(1 + float(layer[-1].bias[0]) / 0.5, abs=1e-4)


@pytest.mark.parametrize(
    ("action", "value", "speed", "sign"),
    [
        (Action.MOVE_LEFT, 0, -1.0, 1),
        (Action.MOVE_RIGHT, 0, 1.0, 1),
        (Action.FALL, 1, 1.0, 1),
        (Action.REST, 0, 1.0, -1),
    ],
)
def test_what_moves_as_asked_is_noticed(model: R2Tuning, action: Action, value: int, speed: float, sign: int) -> None:
    wire_comparing(model)
    channels, layer = Channels(), model.block.temporal_refinement.feed_forward
    asked = torch.zeros(128)
    asked[channels.asked] = 2.0
    still = asked.clone()
    still[channels.action.start + ACTIONS.index(action)] = 2.0
    moving = still.clone()
    moving[channels.motion.start + value] = speed
    other = asked.clone()
    other[channels.motion.start + value] = speed
    noticed = float(layer(moving)[3] - layer(still)[3])
    assert noticed == pytest.approx(sign * abs(speed), abs=1e-4)
    assert float(layer(other)[3] - layer(asked)[3]) == pytest.approx(0, abs=1e-4)  # nobody asked for it


def test_probes_find_what_is_linear() -> None:
    torch.manual_seed(2)
    tokens = torch.randn(4000, 10)
    truth = (tokens[:, :3] > 0.5).float()
    with torch.enable_grad():
        probe = fit_probe(tokens, truth, torch.ones_like(truth))
    right = ((F.linear(tokens, probe.weight, probe.bias) > 0) == truth.bool()).float().mean()
    assert right > 0.97
    values = tokens[:, :2] * 0.5 + 1
    found = fit_values(tokens[:2000], values[:2000], tokens[2000:])
    error = F.linear(tokens[:2000], found.weight, found.bias) - values[:2000]
    assert error.abs().mean() < 0.15  # the others pull it towards 0
