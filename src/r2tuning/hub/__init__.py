"""Files of the Hugging Face hub: what there is, fetched so that it can go on where it stopped, and checked."""

from r2tuning.hub.digest import hash_blob, hash_file
from r2tuning.hub.failure import explain
from r2tuning.hub.fetch import Progress, fetch_file, fetched_bytes, unwatched
from r2tuning.hub.listing import HubFile, list_files

__all__ = [
    "HubFile",
    "Progress",
    "explain",
    "fetch_file",
    "fetched_bytes",
    "hash_blob",
    "hash_file",
    "list_files",
    "unwatched",
]
