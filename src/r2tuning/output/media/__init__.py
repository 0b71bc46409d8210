"""Parts of a video as files: clips, a reel of several, an animated GIF, a contact sheet."""

from r2tuning.output.media.cut import cut, join
from r2tuning.output.media.footage import Footage

__all__ = ["Footage", "cut", "join"]
