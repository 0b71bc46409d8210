"""Moving Shapes: synthetic videos whose moments are known exactly."""

from r2tuning.synthetic.generate import synthesize, write_video
from r2tuning.synthetic.queries import describe, describe_absent
from r2tuning.synthetic.render import render
from r2tuning.synthetic.scenes import Script, Split
from r2tuning.synthetic.staging import make_video

__all__ = ["Script", "Split", "describe", "describe_absent", "make_video", "render", "synthesize", "write_video"]
