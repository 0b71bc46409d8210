"""The front door: a video and a sentence in, moments and a saliency curve out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from r2tuning.backbones import Backbone, choose_device, load_backbone
from r2tuning.checkpoints import DOMAIN_FILE, CheckpointConfig, Domain, find_checkpoint, read_checkpoint
from r2tuning.checkpoints.folder import load_calibration
from r2tuning.checkpoints.resolve import find_missing
from r2tuning.compatibility import check_backbone, check_features, check_language, compare_domain
from r2tuning.decoding import Decoded
from r2tuning.decoding.calibration import Calibration, judge_presence
from r2tuning.decoding.decode import check_limits, finish_moments, keep_distinct
from r2tuning.decoding.highlights import score_frames
from r2tuning.decoding.windows import Window, merge_moments, merge_presence, merge_saliency, plan_windows
from r2tuning.errors import BackboneError, CheckpointWarning, DownloadError, QueryWarning
from r2tuning.features import FEATURE_SUFFIX, EncodedVideo, encode_video
from r2tuning.features.encoded import EncodingFacts
from r2tuning.model import R2Tuning
from r2tuning.model.pooling import QuantizedTokens
from r2tuning.model.projection import WindowProjector
from r2tuning.prediction import PAIRS, predict_windows
from r2tuning.results import Grounding
from r2tuning.types import Engine, Moment, QueryFeatures, Saliency, Sampling

PROJECTED_BYTES = 512 * 2**20
"""Largest size of the cached patches of the last video: 35 windows of QVHighlights, or 45 minutes."""

FRAMES_READ = 256  # frames whose features are in memory at once


class Grounder:
    """Finds moments in videos; use `from_pretrained` to make one.

    Args:
        model: A trained model on the device to run on.
        config: The configuration of its checkpoint.
        backbone: The frozen backbone it was trained on; None if only existing features are used (`answer`).
        domain: Statistics of its training data; `ground` warns about videos unlike it.
        calibration: Turns scores into probabilities; None keeps raw scores, as benchmarks need.

    Raises:
        BackboneError: If the backbone does not fit the model.
    """

    def __init__(
        self,
        model: R2Tuning,
        config: CheckpointConfig,
        backbone: Backbone | None,
        domain: Domain | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        if backbone is not None:
            check_backbone(config, backbone)
        self.model = model.eval()
        self.config = config
        self._backbone = backbone
        self._domain = domain
        self.calibration = calibration
        self._projected: WeakKeyDictionary[EncodedVideo, dict[Window, Tensor]] = WeakKeyDictionary()

    def __repr__(self) -> str:
        config, backbone = self.config, "no backbone" if self._backbone is None else self._backbone.name
        return f"<Grounder {config.name}: {config.model.family}, {config.fps:g} fps, {backbone} on {self._device}>"

    @property
    def backbone(self) -> Backbone:
        """The frozen backbone.

        Raises:
            BackboneError: If there is none.
        """
        if self._backbone is None:
            raise BackboneError(f"{self.config.name}: loaded without a backbone; use Grounder.from_pretrained")
        return self._backbone

    @property
    def tells_presence(self) -> bool:
        """Whether answers say if the video shows the query at all: with a presence head, or calibrated for it."""
        return self.config.model.presence or (self.calibration is not None and self.calibration.presence is not None)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "qvhighlights",
        *,
        backbone: str | Path | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype | None = None,
        engine: Engine | None = None,
    ) -> Grounder:
        """Loads a checkpoint and its backbone, and downloads what is not cached.

        Args:
            name: A published checkpoint (listed by `r2tuning models`), a checkpoint folder, an authors' ``.pth``, or
                ``demo``, which ships with the package and knows only Moving Shapes.
            backbone: Where else the checkpoint's backbone is: short name, hub name or folder.
            device: Where to run; None for the GPU if there is one.
            dtype: Precision of the backbone; None for fp32 on CPU and fp16 elsewhere. The model itself runs in fp32.
            engine: ``torch``; ``torch-bf16``, faster on a CPU with AMX; ``onnx-int8`` (extra ``onnx``), faster on any
                CPU; None for bf16 where that is faster.

        Raises:
            CheckpointError: If the checkpoint is unknown or damaged.
            BackboneError: If the backbone cannot be loaded or does not fit the model.
            DownloadError: If the checkpoint or its backbone is not cached and cannot be downloaded.
        """
        missing = find_missing(name, backbone)
        try:
            path = find_checkpoint(name)
            config, model = read_checkpoint(path)
            loaded = load_backbone(
                backbone or config.backbone,
                layers=config.model.layers,
                device=choose_device(device),
                dtype=dtype,
                engine=engine,
            )
        except DownloadError as error:
            wanted = " and ".join(f"{one} from {one.url}" for one in missing)
            problem = f"{name} needs {wanted}, which cannot be downloaded: {error.reason or error}"
            advice = "connect and try again, or fetch all by other means and pass them with --model and --backbone"
            raise DownloadError(f"{problem}; {advice}", error.reason) from error
        # With other weights, features have another distribution and scores another meaning.
        same = backbone is None or loaded.fingerprint == config.fingerprint
        domain = Domain.load(path / DOMAIN_FILE, config.model.video_width) if same else None
        calibration = load_calibration(path) if same else None
        return cls(model.to(loaded.device), config, loaded, domain, calibration)

    def encode(
        self,
        path: str | Path,
        *,
        fps: float | None = None,
        sampling: Sampling = "exact",
        batch_size: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> EncodedVideo:
        """Encodes a video once, for any number of queries; memory does not grow with its length.

        Args:
            path: Video file.
            fps: Frames per second to sample; None for the rate the model was trained with.
            sampling: ``exact``, or ``fast`` or ``keyframe`` for speed.
            batch_size: Frames that go through the backbone at once.
            progress: Called with the number of frames done and the total.

        Raises:
            VideoError: If nothing of the file can be used.
            FeatureError: If there is no room for the features.
            ValueError: If ``fps`` or ``batch_size`` is not positive.
        """
        if (fps is not None and not 0 < fps < float("inf")) or batch_size < 1:
            raise ValueError(f"fps and batch_size must be positive, not {fps} and {batch_size}")
        return encode_video(
            path,
            self.backbone,
            fps or self.config.fps,
            sampling=sampling,
            batch_size=batch_size,
            progress=progress,
        )

    @overload
    def ground(  # type: ignore[overload-overlap]  # a str is a Sequence[str] too, but the first signature wins
        self,
        video: EncodedVideo | str | Path,
        query: str,
        *,
        top_k: int | None = ...,
        threshold: float | None = ...,
        overlapping: bool = ...,
    ) -> Grounding: ...

    @overload
    def ground(
        self,
        video: EncodedVideo | str | Path,
        query: Sequence[str],
        *,
        top_k: int | None = ...,
        threshold: float | None = ...,
        overlapping: bool = ...,
    ) -> list[Grounding]: ...

    def ground(
        self,
        video: EncodedVideo | str | Path,
        query: str | Sequence[str],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        overlapping: bool = False,
    ) -> Grounding | list[Grounding]:
        """Grounds one or several queries in a video.

        A video longer than the training clips is split into overlapping windows (`CheckpointConfig.window`).

        Args:
            video: An encoded video, a file that holds one, or a video file to encode first.
            query: A sentence, or several, which are batched.
            top_k: Most moments to return, at least 1; None for all, at most 50.
            threshold: Lowest score to return, calibrated if the model is. None drops only suppressed moments; 0 keeps
                them too, as benchmarks count them.
            overlapping: Whether to return the whole ranked list, as benchmarks count it. By default moments are
                distinct: one that shares any time with a better one is left out, see `keep_distinct`.

        Returns:
            One result for a sentence, a list for a list. Times are those a player shows.

        Raises:
            QueryError: If a query is empty.
            FeatureError: If the encoded video was made for another model.
            VideoError: If nothing of the file can be used.
            ValueError: If ``top_k`` is below 1, or ``threshold`` not in [0, 1].
        """
        check_limits(top_k, threshold)
        encoded = self._open(video)
        queries = self.backbone.encode_queries([query] if isinstance(query, str) else list(query))
        answers = self.answer(encoded, queries, top_k=top_k, threshold=threshold, overlapping=overlapping)
        for number, features in enumerate(queries):
            if features.truncated:
                kept = self.backbone.max_query_tokens
                warnings.warn(f"query cut to {kept} tokens: {features.text[:60]}…", QueryWarning, stacklevel=2)
            if warning := check_language(features.text, self.backbone):
                warnings.warn(f"query {features.text[:60]!r}: {warning}", QueryWarning, stacklevel=2)
                answers[number] = replace(answers[number], query_warning=warning)
        if warning := compare_domain(self._domain, self.config.name, encoded):
            warnings.warn(f"{encoded.facts.video}: {warning}", CheckpointWarning, stacklevel=2)
            answers = [replace(answer, domain_warning=warning) for answer in answers]
        return answers[0] if isinstance(query, str) else answers

    def outline(self, video: EncodedVideo | str | Path) -> Grounding:
        """Scores the frames of a video without a query, as `outline_video`, and warns about another world as `ground`.

        Raises:
            FeatureError: If the encoded video was made for another model.
            VideoError: If nothing of the file can be used.
        """
        encoded = self._open(video)
        self.check_features(encoded, [])
        answer = outline_video(encoded)
        if warning := compare_domain(self._domain, self.config.name, encoded):
            warnings.warn(f"{encoded.facts.video}: {warning}", CheckpointWarning, stacklevel=2)
            answer = replace(answer, domain_warning=warning)
        return answer

    def _open(self, video: EncodedVideo | str | Path) -> EncodedVideo:
        if isinstance(video, EncodedVideo):
            return video
        return EncodedVideo.load(video) if Path(video).suffix == FEATURE_SUFFIX else self.encode(video)

    @torch.inference_mode()
    def answer(
        self,
        video: EncodedVideo,
        queries: Sequence[QueryFeatures],
        *,
        top_k: int | None = None,
        threshold: float | None = None,
        overlapping: bool = True,
    ) -> list[Grounding]:
        """Grounds encoded queries, one result each: by default the whole ranked list; options as for `ground`.

        Raises:
            FeatureError: If features were made for another model.
            ValueError: If ``top_k`` is below 1, or ``threshold`` not in [0, 1].
        """
        self.check_features(video, queries)
        projector = self.model.project_windows(lambda start, stop: video.read(start, stop).to(self._device))
        project = partial(self._project, video, projector=projector)
        return self.answer_projected(video.facts, video.frames, queries, project, top_k, threshold, overlapping)

    @torch.inference_mode()
    def answer_projected(
        self,
        facts: EncodingFacts,
        frames: int,
        queries: Sequence[QueryFeatures],
        project: Callable[[Window], Tensor | QuantizedTokens],
        top_k: int | None = None,
        threshold: float | None = None,
        overlapping: bool = True,
    ) -> list[Grounding]:
        """Does `answer` for a video of T ``frames``, of which ``project`` has v̂ of a window, ``[K, T, P+1, C]``."""
        check_limits(top_k, threshold)
        windows = plan_windows(frames, max(1, round(self.config.window * facts.fps)))
        found: list[list[Decoded]] = [[] for _ in queries]
        group = max(1, PAIRS // max(1, len(queries)))
        for first in range(0, len(windows), group):
            projected = [project(window) for window in windows[first : first + group]]
            for begin in range(0, len(queries), PAIRS):
                batch = queries[begin : begin + PAIRS]
                raw = predict_windows(self.model, projected, batch, facts.fps)
                for i in range(len(batch)):
                    found[begin + i] += raw[i :: len(batch)]
        return [
            self._finish(facts, frames, features, windows, raw, min(50, top_k or 50), threshold, overlapping)
            for features, raw in zip(queries, found, strict=True)
        ]

    @property
    def _device(self) -> torch.device:
        return self.model.level_scale.device

    def _project(self, encoded: EncodedVideo, window: Window, projector: WindowProjector) -> Tensor:
        """Projects the patches of a window, ``[K, T, P+1, C]``; caches those of the last video up to a limit."""
        if encoded not in self._projected:
            self._projected.clear()
        kept = self._projected.setdefault(encoded, {})
        if window in kept:
            return kept[window]
        # Not in fp16: with sharp attention its rounding moves a moment by up to a tenth of a second.
        projected = projector.project(window.start, window.stop)
        if sum(piece.nbytes for piece in kept.values()) + projected.nbytes <= PROJECTED_BYTES:
            kept[window] = projected
        return projected

    def _finish(
        self,
        facts: EncodingFacts,
        frames: int,
        query: QueryFeatures,
        windows: Sequence[Window],
        raw: Sequence[Decoded],
        limit: int,
        threshold: float | None,
        overlapping: bool,
    ) -> Grounding:
        moments = merge_moments(windows, [answer.moments.double().cpu().numpy() for answer in raw], facts.fps)
        saliency: NDArray[Any] = merge_saliency(windows, [answer.saliency.cpu().numpy() for answer in raw])
        final = finish_moments(moments, facts.duration, self.config.decoding, limit if overlapping else None)
        if not overlapping:
            final = keep_distinct(final)[:limit]
        head = merge_presence([answer.presence for answer in raw if answer.presence is not None])
        presence, least = judge_presence(self.calibration, moments[:, 2], saliency, head)
        if (calibration := self.calibration) is not None:
            final[:, 2] = calibration.calibrate_moments(final[:, 2])
            saliency = calibration.saliency.apply(saliency)
        best = float(final[0, 2]) if len(final) and final[0, 2] > 0 else None
        final = final[final[:, 2] > 0] if threshold is None else final[final[:, 2] >= threshold]
        return _make_answer(
            facts,
            frames,
            saliency,
            query=query.text,
            moments=[Moment(facts.start + start, facts.start + end, score) for start, end, score in final.tolist()],
            model=self.config.name,
            query_truncated=query.truncated,
            threshold=threshold,
            best_score=best,
            windows=len(windows),
            calibrated=calibration is not None,
            presence=presence,
            presence_threshold=least,
        )

    def check_features(self, encoded: EncodedVideo, queries: Sequence[QueryFeatures]) -> None:
        """Refuses features that were made for another model, by a FeatureError."""
        check_features(self.config, self._backbone, encoded, queries)


def outline_video(video: EncodedVideo) -> Grounding:
    """Scores the frames of a video without a query, from the summary tokens of the backbone's last layer.

    Returns:
        A result without query and moments; its saliency is in [0, 1], see `score_frames`.
    """
    starts = range(0, video.frames, FRAMES_READ)
    tokens = [video.read(start, min(start + FRAMES_READ, video.frames))[-1, :, 0].float() for start in starts]
    scores = score_frames(torch.cat(tokens)).numpy()
    return _make_answer(video.facts, video.frames, scores, query="", moments=[], model=video.facts.backbone)


def _make_answer(facts: EncodingFacts, frames: int, scores: NDArray[Any], **fields: Any) -> Grounding:
    """A result with the facts of the video filled in."""
    centers = np.minimum((np.arange(frames) + 0.5) / facts.fps, facts.duration)
    return Grounding(
        video=facts.video,
        duration=facts.duration,
        start=facts.start,
        saliency=Saliency(facts.start + centers, scores),
        sampling=facts.sampling,
        video_truncated=facts.truncated,
        identity=facts.identity,
        **fields,
    )
