"""Plots of one answer and of several: each at its place, in its color, beside the truth."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image
from support.files import read_texts
from support.groundings import make_grounding

from r2tuning.errors import OutputError
from r2tuning.output.charts.grounding import MOST_ANSWERS, plot_comparison, plot_grounding
from r2tuning.output.charts.timeline import Thumbnails
from r2tuning.results import Grounding

BEST = (0xD5, 0x5E, 0x00)
OTHER = (0x56, 0xB4, 0xE9)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def columns_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.flatnonzero((picture == colour).all(axis=-1).any(axis=0))


def test_moments_lie_at_their_times(tmp_path: Path) -> None:
    result = make_grounding(moments=((25.0, 50.0, 0.9), (75.0, 80.0, 0.5)), duration=100.0)
    plot_grounding(result, tmp_path / "plot.png")
    picture = pixels(tmp_path / "plot.png")
    assert picture.shape[1] == 1000
    # axes: 95 px to 965 px for 100 s; the legend's patches lie right of 650 px; 2 px for edges and antialiasing
    best = columns_of(picture, BEST)
    best = best[best < 640]
    assert best.min() == pytest.approx(95 + 8.7 * 25, abs=2)
    assert best.max() == pytest.approx(95 + 8.7 * 50, abs=2)
    upper = picture[: picture.shape[0] // 2]
    assert columns_of(upper, OTHER).min() == pytest.approx(95 + 8.7 * 75, abs=2)
    assert columns_of(upper, OTHER).max() == pytest.approx(95 + 8.7 * 80, abs=2)


def test_a_moment_shorter_than_a_pixel_shows(tmp_path: Path) -> None:
    plot_grounding(make_grounding(moments=((5400.0, 5401.0, 0.9),), duration=10800.0), tmp_path / "plot.png")
    picture = pixels(tmp_path / "plot.png")
    columns = columns_of(picture[: picture.shape[0] // 2], BEST)
    assert columns.min() == pytest.approx(95 + 870 / 2, abs=3)


def test_svg_says_everything_in_text(tmp_path: Path) -> None:
    result = make_grounding(moments=((10.0, 14.0, 0.875), (61.5, 64.25, 0.5)), video="/videos/my trip.mp4", start=8.0)
    plot_grounding(result, tmp_path / "plot.svg")
    shown = read_texts(tmp_path / "plot.svg")
    assert {"a red circle falls", "my trip.mp4, model demo", "saliency", "time (m:ss)"} <= set(shown)
    assert {"best moment", "other moments", "1   0.88", "2   0.50", "0:10.0 to 0:14.0"} <= set(shown)
    # 8 s to 78 s on the player's clock: every 10 s
    assert [t for t in shown if re.fullmatch(r"\d:\d\d", t)] == [f"{s // 60}:{s % 60:02d}" for s in range(10, 80, 10)]


def test_thumbnails_are_placed_in_time_and_labelled(tmp_path: Path) -> None:
    red, blue = np.zeros((90, 160, 3), np.uint8), np.zeros((160, 90, 3), np.uint8)
    red[..., 0] = blue[..., 2] = 255
    result = make_grounding(moments=(), duration=100.0)
    # not in order, and the red one comes twice at nearly the same time
    thumbnails = Thumbnails([blue, red, red], [75.0, 25.0, 25.5])
    plot_grounding(result, tmp_path / "plot.png", thumbnails=thumbnails)
    picture = pixels(tmp_path / "plot.png")
    # 0.85 inches high, so 151 px and 48 px wide; 2 px for antialiasing
    for colour, time, width in (((255, 0, 0), 25, 151), ((0, 0, 255), 75, 48)):
        columns = columns_of(picture, colour)
        assert (columns.min() + columns.max()) / 2 == pytest.approx(95 + 8.7 * time, abs=2)
        assert np.ptp(columns) == pytest.approx(width, abs=2)
    plot_grounding(result, tmp_path / "plot.svg", thumbnails=thumbnails)
    assert read_texts(tmp_path / "plot.svg").count("0:25") == 1
    assert read_texts(tmp_path / "plot.svg").count("1:15") == 1


def test_many_thumbnails_do_not_cover_each_other(tmp_path: Path) -> None:
    shades = [np.full((50, 50, 3), (0, 255, i), np.uint8) for i in range(100)]
    result = make_grounding([0.0], (), duration=100.0)
    thumbnails = Thumbnails(shades, [i + 0.5 for i in range(100)])
    plot_grounding(result, tmp_path / "p.png", thumbnails=thumbnails)
    picture = pixels(tmp_path / "p.png").astype(int)
    widths = [np.ptp(c) + 1 for i in range(100) if len(c := columns_of(picture, (0, 255, i)))]
    # slots of 0.6 inches fit 14 times into 8.7; all that are drawn have their full 56 px
    assert 10 <= len(widths) <= 14
    assert all(width == pytest.approx(56, abs=2) for width in widths)


ODD = {
    "one frame": make_grounding([0.4], ((0.0, 0.04, 0.5),), duration=0.04),
    "no length": make_grounding([0.4], (), duration=0.0),
    "no frames": make_grounding([], ()),
    "three hours": make_grounding(np.sin(np.arange(5400)).tolist(), ((7200.0, 7202.0, 0.9),), duration=10800.0),
    "a month": make_grounding([0.5] * 100, duration=30 * 86400.0),
    "fifty moments": make_grounding(moments=[(i, i + 9.0, 1 - i / 50) for i in range(50)]),
    "all zero": make_grounding([0.0] * 20, ()),
    "all negative": make_grounding([-0.5, -0.25, -0.75]),
    "not a number": make_grounding([0.5, float("nan"), 0.25]),
    "starts before 0": make_grounding(moments=((-0.5, 2.0, 1.0),), start=-0.5, duration=3.0),
    "whole video": make_grounding(moments=((0.0, 70.0, 1.0),)),
}


@pytest.mark.parametrize("result", ODD.values(), ids=ODD.keys())
def test_odd_results_are_drawn(tmp_path: Path, result: Grounding) -> None:
    frames = Thumbnails([np.zeros((8, 8, 3), np.uint8)], [result.duration / 2])
    plot_grounding(result, tmp_path / "p.png", thumbnails=frames)
    picture = pixels(tmp_path / "p.png")
    assert picture.shape[1] == 1000
    assert 300 < picture.shape[0] < 1800
    assert len(np.unique(picture @ np.array([65536, 256, 1]))) > 10
    # the picture's outermost pixels are free: nothing was cut off above, left or below
    assert (picture[:4] == 255).all()
    assert (picture[-2:] == 255).all()
    assert (picture[:, :4] == 255).all()


QUERIES = [
    "one $frame_x and $5",
    r"\frac{1}{2} $\notacommand$",
    "一个女人在厨房里切蔬菜",
    "🎬 नमस्ते שלום \x00\x1b[31m\ufffe",
    '<b>&amp;"it\'s"',
    "",
    " \n\t",
]


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_any_query_is_drawn_without_warnings(
    tmp_path: Path, query: str, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    plot_grounding(make_grounding(query=query, video="caf\udce9.mp4"), tmp_path / f"p.{suffix}")
    assert capfd.readouterr() == ("", "")
    if suffix == "svg":
        shown = " ".join(re.sub("[\x00\x1b\ufffe]", "\N{REPLACEMENT CHARACTER}", query).split())
        assert not shown or shown in read_texts(tmp_path / "p.svg")


def test_long_queries_are_wrapped_cut_and_stay_inside(tmp_path: Path) -> None:
    result = make_grounding(query="WIDE words " * 100)
    plot_grounding(result, tmp_path / "p.svg")
    title = [t for t in read_texts(tmp_path / "p.svg") if "WIDE" in t]
    assert sum(t.count("WIDE") for t in title) == 21
    assert title[-1].endswith("…")
    for query in ("W" * 1000, "切" * 1000):
        plot_grounding(make_grounding(query=query), tmp_path / "p.png", force=True)
        # right of the axes lies only half a tick label, far below the title
        assert (pixels(tmp_path / "p.png")[:90, 968:] == 255).all()


@pytest.mark.parametrize("suffix", [".jpg", "", ".png.txt"])
def test_other_formats_are_refused_by_name(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(OutputError, match=r"\.png, \.svg, \.pdf"):
        plot_grounding(make_grounding(), tmp_path / f"plot{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a b.PNG", 'it\'s "x".png', "🎬 切.Png"])
def test_awkward_names_and_existing_files(tmp_path: Path, name: str) -> None:
    plot_grounding(make_grounding(), tmp_path / name)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(OutputError, match="--force"):
        plot_grounding(make_grounding(query="another"), tmp_path / name)
    assert (tmp_path / name).read_bytes() == before
    plot_grounding(make_grounding(query="another"), tmp_path / name, force=True)
    assert (tmp_path / name).read_bytes() != before
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_same_result_gives_the_same_file_and_settings_stay(tmp_path: Path, suffix: str) -> None:
    with matplotlib.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.facecolor": "black"}):
        before = dict(matplotlib.rcParams)
        plot_grounding(make_grounding(), tmp_path / f"styled.{suffix}")
        assert dict(matplotlib.rcParams) == before
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda i: plot_grounding(make_grounding(), tmp_path / f"{i}.{suffix}"), range(2)))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_no_output_loads_pyplot_and_only_plots_load_matplotlib(tmp_path: Path) -> None:
    code = (
        "import sys, r2tuning.files, r2tuning.output.text.json, r2tuning.output.text.terminal\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from support.groundings import make_grounding\n"
        "from r2tuning.output.charts.grounding import plot_grounding\n"
        "plot_grounding(make_grounding(), sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    helpers = {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path / "p.png")]
    subprocess.run(command, check=True, env=os.environ | helpers)
    assert (tmp_path / "p.png").exists()


FIRST, SECOND = (0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)


def test_moments_of_each_answer_lie_at_their_times_in_its_colour(tmp_path: Path) -> None:
    first = make_grounding(moments=((25.0, 50.0, 0.9),), duration=100.0)
    second = make_grounding(moments=((60.0, 80.0, 0.8),), duration=100.0)
    plot_comparison([first, second], ["one", "two"], tmp_path / "p.png", truth=[(10.0, 20.0)])
    picture = pixels(tmp_path / "p.png")
    assert picture.shape[1] == 1000
    for colour, (start, end) in ((FIRST, (25, 50)), (SECOND, (60, 80))):
        # A bar is a run of its colour, higher than a line or letter.
        same = (picture == colour).all(axis=-1)
        rows = np.flatnonzero(same.sum(axis=1) > 100)
        columns = np.flatnonzero(same[rows].all(axis=0))
        assert 10 < len(rows) < 25
        assert columns.min() == pytest.approx(95 + 8.7 * start, abs=3)
        assert columns.max() == pytest.approx(95 + 8.7 * end, abs=3)


def test_labels_scores_and_truth_are_said(tmp_path: Path) -> None:
    results = [make_grounding(), make_grounding(moments=())]
    labels = ["mine $x_1", "<b>&\n🎬"]
    plot_comparison(results, labels, tmp_path / "p.svg", truth=[(1.0, 2.0)], top=1)
    shown = read_texts(tmp_path / "p.svg")
    assert shown.count("mine $x_1") == 2  # above its moments, and in the legend
    assert {"<b>& 🎬: no moments", "<b>& 🎬", "true", "true moment", "1   0.88", "a red circle falls"} <= set(shown)
    assert not any(text.startswith("2   ") for text in shown)
    plot_comparison(results, labels, tmp_path / "q.svg")
    assert not {"true", "true moment"} & set(read_texts(tmp_path / "q.svg"))


def test_as_many_as_can_be_told_apart_and_no_more(tmp_path: Path) -> None:
    results = [make_grounding() for _ in range(MOST_ANSWERS)]
    labels = ["a rather long name of a model " + "x" * 40] * len(results)
    plot_comparison(results, labels, tmp_path / "p.png", truth=[(1.0, 2.0)])
    picture = pixels(tmp_path / "p.png")
    assert (picture[:4] == 255).all()
    assert (picture[:, :4] == 255).all()
    assert (picture[:, -4:] == 255).all()
