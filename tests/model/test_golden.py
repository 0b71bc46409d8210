"""The model against numbers of the released implementation, stage by stage."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from support.golden import CASES, expected, inputs, names, official_state_dict
from support.transcription import transcribe
from torch import Tensor

from r2tuning.checkpoints.official import read_official
from r2tuning.decoding import decode
from r2tuning.model import R2Tuning

ATOL = 1e-4  # fp32 on another machine and another order of sums
RTOL_NORM = 1e-4


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, R2Tuning]:
    built = {}
    for arch in ("grounding", "saliency"):
        path = tmp_path_factory.mktemp(arch) / "official.pth"
        torch.save({"meta": {}, "state_dict": official_state_dict(arch)}, path)
        config, weights = read_official(path)
        built[arch] = R2Tuning(config).eval()
        built[arch].load_state_dict(weights)
    return built


class Steps(NamedTuple):
    """What enters the temporal layer and what leaves it, in the order run."""

    fused: list[Tensor]
    states: list[Tensor]


@pytest.fixture
def steps(models: dict[str, R2Tuning]):
    """Records the steps of a model's next runs."""
    handles = []

    def record(model: R2Tuning) -> Steps:
        recorded = Steps([], [])

        def hook(_: torch.nn.Module, entering: tuple[Tensor, ...], leaving: Tensor) -> None:
            recorded.fused.append(entering[0])
            recorded.states.append(leaving)

        handles.append(model.block.temporal_refinement.register_forward_hook(hook))
        return recorded

    yield record
    for handle in handles:
        handle.remove()


def assert_stages(name: str, fused: Tensor, states: Tensor, moments: Tensor, saliency: Tensor) -> None:
    """Compares all stages of a case: ``fused`` and ``states`` are ``[K, T, C]`` in the order run."""
    want = expected(name)
    for tensor, norms in ((fused, "fused_step_norm"), (states, "hidden_step_norm")):
        torch.testing.assert_close(tensor.flatten(1).norm(dim=1), want[norms], rtol=RTOL_NORM, atol=0)
    torch.testing.assert_close(states[-1, :, ::8], want["hidden_last"], rtol=0, atol=ATOL)
    torch.testing.assert_close(saliency, want["saliency"], rtol=0, atol=ATOL)
    if "boundary" in want:
        torch.testing.assert_close(moments, want["boundary"], rtol=0, atol=ATOL)
    else:
        assert moments.shape == (0, 3)


@pytest.mark.parametrize("name", names("infer"))
@torch.no_grad()
def test_released_numbers(name: str, models: dict[str, R2Tuning], steps: Callable[[R2Tuning], Steps]) -> None:
    case = CASES[name]
    model = models[case["arch"]]
    recorded = steps(model)
    output = model(*inputs(case))
    (decoded,) = decode(output, case["fps"])
    states = torch.cat(recorded.states)
    torch.testing.assert_close(output.hidden, states[-1:].relu(), rtol=0, atol=0)
    assert_stages(name, torch.cat(recorded.fused), states, decoded.moments, decoded.saliency)


@pytest.mark.parametrize("name", names("infer"))
@torch.no_grad()
def test_released_numbers_from_a_projected_video(name: str, models: dict[str, R2Tuning]) -> None:
    case = CASES[name]
    model = models[case["arch"]]
    video, query = inputs(case)
    output = model.predict(model.project(video), query)
    (decoded,) = decode(output, case["fps"])
    torch.testing.assert_close(decoded.saliency, expected(name)["saliency"], rtol=0, atol=ATOL)
    if "boundary" in expected(name):
        torch.testing.assert_close(decoded.moments, expected(name)["boundary"], rtol=0, atol=ATOL)
    else:
        assert decoded.moments.shape == (0, 3)


@torch.no_grad()
def test_a_padded_batch_gives_the_released_numbers_of_single_runs(models: dict[str, R2Tuning]) -> None:
    """Padding is noise here: the released implementation, given zeros, would already answer otherwise."""
    batch = ["grounding_infer_T10_L4", "grounding_infer_T33_L20", "grounding_infer_T5_L3"]
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(len(batch), 4, 36, 50, 768, generator=generator)
    query = torch.randn(len(batch), 4, 22, 512, generator=generator)
    video_mask, query_mask = (torch.zeros(len(batch), size, dtype=torch.bool) for size in (36, 22))
    for i, name in enumerate(batch):
        (frames,), (words,) = inputs(CASES[name])
        video[i, :, : frames.shape[1]], query[i, :, : words.shape[1]] = frames, words
        video_mask[i, : frames.shape[1]], query_mask[i, : words.shape[1]] = True, True
    output = models["grounding"](video, query, video_mask, query_mask)
    for i, name in enumerate(batch):
        decoded = decode(output, CASES[name]["fps"])[i]
        torch.testing.assert_close(decoded.saliency, expected(name)["saliency"], rtol=0, atol=ATOL)
        torch.testing.assert_close(decoded.moments, expected(name)["boundary"], rtol=0, atol=ATOL)


@pytest.mark.parametrize("name", ["grounding_infer_T5_L3", "grounding_infer_T10_L4"])  # the longer ones take long
def test_the_transcription_gives_the_released_numbers_too(name: str) -> None:
    case = CASES[name]
    weights = {key: tensor.double().numpy() for key, tensor in official_state_dict(case["arch"]).items()}
    video, query = (x[0].double().numpy() for x in inputs(case))
    got = transcribe(weights, video, query, case["fps"])
    stages = (got.fused, got.states, got.moments, got.saliency)
    assert_stages(name, *(torch.from_numpy(stage.astype(np.float32)) for stage in stages))
