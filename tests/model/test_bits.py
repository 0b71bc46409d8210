"""Dropout masks from packed random bits."""

import pytest
import torch

from r2tuning.model.bits import draw_bits, keep, kept_share, spread_bits

CPU = torch.device("cpu")


@pytest.mark.parametrize("dropout", [0.5, 0.3, 0.35, 0.9, 1 / 256, 0.997])
def test_entries_are_kept_as_often_as_they_should_be(dropout: float) -> None:
    torch.manual_seed(0)
    share, count = kept_share(dropout), 400_001
    assert share == pytest.approx(1 - dropout, abs=1 / 512 + 1e-9)
    mask = spread_bits(draw_bits(count, share, CPU), count)
    assert mask.shape == (count,)
    kept = keep(torch.ones(count), mask)
    assert set(kept.tolist()) == {0.0, 1.0}
    deviation = (share * (1 - share) / count) ** 0.5
    assert kept.mean().item() == pytest.approx(share, abs=5 * deviation)
    # Neighbours, in memory and in a word, know nothing of each other.
    for lag in (1, 32, 64, -(-count // 64) * 2):
        both = (kept[lag:] * kept[:-lag]).mean().item()
        assert both == pytest.approx(share**2, abs=6 * deviation)


def test_the_seed_decides() -> None:
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(draw_bits(1000, 0.75, CPU))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keep_leaves_the_rest_as_it_was(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.randn(7, 11, dtype=dtype)
    mask = spread_bits(draw_bits(77, 0.5, CPU), 77)
    want = torch.where(mask.view(7, 11) == -1, values, 0)
    assert keep(values.clone(), None).equal(values)
    assert keep(values, mask) is values
    assert values.equal(want)
    assert 20 < (mask == -1).sum() < 57
