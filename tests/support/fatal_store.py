"""Stores that end processes; a module of its own, so that worker processes can import it."""

import atexit
import os
import signal

from r2tuning.features import EncodedVideo
from r2tuning.features.store import FeatureStore


class FatalStore(FeatureStore):
    """Ends the process that puts ``b`` into it, as the system does when memory is short."""

    def save_video(self, name: str, encoded: EncodedVideo) -> None:
        if name == "b":
            os._exit(9)
        super().save_video(name, encoded)


class TerminatedStore(FeatureStore):
    """Has the process that puts anything into it told to end while it is leaving already."""

    def save_video(self, name: str, encoded: EncodedVideo) -> None:
        atexit.register(os.kill, os.getpid(), signal.SIGTERM)
        super().save_video(name, encoded)
