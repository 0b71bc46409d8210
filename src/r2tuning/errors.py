"""Every error that r2tuning raises on purpose, and the warnings it gives.

A message is one line: the thing, the value that is wrong, and what to do next. The command line prints it and exits 1.
"""


class R2TuningError(Exception):
    """Base of every error that r2tuning raises on purpose."""


class VideoError(R2TuningError):
    """A file cannot be read as video."""


class QueryError(R2TuningError):
    """A query cannot be encoded."""


class BackboneError(R2TuningError):
    """A CLIP backbone is missing, damaged, or does not fit the model."""


class CheckpointError(R2TuningError):
    """A checkpoint is unknown, damaged, or not what it says it is."""


class DownloadError(R2TuningError):
    """A file could not be fetched from the hub; ``reason`` is what the hub or the network said, if that is known."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class FeatureError(R2TuningError):
    """A feature file is damaged or was made for another model."""


class DataError(R2TuningError):
    """An annotation file cannot be read, or an entry of it is wrong."""


class MetricError(R2TuningError):
    """Predictions or annotations cannot be scored."""


class RecipeError(R2TuningError):
    """A recipe does not exist, or has a setting that is wrong."""


class TrainingError(R2TuningError):
    """A training run cannot start, cannot go on, or has diverged."""


class OutputError(R2TuningError):
    """A result cannot be written where it should be."""


class R2TuningWarning(UserWarning):
    """Base of every warning that r2tuning gives."""


class VideoWarning(R2TuningWarning):
    """Part of a video could not be used; the result covers the rest."""


class QueryWarning(R2TuningWarning):
    """Part of a query could not be used."""


class CheckpointWarning(R2TuningWarning):
    """Something about a checkpoint had to be assumed, or is not as published."""
