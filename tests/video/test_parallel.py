"""Groups of packets that threads decode side by side: their order, their threads, and how they end."""

import signal
import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.videos import X264, write_moving

from r2tuning.video import sample_frames
from r2tuning.video.planned.groups import DecodingError, _decode_group, decode_groups, share_cores
from r2tuning.video.probe import survey


@pytest.fixture(scope="module")
def grouped(tmp_path_factory):
    path = write_moving(tmp_path_factory.mktemp("grouped") / "a.mp4", "libx264", X264 | {"g": "5"})
    facts = survey(path)
    return path, facts.index, facts.index.group(facts.timeline.ticks)


def make_ticks():
    return lambda frame: frame.pts


def decoding_threads():
    return {thread for thread in threading.enumerate() if thread is not threading.main_thread()}


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_results_come_in_order_and_threads_end(grouped, threads):
    path, index, groups = grouped
    before = decoding_threads()
    results = list(decode_groups(path, index, groups, make_ticks, threads))
    assert [tick for tick, _ in results] == [pts for _, pts in results] == sorted(index.ticks.tolist())
    assert decoding_threads() <= before  # those of other tests may end meanwhile


def test_the_last_group_gets_the_threads_that_would_idle(grouped, monkeypatch):
    path, index, groups = grouped
    groups = groups[:5]
    used = []

    def decode(decoder, group, *others):
        used.append((int(group.ticks[0]), decoder.thread_count))
        yield from _decode_group(decoder, group, *others)

    monkeypatch.setattr("r2tuning.video.planned.groups._decode_group", decode)
    results = list(decode_groups(path, index, groups, make_ticks, threads=2))
    assert [tick for tick, _ in results] == [tick for group in groups for tick in group.ticks.tolist()]
    assert [threads for _, threads in sorted(used)] == [1, 1, 1, 1, 2]


@given(groups=st.integers(1, 50), cores=st.integers(1, 20))
def test_cores_are_shared_fully_and_never_twice(groups, cores):
    size = min(groups, cores)
    shares = share_cores(groups, size, cores)
    assert len(shares) == groups
    for first in range(0, groups, size):
        at_once = shares[first : first + size]
        assert cores - len(at_once) < sum(at_once) <= cores


@pytest.mark.parametrize("threads", [1, 3])
def test_stopping_early_ends_the_threads(grouped, threads):
    path, index, groups = grouped
    before = decoding_threads()
    results = decode_groups(path, index, groups, make_ticks, threads)
    next(results)
    assert decoding_threads() - before
    results.close()
    assert decoding_threads() <= before  # those of other tests may end meanwhile


@pytest.mark.parametrize("threads", [1, 3])
def test_decoding_does_not_run_far_ahead(grouped, threads):
    path, index, groups = grouped
    made = []
    results = decode_groups(path, index, groups, lambda: lambda frame: made.append(frame.pts), threads)
    ahead = [len(made) - taken for taken, _ in enumerate(results, 1)]
    assert max(ahead) <= (2 * threads + 1) * 5 < len(index.ticks)


def test_an_error_in_a_thread_is_raised_where_results_are_taken(grouped):
    path, index, groups = grouped
    before = decoding_threads()
    wanted = sorted(index.ticks.tolist())[50]

    def fail(frame):
        if frame.pts == wanted:
            raise ZeroDivisionError("frame 50")

    results = decode_groups(path, index, groups, lambda: fail, 3)
    with pytest.raises(ZeroDivisionError, match="frame 50"):
        list(results)
    assert decoding_threads() <= before  # those of other tests may end meanwhile


def test_interrupting_ends_the_threads(grouped):
    path, index, groups = grouped
    before = decoding_threads()
    working, go_on = threading.Barrier(4), threading.Event()

    def wait(frame):
        if not go_on.is_set():
            working.wait(60)
            go_on.wait(60)

    def interrupt():
        working.wait(60)  # all threads have opened the file, and this one waits for results
        signal.raise_signal(signal.SIGINT)
        go_on.set()

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        list(decode_groups(path, index, groups, lambda: wait, 3))
    interrupter.join()
    assert decoding_threads() <= before  # those of other tests may end meanwhile


def test_a_file_that_was_exchanged_is_noticed(grouped, tmp_path):
    _, index, groups = grouped
    other = write_moving(tmp_path / "a.mp4", "libx264", X264 | {"g": "5"}, start=Fraction(1, 2))
    with pytest.raises(DecodingError):
        list(decode_groups(other, index, groups, make_ticks))
    shorter = write_moving(tmp_path / "b.mp4", "libx264", X264 | {"g": "5"}, frames=60)
    with pytest.raises(DecodingError):
        list(decode_groups(shorter, index, groups, make_ticks))


def test_refuses_no_threads(grouped):
    with pytest.raises(ValueError, match="threads is 0; it must be at least 1"):
        sample_frames(grouped[0], 1, threads=0)
