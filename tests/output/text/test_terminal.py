import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from support.groundings import make_grounding

from r2tuning.output.text.terminal import print_grounding, print_summary, to_table
from r2tuning.results import Grounding, Summary
from r2tuning.types import Moment


def printed(result: Grounding, top: int = 5, encoding: str = "utf-8", width: int = 80, **options: bool) -> str:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")
    print_grounding(result, Console(file=file, width=width, **options), top)
    file.flush()
    return file.buffer.getvalue().decode(encoding)


def test_moments_are_rows_of_rank_times_and_score() -> None:
    lines = printed(make_grounding()).splitlines()
    assert lines[0] == "Query: a red circle falls"
    assert lines[1] == "Video: trip.mp4 (1:10.0, model demo)"
    rows = [line.split() for line in lines[2:] if line.strip()]
    assert rows[0] == ["rank", "start", "end", "length", "score"]
    # a full bar has 20 cells: 0.875 · 20 = 17.5, rounded to even
    assert rows[2:] == [
        ["1", "0:02.0", "0:06.0", "0:04.0", "0.875", "█" * 18],
        ["2", "1:01.5", "1:04.2", "0:02.8", "0.500", "█" * 10],
    ]
    assert all(len(line) <= 80 for line in lines)


def test_rows_left_out_are_counted() -> None:
    text = printed(make_grounding(), top=1)
    assert "1:01.5" not in text
    assert text.splitlines()[-1] == "Best 1 of 2 moments."


def test_everything_that_limits_the_answer_is_noted_on_a_line() -> None:
    limits = {"sampling": "keyframe", "video_truncated": True, "query_truncated": True, "windows": 3}
    limited = make_grounding(**limits, domain_warning="unlike the training videos")
    lines = printed(limited).splitlines()[2:7]
    words = ("unlike the training", "key frames", "first 70.0 seconds", "query is too long", "3 overlapping windows")
    for line, word in zip(lines, words, strict=True):
        assert word in line
    assert not printed(make_grounding()).splitlines()[2].strip()


def test_without_moments_the_peaks_are_shown_and_named_so() -> None:
    text = printed(make_grounding([0.0, 0.25, 0.0, 0.75, 0.0], (), duration=10.0))
    assert "No moments for this query, showing the highest peaks of its saliency." in text
    assert [line.split()[:5] for line in text.splitlines()[-3:-1]] == [
        ["1", "0:06.0", "0:08.0", "0:02.0", "0.750"],
        ["2", "0:02.0", "0:04.0", "0:02.0", "0.250"],
    ]


@pytest.mark.parametrize("scores", [[], [0.0, 0.0], [-0.5, -0.25]])
def test_without_moments_and_peaks_it_says_so(scores: list[float]) -> None:
    text = printed(make_grounding(scores, ()))
    assert text.splitlines()[-1] == "No moments for this query, and its saliency is nowhere above 0."
    assert "rank" not in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("width", [12, 80])
def test_terminals_without_unicode_get_escapes_and_plain_bars(encoding: str, width: int) -> None:
    text = printed(make_grounding(query="切 \udce9 ok", video="🎬.mp4"), encoding=encoding, width=width)
    assert text.isascii()
    joined = "".join(text.split())
    assert "Query:\\u5207\\ufffdok" in joined
    assert "\\U0001f3ac.mp4" in joined
    if width == 80:
        assert "#" * 18 in text


def test_a_terminal_of_50_columns_keeps_rows_whole() -> None:
    width = 50
    moments = ((2.0, 6.0, 0.875), (3661.5, 3764.25, 0.5))
    result = make_grounding(moments=moments, duration=4000.0, video_truncated=True, query="a very long query " * 5)
    text = printed(result, width=width)
    assert max(map(cell_len, text.splitlines())) <= width
    found = [line.split() for line in text.splitlines()]
    assert [row[:5] for row in found if row[:1] in (["1"], ["2"])] == [
        ["1", "0:02.0", "0:06.0", "0:04.0", "0.875"],
        ["2", "1:01:01.5", "1:02:44.2", "1:42.8", "0.500"],
    ]
    assert "The file ends early or is damaged: the answer covers its first 4000.0 seconds." in " ".join(text.split())


def test_markup_and_control_characters_in_a_query_do_nothing() -> None:
    text = printed(make_grounding(query="[bold]x[/bold]\n\x1b[31m 12"), force_terminal=True, no_color=True)
    assert "[bold]x[/bold] \N{REPLACEMENT CHARACTER}[31m 12" in text


def test_colours_only_on_terminals() -> None:
    assert "\x1b[" not in printed(make_grounding())
    assert "\x1b[" in printed(make_grounding(), force_terminal=True)


def test_times_before_zero_show_as_zero_as_in_players() -> None:
    # some files stamp their first frames a little before 0
    row = printed(make_grounding(moments=((-0.25, 1.75, 0.5),), start=-0.25)).splitlines()[5]
    assert row.split()[:4] == ["1", "0:00.0", "0:01.8", "0:02.0"]


def test_a_summary_lists_its_shots_and_what_they_take_of_the_budget() -> None:
    file = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="")
    shots = [Moment(4.0, 8.5, 0.5), Moment(61.0, 65.0, 0.75)]
    console = Console(file=file, width=80)
    print_summary(Summary(make_grounding(query=""), 10.5, shots), console)
    print_summary(Summary(make_grounding(), 10.5, [Moment(4.0, 8.5, -0.5)]), console)
    file.flush()
    lines = [line.split() for line in file.buffer.getvalue().decode().splitlines() if line.strip()]
    assert lines[0][:2] == ["No", "query:"]
    assert lines[2] == ["shot", "start", "end", "length", "score"]
    assert [row[:5] for row in lines[4:6]] == [
        ["1", "0:04.0", "0:08.5", "0:04.5", "0.500"],
        ["2", "1:01.0", "1:05.0", "0:04.0", "0.750"],
    ]
    assert " ".join(lines[6]) == "Summary: 0:08.5 of at most 0:10.5."
    assert "Nothing in the video scores above 0" in " ".join(lines[9])


def test_what_is_probably_absent_is_said_above_dimmed_guesses() -> None:
    absent = make_grounding(calibrated=True, presence=0.12, presence_threshold=0.4)
    lines = printed(absent).splitlines()
    assert lines[2] == "Probably not in this video (presence 0.12, threshold 0.40)."
    assert lines[6].split()[:5] == ["1", "0:02.0", "0:06.0", "0:04.0", "0.875"]
    coloured = printed(absent, force_terminal=True).splitlines()
    assert "\x1b[2m" in coloured[6]
    present = printed(make_grounding(presence=0.9, presence_threshold=0.4), force_terminal=True)
    assert "Probably in this video (presence 0.90, threshold 0.40)." in present
    assert "\x1b[2m" not in present.splitlines()[6]


def test_a_text_file_holds_what_a_terminal_shows() -> None:
    results = [make_grounding(query="切 \u2028 \x1b[31m"), make_grounding(moments=())]
    shown = "".join(printed(result, width=120) for result in results)
    assert to_table(results).splitlines() == [line.rstrip() for line in shown.splitlines()]
    assert "\x1b" not in to_table(results)
    summary = Summary(make_grounding(), 10.5, [Moment(4.0, 8.5, 0.5)])
    assert to_table([summary]).splitlines()[-1] == "Summary: 0:04.5 of at most 0:10.5."
