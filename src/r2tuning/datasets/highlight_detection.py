"""TVSum and YouTube Highlights: benchmarks with labels of saliency, and one model for each domain.

TVSum (Song et al., CVPR 2015): 50 videos, every 2 seconds rated from 1 to 5 by 20 people; the query is the title.
YouTube Highlights (Sun et al., ECCV 2014): which clips of a video are its highlights; the query is the domain.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import numpy as np
from pydantic import Field, field_validator

from r2tuning.datasets.annotations import Annotation, LabelRule
from r2tuning.datasets.benchmark import Benchmark, splits_of_one_file
from r2tuning.datasets.entries import Duration, Entry, Fields, Qid, Text, check
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


Domain = Literal["dog", "gymnastics", "parkour", "skating", "skiing", "surfing"]
Match = Annotated[list[Annotated[int, Field(ge=-1, le=1)]], Field(min_length=1)]
"""Per clip: 1 a highlight, 0 in between, -1 none."""

# The split of UMT (Liu et al., CVPR 2022), which papers have used since. All others are for training.
_VALIDATION = """
    -d72e4v9skA -hE9v3izo4c 0-fstXuo_Pw 08k4ysX_XJE 09v0HNf81J0 0AHkDElk3ws 0P2PZXUa0Bg 1gjntnYm8NA 1n7Afe5AZCM
    2AuigNFEsTM 2oOe2_Ew6Ao 2pstGBM4p0w 3Y1Jp1_fFLQ 4-4BgyGphLQ 4RsZz_8d8Ro 4cyx1VpDjc4 5VaY6LgIqDs 6_BPy_VaPSY
    6sMNnWqa_as 7Hcyse0h9HE 7TQbqKWjLcI 82OzgxT2tH8 86YLsw7efDM 8En3M5CUc2E 8aWN-0NZErI 8sTJfTUk1d0 8x8ESK5MnR0
    91lDbBHUx0w 9D_Q8l_ruQk 9GpZHq1n8ps 9rP5yF9EC3Y 9wtXO2lF6hM AJ98A2y1dVw AO6p0jlOd6U AshLUHPEb8M BGZaaqFjoRY
    BU7YlQAOBkM Be4IlnKeBOo CQZNrEstSag CefGXyYu_zU DGcO0QgcXtw DyZ0gZ5xmxI E0aRE1_ea8E Eiq8GHi4kEo EwQ-aMK2sKg
    FLYkD7zHuHQ FT7yIi3-tG0 GS09SevPYT4 H5FEdJYokO4 HW6_sPym938 HwKv3Xc5MAE I7wFmP6P7p0 IjQhHPlTfdE IyoD3G5igY0
    J-P-t6g19SM JJSu7Lh9rvs K0f_DpVOjfA Ka2qcp3jmWo KldEfRhv7H0 KzQcJrT91jU L09Qo1ql0nM MXyv-Ut9HRg MkBdHvXPocc
    Mkyp0z_Cgig Mp8Pz86J660 NAfBa7lqg2Q NB5Ez5kJfMU NctbssxGCtU O3XxuutEvoo OCVXhRG2fEA Om5mczkpcVg OxSsRZqPfyk
    P0MnXh6bnKk PAjJbT1DRnY PEKRfJYYEgU PWqLJKZeBC8 PcvdX5OVgfQ QGp0kRzKiAc RGxiOb9hlS0 RjagI4pAUpw RoiLzMA_ilA
    Rq0BpciuvBM SI2JbS48Upg SSlv7qJK5zA Srjd4pe6vck TFdbCRkVeIA T_zWyrVzyvw U6vnbCurZQA Xa0y6b6Vm6U XamrS9XyHuQ
    YJCR2q-WRhQ YPd7RDN5CkE YbwdDCzVczU Z8X9WIojH1U ZnA4-ggkFu8 ZueaKXReGjU _10CbYdTG5M _BYqZjuKpKA a2nj7XCo2Rk
    affAIVH9uRA b53-VPsWom4 bMuyPVIlXW8 bXq9rRSbI3c bZzP2MieC1c bcmXVyFbsRg dHE8q7sZ70U dlH2K9N_jSM drHPy6wSZGs
    eB4Toq9dUWs eUyuw2J5FaE fLek7GRIxjE fXx44D1sqUw g1WbAIzkw80 gVcCGUtpA90 hSRyclcZyGM hdklRTNrq0I hjZLa2DTuqs
    iDJM9j11U-c iQRMMFiYAUw iXdt4v42mbs iaHbK6ogafc ixsKaNplm6o jRbst8kjWW8 jaCOI_VwIjc kAAvTAKkIy4 l8ME6z_EWKE
    lbp6_wCXqvw lhgmIgzBQxs lw_1fEY9QTo lzEhLAPxZyQ m-W-lcTkBQ0 mGST8ZekCZc mRdthCqe6Nk mSVxaAJcNJQ msjK8nHZHZ0
    n5q2KhfoiWw nBZiGSccsTg nhOhI24P7dM o-bubyWTw60 o0on6yIXJQE oT6g0I2Ok9o p0oxRJD1GUk p2eU5z647Mw p8VUjcZyK70
    pK9gDWoOyko ppNjl3I3iJs qBbqK5qlVSM qlGPuopK3CI rGxWxX6nYO4 rPsKpHKzUso ruySf5zL7Kw s6LNwTThBgs s9dTu2fcbNg
    sTd06idFa0E t05AD0c08zE twGcxuhCXoU tzq5cJQ9NQA uGLs9atTvNc uUuYnKLETLw u_n7jMS1vlw ucTkpjZO_o4 vT33-8KUb2Q
    w7fzLVRPSUc wf_qlAizlSM wvQ0h5Nwsxc x-G4r153n6o xZIN_s-qhbU yN7h90Y-04g yUjJq0kvxcw z3cNtOMKK7A zqXd4EgUFhE
    zr5LSPMBpiI
"""
_INFO_DOMAIN = 5
"""Position of the domain in an entry's ``info``."""


class YouTubeLine(Fields):
    """A line of a file per split."""

    qid: Qid
    vid: Text
    query: Text
    duration: Duration
    domain: Domain
    match: Match


class YouTubeVideo(Fields):
    """An entry of the authors' single file, keyed by video."""

    frames: Annotated[float, Field(ge=1, le=1e9)]
    fps: Annotated[float, Field(gt=0, le=1e4)]
    match: Match
    info: list[Any]

    @field_validator("info")
    @classmethod
    def _check_domain(cls, info: list[Any]) -> list[Any]:
        if len(info) <= _INFO_DOMAIN or info[_INFO_DOMAIN] not in get_args(Domain):
            raise ValueError(f"item {_INFO_DOMAIN} (from 0) must be one of {', '.join(get_args(Domain))}")
        return info


def parse_youtube(entry: Entry) -> Annotation:
    """The annotation of one video, from either layout."""
    if entry.key is None:
        line = check(entry, YouTubeLine)
        qid, vid, query, domain = line.qid, line.vid, line.query, str(line.domain)
        duration, match = line.duration, line.match
    else:
        video = check(entry, YouTubeVideo)
        qid, vid, query, domain = entry.key, entry.key, video.info[_INFO_DOMAIN], video.info[_INFO_DOMAIN]
        duration, match = int(video.frames) / video.fps, video.match
    saliency = np.array(match, dtype=np.float64)[:, None]
    return Annotation(qid=qid, vid=vid, query=query, duration=duration, saliency=saliency, domain=domain)


YOUTUBE_HIGHLIGHTS = Benchmark(
    name="youtube-highlights",
    splits=splits_of_one_file("youtube_anno.json", "youtube_highlight"),
    evaluation_split="val",
    main_metric="mAP",
    # Clips are 100 video frames long and overlap by half, so their rate depends on the video's.
    fps=None,
    hub_folder="youtube",
    parse=parse_youtube,
    task="highlights",
    scorer="youtube",
    domains=get_args(Domain),
    validation_videos=frozenset(_VALIDATION.split()),
    labels=LabelRule(lowest=-1, highest=1, threshold=0.5, slack=0),
)
"""Six domains, each with a separate model."""
