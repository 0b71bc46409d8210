"""Training in float64 equals the transcription: losses, gradients, ten optimizer steps, in both forms.

In float64 two correct implementations agree to rounding whatever the seed, so this judges parity. In fp32 they need
not: see `test_golden_training`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from support.dense_transcription import predict_densely
from support.golden import CASES, expected, export_official, inputs, official_state_dict
from support.models import features, float64, small_model
from support.spelled_losses import spell_losses
from torch import Tensor

from r2tuning.checkpoints.official import list_parameters
from r2tuning.model import R2Config, R2Tuning
from r2tuning.training.losses import LossConfig, Losses, compute_losses
from r2tuning.training.targets import Targets

pytestmark = pytest.mark.usefixtures("one_thread")

LOSS, GRADIENT = 1e-12, 1e-12
"""Relative to the loss; of a gradient's difference to the largest gradient of the model."""
STEPS = 1e-10
"""Relative, of losses and parameters after steps, which amplify rounding."""


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    with float64():
        yield


@dataclass
class Truth:
    """What a batch of one length is trained on."""

    moments: list[list[tuple[float, float]]]
    fps: float
    saliency: list[list[float]]
    positive: list[int]

    def as_targets(self) -> Targets:
        most = max(len(rows) for rows in self.moments)
        padded = [[*rows, *[(np.inf, np.inf)] * (most - len(rows))] for rows in self.moments]
        saliency = torch.tensor(self.saliency)
        return Targets(
            moments=torch.tensor(padded).reshape(len(padded), most, 2),
            fps=torch.full((len(padded),), self.fps),
            saliency=saliency,
            positive=torch.tensor(self.positive),
            positive_mask=saliency > 0,
            video=torch.arange(len(padded)),
            present=torch.ones(len(padded), dtype=torch.bool),
        )


@dataclass
class Trace:
    """A training run: what the first step found, and what the others made of it. Names are the authors'."""

    losses: dict[str, float] = field(default_factory=dict)
    gradients: dict[str, Tensor] = field(default_factory=dict)
    trajectory: list[float] = field(default_factory=list)
    parameters: dict[str, Tensor] = field(default_factory=dict)


def train_ours(model: R2Tuning, video: Tensor, query: Tensor, truth: Truth, recipe: str, steps: int) -> Trace:
    """Steps of the model through the training kernels, with the optimizer of the recipe."""
    trace, targets = Trace(), truth.as_targets()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=1e-4)
    for step in range(steps):
        optimizer.zero_grad()
        losses: Losses = compute_losses(model(video, query), targets, LossConfig(recipe=recipe))
        losses.total.backward()
        if step == 0:
            trace.losses = {name: value.item() for name, value in vars(losses).items() if value is not None}
            trace.gradients = export_official(
                {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in model.named_parameters()}
            )
        trace.trajectory.append(losses.total.item())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 35)
        optimizer.step()
    trace.parameters = export_official(model.state_dict())
    return trace


def train_literally(
    weights: dict[str, Tensor], config: R2Config, video: Tensor, query: Tensor, truth: Truth, recipe: str, steps: int
) -> Trace:
    """The same with the transcription of model and losses, and AdamW written out."""
    trace = Trace()
    rate, decay, first, second, tiny = 5e-4, 1e-4, 0.9, 0.999, 1e-8
    weights = {name: value.clone().requires_grad_() for name, value in weights.items()}
    mean, square = ({name: torch.zeros_like(value) for name, value in weights.items()} for _ in range(2))
    for step in range(1, steps + 1):
        found = predict_densely(weights, video, query, config.heads, padding=False, form=config.form)
        losses = spell_losses(found, config.strides, truth.moments, truth.fps, truth.saliency, truth.positive, recipe)
        total = sum(losses.values(), torch.zeros(()))
        gradients = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        if step == 1:
            trace.losses = {name: value.item() for name, value in losses.items()}
            trace.gradients = {
                n: torch.zeros_like(w) if g is None else g for (n, w), g in zip(weights.items(), gradients, strict=True)
            }
        trace.trajectory.append(total.item())
        size = torch.stack([g.norm() for g in gradients if g is not None]).norm()
        shrink = min(1.0, 35 / (size.item() + 1e-6))
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            if gradient is None:
                continue
            g = gradient * shrink
            mean[name] = first * mean[name] + (1 - first) * g
            square[name] = second * square[name] + (1 - second) * g * g
            along = mean[name] / (1 - first**step)
            spread = (square[name] / (1 - second**step)).sqrt() + tiny
            weights[name] = (weight - rate * decay * weight - rate * along / spread).detach().requires_grad_()
    trace.parameters = {name: value.detach() for name, value in weights.items()}
    return trace


def assert_same(got: Trace, want: Trace) -> None:
    assert got.losses == pytest.approx(want.losses, rel=LOSS)
    largest = max(gradient.norm().item() for gradient in want.gradients.values())
    assert got.gradients.keys() == want.gradients.keys()
    for name, gradient in want.gradients.items():
        assert (got.gradients[name] - gradient).norm().item() <= GRADIENT * largest, name
    assert got.trajectory == pytest.approx(want.trajectory, rel=STEPS)
    for name, value in want.parameters.items():
        torch.testing.assert_close(
            got.parameters[name], value, rtol=STEPS, atol=STEPS, msg=lambda t, n=name: f"{n}: {t}"
        )


def draw_truth(random: np.random.Generator, family: str, samples: int, frames: int, fps: float) -> Truth:
    """One or two moments for each sample, and graded saliency that is positive in the moments."""
    moments, saliency = [], []
    for _ in range(samples):
        own = []
        for _ in range(int(random.integers(1, 3))):
            start = float(random.uniform(0, frames - 2))
            own.append((start / fps, min(frames, start + float(random.uniform(1.5, 9))) / fps))
        moments.append(own if family == "grounding" else [])
        inside = [any(start * fps <= t < end * fps for start, end in own) for t in range(frames)]
        inside[int(random.integers(frames))] = True
        saliency.append([float(random.integers(1, 5)) / 4 if here else 0.0 for here in inside])
    positive = [int(random.choice(np.flatnonzero(row))) for row in saliency]
    return Truth(moments, fps, saliency, positive)


@pytest.mark.parametrize("recipe", ["released", "paper"])
@pytest.mark.parametrize("form", ["released", "paper"])
@pytest.mark.parametrize("family", ["grounding", "saliency"])
@pytest.mark.parametrize("seed", range(3))
def test_ten_steps_equal_those_of_the_transcription(seed: int, family: str, form: str, recipe: str) -> None:
    config = R2Config(
        family=family, form=form, video_width=24, query_width=16, layers=3, hidden=32, heads=4, dropout=0, drop_path=0
    )
    random = np.random.default_rng(seed)
    frames = int(random.integers(8, 17))
    video, query = features(config, 3, frames, 4, int(random.integers(2, 6)), seed)
    truth = draw_truth(random, family, 3, frames, fps=float(random.choice([0.5, 1.0])))
    model = small_model(config, seed).train()
    weights = {name: value.clone() for name, value in export_official(model.state_dict()).items()}
    got = train_ours(model, video, query, truth, recipe, steps=10)
    assert all(gradient.isfinite().all() for gradient in got.gradients.values())
    assert got.trajectory[-1] < got.trajectory[0]
    assert_same(got, train_literally(weights, config, video, query, truth, recipe, steps=10))


@pytest.mark.parametrize("name", ["grounding_train_B4_T24_L6", "saliency_train_B2_T40_L5"])
def test_the_transcription_gives_the_released_losses_and_gradients_and_so_do_we(name: str) -> None:
    """The released numbers are fp32; their rounding is that of `test_golden_training`."""
    case, numbers = CASES[name], expected(name)
    family = case["arch"]
    config = R2Config(family=family, dropout=0, drop_path=0)
    weights = {key: value.double() for key, value in official_state_dict(family).items()}
    video, query = (x.double() for x in inputs(case))
    moments = numbers["boundary_target"].tolist() if family == "grounding" else [[]] * case["B"]
    truth = Truth(
        moments=[[(start, end) for start, end in rows if start < np.inf] for rows in moments],
        fps=case["fps"],
        saliency=numbers["saliency_target"].double().tolist(),
        positive=numbers["pos_clip"].squeeze(1).tolist(),
    )
    want = train_literally(weights, config, video, query, truth, "released", steps=1)
    ours = {"loss_cls": "classification", "loss_reg": "offset", "loss_sal": "saliency"}
    ours |= {f"loss_{kind}_cal": f"{kind}_calibration" for kind in ("video", "layer")}
    assert want.losses == pytest.approx({ours[key]: loss for key, loss in case["losses"].items()}, rel=1e-4)
    for key, norm in case["grad_norm"].items():
        assert want.gradients[key].norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), key

    model = R2Tuning(config).train()
    model.load_state_dict({mine: weights[theirs] for theirs, mine, _ in list_parameters(config)})
    assert_same(train_ours(model, video, query, truth, "released", steps=1), want)
