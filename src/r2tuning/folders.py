"""Where r2tuning keeps files on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_dir


def cache_folder() -> Path:
    """``$R2TUNING_CACHE``, or else ``r2tuning`` in the user's cache folder."""
    chosen = os.environ.get("R2TUNING_CACHE")
    return Path(chosen).expanduser() if chosen else Path(user_cache_dir("r2tuning", appauthor=False))
