"""Domains against Gaussians, whose distances are known, and against a literal transcription of the shrinkage."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from r2tuning.checkpoints.domain import DOMAIN_FILE, Domain
from r2tuning.errors import CheckpointError

WIDTH = 12


def draw(count: int, *, seed: int, width: int = WIDTH, shift: float = 0.0) -> torch.Tensor:
    """Samples of a correlated Gaussian whose directions have different spreads."""
    generator = torch.Generator().manual_seed(1)
    mixing = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q * torch.logspace(-0.3, 0.3, width)
    generator.manual_seed(seed)
    return torch.randn(count, width, generator=generator) @ mixing.T + 5 + shift


@pytest.fixture(scope="module")
def domain() -> Domain:
    return Domain.fit(draw(4000, seed=2), draw(4000, seed=3), "a Gaussian")


def test_distances_are_those_of_a_gaussian(domain: Domain) -> None:
    """Squared, they follow a chi-squared distribution: mean D, and 95 % below 21.03 for 12 degrees of freedom."""
    distances = domain.measure(draw(4000, seed=4))
    assert float(distances.mean()) == pytest.approx(WIDTH, rel=0.03)
    assert float(domain.threshold) == pytest.approx(21.03, rel=0.05)


def test_the_same_world_is_inside_and_another_outside(domain: Domain) -> None:
    assert not domain.is_outside(draw(4000, seed=5))
    assert domain.is_outside(draw(500, seed=6, shift=30))
    assert not domain.is_outside(torch.cat([draw(300, seed=7), draw(100, seed=8, shift=30)]))
    assert domain.is_outside(torch.cat([draw(100, seed=7), draw(300, seed=8, shift=30)]))


def test_half_precision_features_are_the_same_world(domain: Domain) -> None:
    frames = draw(1000, seed=9)
    torch.testing.assert_close(domain.measure(frames.half()), domain.measure(frames), rtol=0.02, atol=0.02)
    assert not domain.is_outside(frames.half())


def test_few_frames_are_shrunk_as_ledoit_and_wolf_do() -> None:
    frames = draw(9, seed=10).double()
    mean = frames.mean(0)
    centred = frames - mean
    covariance = sum(torch.outer(x, x) for x in centred) / 9
    target = covariance.trace() / WIDTH * torch.eye(WIDTH, dtype=torch.float64)
    spread = torch.linalg.norm(covariance - target) ** 2
    noise = sum(torch.linalg.norm(torch.outer(x, x) - covariance) ** 2 for x in centred) / 81
    share = min(float(noise / spread), 1.0)
    assert 0.05 < share < 0.95
    precision = torch.linalg.inv(share * target + (1 - share) * covariance)
    asked = draw(20, seed=11).double() - mean
    expected = torch.stack([x @ precision @ x for x in asked])
    found = Domain.fit(frames, frames, "few").measure(asked + mean)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)  # whitening is kept in fp32


def test_frames_that_are_all_the_same_have_no_neighbours() -> None:
    domain = Domain.fit(torch.ones(5, 3), torch.ones(2, 3), "one picture")
    assert not domain.is_outside(torch.ones(4, 3))
    assert domain.is_outside(torch.ones(4, 3) + 0.01)


def test_too_few_frames() -> None:
    with pytest.raises(ValueError, match="1 and 3 frames are too few"):
        Domain.fit(torch.ones(1, 3), torch.ones(3, 3), "")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / DOMAIN_FILE


def test_saving_and_loading(domain: Domain, file: Path) -> None:
    assert Domain.load(file, WIDTH) is None
    domain.save(file)
    assert list(file.parent.iterdir()) == [file]
    loaded = Domain.load(file, WIDTH)
    assert loaded is not None
    assert loaded.world == "a Gaussian"
    frames = draw(50, seed=12)
    assert torch.equal(loaded.measure(frames), domain.measure(frames))
    assert torch.equal(loaded.threshold, domain.threshold)


def test_it_is_small(file: Path) -> None:
    wide = draw(400, seed=13, width=160)
    Domain.fit(wide, wide, "").save(file)
    assert file.stat().st_size < 200_000


def test_damaged_files_are_refused_in_one_line(domain: Domain, file: Path) -> None:
    domain.save(file)
    with pytest.raises(CheckpointError, match=r"'mean' is \[12\], expected \[160\]"):
        Domain.load(file, 160)
    save_file(load_file(file), file)
    with pytest.raises(CheckpointError, match="does not say what its frames show"):
        Domain.load(file, WIDTH)
    domain.save(file)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match=r"domain\.safetensors: truncated or not a safetensors file") as caught:
        Domain.load(file, WIDTH)
    assert "\n" not in str(caught.value)
