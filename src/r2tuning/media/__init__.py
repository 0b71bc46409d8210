"""Parts of a video as files of their own: clips, a reel of several, an animated picture, a sheet of frames."""

from r2tuning.media.cut import cut
from r2tuning.media.footage import Footage
from r2tuning.media.reel import join

__all__ = ["Footage", "cut", "join"]
