"""Parts of a video as files of their own: clips, a reel of several, an animated picture, a sheet of frames."""

from r2tuning.output.media.cut import cut, join
from r2tuning.output.media.footage import Footage

__all__ = ["Footage", "cut", "join"]
