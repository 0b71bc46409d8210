"""Batches for training: examples made from annotations and stored features, in an order that the seed determines."""

from __future__ import annotations

import random
import signal
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from r2tuning.datasets import Annotation, Benchmark
from r2tuning.errors import DataError, R2TuningError
from r2tuning.features.store import FeatureStore
from r2tuning.training.targets import NO_POSITIVE, Targets, choose_positive, normalize_moments

_TRIES = 20  # draws for each query of another video

Group = tuple[int, ...]
"""Indices of annotations of one video, which share its place in a batch."""


@dataclass(frozen=True)
class Example:
    """One query on one video; the targets are those of one sample in `Targets`."""

    video: Tensor  # fp16 [T, K, P+1, Dv], a view of memory-mapped features
    query: Tensor  # [L, K, Dq]
    fps: float
    moments: Tensor
    saliency: Tensor
    positive: int
    positive_mask: Tensor
    present: bool = True


@dataclass(frozen=True)
class Batch:
    """Padded features of V videos and B queries on them, with targets; ``video_index`` is the video of each query."""

    video: Tensor  # fp16 [V, K, T, P+1, Dv]
    query: Tensor  # [B, K, L, Dq]
    video_mask: Tensor  # bool [V, T]
    query_mask: Tensor  # bool [B, L]
    video_index: Tensor  # int64 [B]
    targets: Targets

    def to(self, device: torch.device) -> Batch:
        """The batch on a device; features keep their precision."""
        return self._change(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in pinned memory; a DataLoader looks for this method."""
        return self._change(Tensor.pin_memory)

    def pad_to(self, queries: int, frames: int, moments: int) -> Batch:
        """The batch with its last query repeated, and videos and moments padded, up to these sizes."""
        rows = torch.arange(queries, device=self.query.device).clamp(max=len(self.query) - 1)
        later, further = frames - self.video.shape[2], moments - self.targets.moments.shape[1]
        targets = self.targets
        return Batch(
            video=F.pad(self.video, (0, 0, 0, 0, 0, later)),
            query=self.query[rows],
            video_mask=F.pad(self.video_mask, (0, later)),
            query_mask=self.query_mask[rows],
            video_index=self.video_index[rows],
            targets=Targets(
                moments=F.pad(targets.moments[rows], (0, 0, 0, further), value=torch.inf),
                fps=targets.fps[rows],
                saliency=F.pad(targets.saliency[rows], (0, later)),
                positive=targets.positive[rows],
                positive_mask=F.pad(targets.positive_mask[rows], (0, later)),
                video=targets.video[rows],
                present=targets.present[rows],
            ),
        )

    def _change(self, change: Callable[[Tensor], Tensor]) -> Batch:
        targets = Targets(*(change(getattr(self.targets, field.name)) for field in fields(Targets)))
        others = {field.name: change(getattr(self, field.name)) for field in fields(self) if field.name != "targets"}
        return replace(self, targets=targets, **others)


class TrainingData(Dataset[list[Example]]):
    """Labelled annotations with the last ``layers`` of their features; an item is one group's examples in one epoch.

    Workers read the same memory-mapped files, so nothing is copied for them. Random choices depend only on seed, epoch
    and example, so that an interrupted run resumes exactly. For each annotation, ``negatives`` queries of other videos
    join its group, as queries that the video does not show.
    """

    def __init__(
        self,
        annotations: Sequence[Annotation],
        benchmark: Benchmark,
        store: FeatureStore,
        layers: int,
        seed: int,
        negatives: float = 0,
    ) -> None:
        for annotation in annotations:
            if not annotation.labelled:
                raise DataError(f"query {annotation.qid!r} has no labels to train on; use another split")
        self.annotations, self.benchmark, self.store = annotations, benchmark, store
        self.layers, self.seed, self.negatives = layers, seed, negatives
        self._texts: dict[str, set[str]] = defaultdict(set)
        for annotation in annotations:
            self._texts[annotation.vid].add(annotation.query.casefold())
        self._answered = [index for index, annotation in enumerate(annotations) if not annotation.absent]

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: tuple[int, Group]) -> list[Example]:
        epoch, group = key
        examples = [self._example(index, epoch) for index in group]
        others = self._draw_negatives(epoch, group)
        return examples + [self._negative(index, group[0], examples[0]) for index in others]

    def _draw_negatives(self, epoch: int, group: Group) -> list[int]:
        """Queries of other videos, none of which this video has too."""
        if not self.negatives:
            return []
        draw = random.Random(f"{self.seed}/{epoch}/{group[0]}/negatives")
        wanted = int(self.negatives * len(group) + draw.random())
        vid = self.annotations[group[0]].vid
        drawn = (draw.choice(self._answered) for _ in range(_TRIES * wanted))
        # Titles and the like are common to most videos, so that it may find fewer.
        fit = (
            index
            for index in drawn
            if self.annotations[index].vid != vid and self.annotations[index].query.casefold() not in self._texts[vid]
        )
        return list(dict.fromkeys(islice(fit, wanted)))

    def _negative(self, index: int, place: int, here: Example) -> Example:
        """The query of one annotation on the video of another, of which ``here`` is an example."""
        query = replace(self.annotations[index], vid=self.annotations[place].vid)
        return replace(
            here,
            query=self.store.query(self.benchmark.query_name(query))[:, -self.layers :].float(),
            moments=here.moments[:0],
            saliency=torch.zeros_like(here.saliency),
            positive=NO_POSITIVE,
            positive_mask=torch.zeros_like(here.positive_mask),
            present=False,
        )

    def _example(self, index: int, epoch: int) -> Example:
        annotation, benchmark = self.annotations[index], self.benchmark
        video = self.store.video(benchmark.video_name(annotation))[:, -self.layers :]
        fps = benchmark.frame_rate(annotation)
        saliency = benchmark.saliency_target(annotation, len(video), fps)
        # Video and labels may differ by a few frames; both are cut to the shorter.
        frames = len(saliency)
        mask = torch.from_numpy(benchmark.positive_frames(annotation, saliency))
        draw = random.Random(f"{self.seed}/{epoch}/{index}")
        return Example(
            video=video[:frames],
            query=self.store.query(benchmark.query_name(annotation))[:, -self.layers :].float(),
            fps=fps,
            moments=normalize_moments(
                torch.tensor(annotation.moments, dtype=torch.float32).reshape(-1, 2), frames, fps
            ),
            saliency=torch.from_numpy(saliency).float(),
            positive=choose_positive(mask, draw),
            positive_mask=mask,
            present=not annotation.absent,
        )

    def plan_epoch(self, epoch: int, batch_size: int, queries_per_video: int, repeat: int) -> list[list[Group]]:
        """The batches of an epoch, as groups of at most ``queries_per_video``: every annotation ``repeat`` times."""
        draw = random.Random(f"{self.seed}/{epoch}/order")
        most = min(queries_per_video, batch_size)
        groups = [group for _ in range(repeat) for group in self._group(most, draw)]
        draw.shuffle(groups)
        per_batch = batch_size // most
        return [groups[first : first + per_batch] for first in range(0, len(groups), per_batch)]

    def _group(self, queries_per_video: int, draw: random.Random) -> list[Group]:
        if queries_per_video == 1:
            return [(index,) for index in range(len(self.annotations))]
        videos: dict[tuple[str, float | None, int | None], list[int]] = defaultdict(list)
        for index, annotation in enumerate(self.annotations):
            # Labels of another length would cut the video differently.
            videos[annotation.vid, annotation.duration, annotation.clips].append(index)
        groups: list[Group] = []
        for indices in videos.values():
            draw.shuffle(indices)
            starts = range(0, len(indices), queries_per_video)
            groups.extend(tuple(indices[first : first + queries_per_video]) for first in starts)
        return groups


def load_batches(
    data: TrainingData, plan: Sequence[Sequence[Group]], epoch: int, workers: int, *, pin: bool
) -> Iterator[Batch]:
    """Reads the batches of a plan ahead of time in worker processes; 0 workers read in this process."""
    loader = DataLoader(
        _Batches(data, plan, epoch),
        batch_size=None,
        shuffle=False,
        num_workers=workers,
        pin_memory=pin,
        worker_init_fn=_leave_interrupts_to_the_main_process,
    )
    for batch in loader:
        if isinstance(batch, R2TuningError):
            raise batch
        yield batch


class _Batches(Dataset[Batch | R2TuningError]):
    """Planned batches; errors are returned, since one raised in a worker would become a traceback."""

    def __init__(self, data: TrainingData, plan: Sequence[Sequence[Group]], epoch: int) -> None:
        self._data, self._plan, self._epoch = data, plan, epoch

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Batch | R2TuningError:
        try:
            return collate([self._data[self._epoch, group] for group in self._plan[index]])
        except R2TuningError as error:
            return error


def _leave_interrupts_to_the_main_process(_worker: int) -> None:
    """Ctrl-C reaches every process of the terminal, but workers must live until the current step is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def share_batch(batch: Sequence[Group], rank: int, world: int) -> Sequence[Group]:
    """The part of a batch for one of several processes; sizes differ by at most one group.

    Example:
        >>> batch = [(0,), (1,), (2,)]
        >>> share_batch(batch, 0, 2), share_batch(batch, 1, 2)
        ([(0,)], [(1,), (2,)])
    """
    return batch[len(batch) * rank // world : len(batch) * (rank + 1) // world]


def collate(groups: Sequence[Sequence[Example]]) -> Batch:
    """Pads the examples of several groups into one batch; a group shares the video of its first example."""
    examples = [example for group in groups for example in group]
    videos = [group[0].video for group in groups]
    video_index = torch.tensor([place for place, group in enumerate(groups) for _ in group])
    return Batch(
        video=pad_sequence(videos, batch_first=True).transpose(1, 2).contiguous(),
        query=pad_sequence([example.query for example in examples], batch_first=True).transpose(1, 2).contiguous(),
        video_mask=_mask([len(video) for video in videos]),
        query_mask=_mask([len(example.query) for example in examples]),
        video_index=video_index,
        targets=Targets(
            moments=pad_sequence([example.moments for example in examples], batch_first=True, padding_value=torch.inf),
            fps=torch.tensor([example.fps for example in examples]),
            saliency=pad_sequence([example.saliency for example in examples], batch_first=True),
            positive=torch.tensor([example.positive for example in examples]),
            positive_mask=pad_sequence([example.positive_mask for example in examples], batch_first=True),
            video=video_index,
            present=torch.tensor([example.present for example in examples]),
        ),
    )


def _mask(lengths: Sequence[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
