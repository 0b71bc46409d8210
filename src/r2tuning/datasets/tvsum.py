"""TVSum (Song et al., CVPR 2015): 50 videos, every 2 seconds rated from 1 to 5 by 20 people; the query is the title."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from r2tuning.datasets.annotations import Annotation
from r2tuning.datasets.benchmark import Benchmark, splits_of_one_file
from r2tuning.datasets.entries import Entry, Fields, Qid, Text, check
from r2tuning.datasets.saliency import LabelRule
from r2tuning.errors import DataError

RATERS = 20
LOWEST, HIGHEST = 1, 5
CLIPS_PER_SECOND = 0.5

Rating = Annotated[float, Field(ge=LOWEST, le=HIGHEST)]
Row = Annotated[list[Rating], Field(min_length=RATERS, max_length=RATERS)]
Rows = Annotated[list[Row], Field(min_length=1)]

# The split of UMT (Liu et al., CVPR 2022), which papers have used since: the first of each domain is for validation.
_VIDEOS = {
    "BK": ("Se3oxnaPsz0", "EE-bNr36nyA", "WxtbjNsCQ8A", "oDXZc0tZe04", "uGu_10sucQo"),
    "BT": ("JgHubY5Vw3Y", "EYqVtI9YWJA", "eQu1rNs0an0", "iVt07TCkFM0", "qqR6AEXwxoQ"),
    "DS": ("E11zDS9XGzg", "-esJrBWj2d8", "NyBmCxDoHJU", "jcoYJXDG9sw", "kLxoNp-UchI"),
    "FM": ("JKpqYvAdIsw", "VuWGsYPqAX8", "_xMr-HKMfVA", "byxOvuiIJV0", "xmEERLqJ2kU"),
    "GA": ("Bhxk-O1Y7Ho", "0tmA_C6XwfM", "3eYKfiOEJNs", "i3wAGJaaktw", "xxdtq8mxegs"),
    "MS": ("Yi4Ij2NM7U4", "37rzWOQsNIw", "Hl-__g2gn_A", "LRw_obCPUt0", "WG0MBPpPC6I"),
    "PK": ("cjibtmSLxQ4", "GsAD1KT1xo8", "PJrm840pAUI", "XkqCExn6_Us", "b626MiF1ew4"),
    "PR": ("fWutDQy1nnY", "4wU_LUjG5Ic", "91IHQYk1IQM", "RBCABdttQmI", "z_6gVvQb2d0"),
    "VT": ("J0nA4VgnoCo", "98MoyGZKHXc", "AwmHb44_ouw", "XzYM3PfTM4w", "gzDbaEs1Rlg"),
    "VU": ("sTEELN-vY30", "HT5vyqe0Xaw", "akI8YFjEmUw", "vdmoEJ5YbrQ", "xwqBXPGE9pQ"),
}
_DOMAIN_OF = {vid: domain for domain, vids in _VIDEOS.items() for vid in vids}


class TVSumLine(Fields):
    """A line of a file per split. Its ``duration`` counts rows of labels, not seconds, so it is not read."""

    qid: Qid
    vid: Text
    query: Text
    label: Rows


class TVSumVideo(Fields):
    """An entry of the authors' single file, keyed by video."""

    title: Text
    anno: Rows


def parse_tvsum(entry: Entry) -> Annotation:
    """The annotation of one video, from either layout."""
    if entry.key is None:
        line = check(entry, TVSumLine)
        qid, vid, query, rows = line.qid, line.vid, line.query, line.label
    else:
        video = check(entry, TVSumVideo)
        qid, vid, query, rows = entry.key, entry.key, video.title, video.anno
    if vid not in _DOMAIN_OF:
        raise DataError(f"{entry.place}: vid: {vid!r} is not one of TVSum's 50 videos; remove the entry")
    return Annotation(
        qid=qid,
        vid=vid,
        query=query,
        duration=len(rows) / CLIPS_PER_SECOND,
        saliency=np.array(rows, dtype=np.float64),
        domain=_DOMAIN_OF[vid],
    )


TVSUM = Benchmark(
    name="tvsum",
    splits=splits_of_one_file("tvsum_anno.json", "tvsum"),
    evaluation_split="val",
    main_metric="mAP",
    fps=CLIPS_PER_SECOND,
    hub_folder="tvsum",
    parse=parse_tvsum,
    task="highlights",
    scorer="tvsum",
    domains=tuple(_VIDEOS),
    validation_videos=frozenset(vids[0] for vids in _VIDEOS.values()),
    labels=LabelRule(LOWEST, HIGHEST, threshold=None, slack=4),
)
"""Ten domains of five videos, each with a separate model."""
