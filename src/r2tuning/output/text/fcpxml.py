"""Moments as FCPXML 1.8, which Final Cut Pro and DaVinci Resolve read."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from r2tuning.output.text.edits import Source
from r2tuning.results import Grounding
from r2tuning.types import VideoInfo

_FORMAT, _ASSET = "r1", "r2"


def to_fcpxml(results: Sequence[Grounding], video: VideoInfo) -> str:
    """Writes the moments twice: as keywords on the video, and as a project that plays them, best first for each query.

    A comma would end a keyword, so it becomes ``;``. Times are exact multiples of a frame's length.
    """
    source = Source(video)

    def time(frames: int) -> str:
        return f"{frames * source.rate.denominator}/{source.rate.numerator}s" if frames else "0s"

    document = Element("fcpxml", version="1.8")
    resources = SubElement(document, "resources")
    picture = {"frameDuration": time(1), "width": str(video.width), "height": str(video.height)}
    SubElement(resources, "format", {"id": _FORMAT, **picture})
    whole = {"name": source.name, "start": "0s", "duration": time(source.length), "format": _FORMAT}
    content = {"hasVideo": "1", "hasAudio": "1"} if video.has_audio else {"hasVideo": "1"}
    SubElement(resources, "asset", {"id": _ASSET, "src": source.url, **content, **whole})

    event = SubElement(SubElement(document, "library"), "event", name=source.name)
    clip = SubElement(event, "asset-clip", {"ref": _ASSET, "tcFormat": "NDF", **whole})
    project = SubElement(event, "project", name=source.name)
    sequence = SubElement(project, "sequence", format=_FORMAT, tcStart="0s", tcFormat="NDF")
    spine = SubElement(sequence, "spine")
    cuts = [*chain(*source.cut(results))]
    for cut in cuts:
        extent = {"start": time(cut.first), "duration": time(cut.length)}
        SubElement(clip, "keyword", {"value": cut.query.replace(",", ";"), "note": cut.label, **extent})
        place = {"name": cut.label, "offset": time(cut.position), "format": _FORMAT, "tcFormat": "NDF"}
        SubElement(spine, "asset-clip", {"ref": _ASSET, **place, **extent})
    sequence.set("duration", time(sum(cut.length for cut in cuts)))
    ElementTree.indent(document)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE fcpxml>\n{ElementTree.tostring(document, "unicode")}\n'
