"""What jobs are asked to do, and how they end; what they need is imported in their process only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict

from r2tuning.server.jobs import Job
from r2tuning.server.settings import Settings


class _Task(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AddTask(_Task):
    """Adds files and folders; ``retry`` tries files again that failed before."""

    paths: list[str]
    retry: bool = False


class RescanTask(_Task):
    """Looks again at everything that was added."""

    retry: bool = False


class RemoveTask(_Task):
    """Takes files out of the library; those that were uploaded are deleted."""

    paths: list[str]


class SummaryTask(_Task):
    """Sums up a video by the saliency of an answer, as `Grounding.to_dict` has it."""

    answer: dict[str, Any]
    ratio: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """How a job ended: the file that it made, if any, and why it failed, if it did."""

    result: str = ""
    error: str = ""


def start_work(settings: Settings) -> Callable[[Job], Outcome]:
    """Prepares a process for jobs; called in it."""
    from r2tuning.server.work import open_work

    return open_work(settings)
