"""The scan of segments equals a plain product, whatever the segments are."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from r2tuning.errors import LibraryError
from r2tuning.library.catalog import open_catalog
from r2tuning.library.records import GenerationFacts, Video
from r2tuning.library.segments import FrameVectors, SegmentIndex, segment_path, thin

FACTS = GenerationFacts(
    model="m", backbone_at=None, head="h", backbone="b", fingerprint="f", preprocess_version=1, fps=1, window=4,
    sampling="exact", engine="torch", keep="vectors",
)  # fmt: skip


def make_video(number: int, generation: int, frames: int) -> Video:
    return Video(number, generation, f"identity {number}", frames, 0, 1, frames, "exact", False, 0)


def fill(folder: Path, lengths: list[int], most_rows: int, seed: int = 0) -> tuple[SegmentIndex, list[torch.Tensor]]:
    index, generator = SegmentIndex(folder, most_rows), torch.Generator().manual_seed(seed)
    vectors = [normalize(torch.randn(length, 8, generator=generator), dim=1).half() for length in lengths]
    with open_catalog(folder, create=True) as catalog:
        with catalog.change():
            generation = catalog.add_generation(FACTS, current=True).id
        for number, rows in enumerate(vectors, start=1):
            with catalog.change():
                catalog.add_video(make_video(number, generation, 2 * len(rows)))
                frames = 2 * np.arange(len(rows), dtype=np.int32)
                index.append(catalog, generation, number, FrameVectors(rows.numpy(), frames))
    return index, vectors


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    most_rows=st.integers(1, 20),
    count=st.integers(1, 8),
    apart=st.integers(1, 8),
    seed=st.integers(0, 99),
    data=st.data(),
)
def test_peaks_are_those_of_a_plain_product(
    lengths: list[int], most_rows: int, count: int, apart: int, seed: int, data: st.DataObject,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("segments")
    index, vectors = fill(folder, lengths, most_rows, seed)
    query = normalize(torch.randn(8, generator=torch.Generator().manual_seed(seed + 1)), dim=0)
    chosen = data.draw(st.sets(st.integers(1, len(lengths))))
    with open_catalog(folder) as catalog:
        peaks = index.view(catalog, 1).scan(query, chosen, count, apart)
    expected = []
    for number in chosen:
        curve = (vectors[number - 1].float() @ query).numpy()
        left = set(range(len(curve)))
        while left:
            top = max(left, key=lambda row: (curve[row], -row))
            expected.append((float(curve[top]), number, 2 * top))
            left -= {row for row in left if abs(2 * row - 2 * top) < apart}
    expected.sort(key=lambda peak: -peak[0])
    assert [(peak.video, peak.frame) for peak in peaks] == [peak[1:] for peak in expected[:count]]
    np.testing.assert_allclose([peak.cosine for peak in peaks], [peak[0] for peak in expected[:count]], atol=1e-6)
    for peak in peaks:
        assert 0 <= peak.first <= peak.frame <= peak.last < 2 * lengths[peak.video - 1]


def test_rows_after_those_of_the_catalog_are_overwritten(tmp_path: Path) -> None:
    index, (old,) = fill(tmp_path, [3], 100)
    with segment_path(tmp_path, 1).open("ab") as file:
        file.write(b"what a killed run left")
    with open_catalog(tmp_path) as catalog:
        with catalog.change():
            catalog.add_video(make_video(2, 1, 3))
            index.append(catalog, 1, 2, FrameVectors(old.numpy()[::-1].copy(), np.arange(3, dtype=np.int32)))
        peaks = index.view(catalog, 1).scan(old[0].float(), {2}, 1, 1)
    assert segment_path(tmp_path, 1).stat().st_size == 6 * 8 * 2
    assert [(peak.video, peak.frame) for peak in peaks] == [(2, 2)]


def test_a_view_stays_as_it_was_and_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    index, (old,) = fill(tmp_path, [3], 100)
    with open_catalog(tmp_path) as catalog:
        view = index.view(catalog, 1)
        with suppress(KeyError), catalog.change():
            catalog.add_video(make_video(2, 1, 3))
            index.append(catalog, 1, 2, FrameVectors(old.numpy(), np.arange(3, dtype=np.int32)))
            raise KeyError
        assert len(catalog.list_videos()) == 1
        assert catalog.list_segments()[0].rows == 3
        with catalog.change():
            catalog.drop_videos([1])
        assert [peak.video for peak in view.scan(old[0].float(), {1}, 1, 1)] == [1]
        assert index.view(catalog, 1).scan(old[0].float(), {1}, 1, 1) == []


def test_missing_and_short_segments_are_one_line(tmp_path: Path) -> None:
    index, _ = fill(tmp_path, [3], 100)
    path = segment_path(tmp_path, 1)
    for content in (path.read_bytes()[:-1], None):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with open_catalog(tmp_path) as catalog, pytest.raises(LibraryError, match=r"1\.f16: .*; run r2tuning library"):
            index.view(catalog, 1)


def test_thinning_keeps_what_differs() -> None:
    angles = torch.tensor([0.0, 0.1, 0.2, 0.35, 0.4, 3.0, 3.0])
    vectors = torch.stack([angles.cos(), angles.sin()], dim=1)
    kept = thin(vectors, np.arange(10, 17, dtype=np.int32))
    # cos 0.35 = 0.939, and cos 0.3 = 0.955.
    assert kept.frames.tolist() == [10, 13, 15]
    assert kept.vectors.dtype == np.float16
    # A slow turn is not one frame: each is compared with the last that is kept.
    slow = torch.linspace(0, 3.1, 100)
    assert len(thin(torch.stack([slow.cos(), slow.sin()], dim=1), np.arange(100, dtype=np.int32)).frames) >= 9


@pytest.mark.parametrize(("noise", "event"), [(0.1, 0.1), (0.07, 0.03), (0.02, 0.03)])
def test_thinning_keeps_what_happens_in_a_still_shot(noise: float, event: float) -> None:
    """As in a real CLIP, frames share half of their length, two channels stand out, and a shot shares most of the rest.

    In each of 100 videos something happens for 6 frames that takes ``event`` of the squared length. A query is near it
    and otherwise anywhere. What is found among all frames is found among those that are kept.
    """
    generator = torch.Generator().manual_seed(0)

    def directions(*shape: int) -> torch.Tensor:
        return normalize(torch.randn(*shape, 256, generator=generator), dim=-1)

    common = directions()
    common[[7, 133]] += torch.tensor([0.6, -0.8])
    videos, queries = [], []
    for _ in range(100):
        start, what, moving = int(torch.randint(0, 94, (), generator=generator)), directions(), directions(100)
        for frame in range(1, 100):
            moving[frame] = normalize(0.8 * moving[frame - 1] + 0.6 * moving[frame], dim=0)
        frames = (0.5**0.5) * normalize(common, dim=0) + 0.4**0.5 * directions() + noise**0.5 * moving
        frames[start : start + 6] += event**0.5 * what
        videos.append(normalize(frames, dim=1))
        queries += [(start, normalize(0.5 * what + 0.9 * directions(), dim=0)) for _ in range(3)]
    kept = [thin(video, np.arange(100, dtype=np.int32)) for video in videos]
    assert sum(len(one.frames) for one in kept) < 0.6 * 100 * 100

    def count_found(of: list[tuple[np.ndarray, torch.Tensor]]) -> int:
        """Queries whose event is among the ten nearest videos' nearest frames."""
        found = 0
        for place, (start, query) in enumerate(queries):
            cosines = [vectors @ query for _, vectors in of]
            nearest = sorted(range(100), key=lambda video: -float(cosines[video].max()))[:10]
            frame = int(of[place // 3][0][int(cosines[place // 3].argmax())])
            found += place // 3 in nearest and start - 3 <= frame < start + 9
        return found

    whole = count_found([(np.arange(100), video) for video in videos])
    thinned = count_found([(one.frames, torch.from_numpy(one.vectors).float()) for one in kept])
    assert whole > 150
    assert thinned >= 0.95 * whole
