"""The benchmarks by name."""

from difflib import get_close_matches

from r2tuning.datasets.benchmark import Benchmark
from r2tuning.datasets.charades_sta import CHARADES_STA
from r2tuning.datasets.ego4d_nlq import EGO4D_NLQ
from r2tuning.datasets.moving_shapes import MOVING_SHAPES
from r2tuning.datasets.qvhighlights import QVHIGHLIGHTS
from r2tuning.datasets.tacos import TACOS
from r2tuning.datasets.tvsum import TVSUM
from r2tuning.datasets.youtube_highlights import YOUTUBE_HIGHLIGHTS
from r2tuning.errors import DataError

BENCHMARKS: tuple[Benchmark, ...] = (
    QVHIGHLIGHTS,
    EGO4D_NLQ,
    CHARADES_STA,
    TACOS,
    YOUTUBE_HIGHLIGHTS,
    TVSUM,
    MOVING_SHAPES,
)
"""The paper's six in the order of its tables, then the one that is made by program."""

_BY_NAME = {benchmark.name: benchmark for benchmark in BENCHMARKS}


def find_benchmark(name: str) -> Benchmark:
    """The benchmark called ``name``, upper and lower case alike.

    Raises:
        DataError: If there is none; the message has the nearest name, or all.

    Example:
        >>> find_benchmark("TVSum").fps
        0.5
        >>> find_benchmark("charades")
        Traceback (most recent call last):
        r2tuning.errors.DataError: no benchmark 'charades'; did you mean charades-sta?
    """
    if name.lower() in _BY_NAME:
        return _BY_NAME[name.lower()]
    near = get_close_matches(name.lower(), list(_BY_NAME), n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_BY_NAME)}"
    raise DataError(f"no benchmark {name!r}; {hint}")
