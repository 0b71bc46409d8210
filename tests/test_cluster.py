"""Extraction on a Ray cluster of two nodes: what it makes, what it survives, what it lists, and how it ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.cli import refused, run
from support.deaths import kill_parent
from support.models import save_tiny_clip
from support.planted import FatalStore, SlowStore
from support.shapes import write_shapes
from support.videos import write_video

from r2tuning import Library
from r2tuning.backbones import Backbone, load_backbone
from r2tuning.cluster import ATTEMPTS, Cluster
from r2tuning.errors import FeatureError, R2TuningError, VideoWarning
from r2tuning.features.extraction import Extraction, VideoTask, extract_videos
from r2tuning.features.store import FeatureStore
from r2tuning.processes import Death

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes of one CPU."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # On a busy machine, a niceness of 15 would starve what works, and nodes take long to start.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    os.environ["RAY_raylet_start_wait_time_s"] = "300"  # noqa: SIM112
    # Tasks of these tests are unpickled on the nodes; pytest's own paths are of this process only.
    tests = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join([tests, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(":")
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes()
    start_node(nodes, include_dashboard=False)
    start_node(nodes)
    yield nodes
    nodes.shutdown()


def start_node(nodes: Any, **options: object) -> Any:
    """Adds a node of one CPU. On a busy machine, the parts of a node do not always wait for each other long enough."""
    for attempt in range(5):
        try:
            return nodes.add_node(num_cpus=1, object_store_memory=80 << 20, **options)
        except Exception:  # noqa: PERF203  (Ray raises nothing more precise)
            if attempt == 4:
                raise
    return None


@pytest.fixture(scope="module")
def clip(folder: Path) -> Backbone:
    return load_backbone(save_tiny_clip(folder / "clip"), layers=2)


@pytest.fixture(scope="module")
def tasks(folder: Path) -> list[VideoTask]:
    """Two that fail, and four that do not; one of these warns."""
    (folder / "videos").mkdir()
    for number, name in enumerate(("a", "b", "c")):
        write_video(folder / "videos" / f"{name}.mp4", frames=20 + 10 * number, fps=10, codec="mpeg4")
    (folder / "videos" / "bad.mp4").write_text("not a video")
    options = {"container_options": {"movflags": "faststart"}}
    cut = write_video(folder / "videos" / "cut.mp4", frames=100, fps=10, b_frames=0, **options)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 2 // 3])
    names = ("bad", "a", "b", "c", "cut", "gone")
    return [VideoTask(name, folder / "videos" / f"{name}.mp4", 2) for name in names]


def outcome(extraction: Extraction) -> tuple[int, int, list[str]]:
    return extraction.extracted, extraction.skipped, sorted(failure.name for failure in extraction.failures)


def extract(tasks: list[VideoTask], store: FeatureStore, clip: Backbone, nodes: Any) -> Extraction:
    return extract_videos(tasks, store, clip, machines=Cluster(nodes.address))


@pytest.mark.slow
def test_a_cluster_makes_what_jobs_make_and_a_poisonous_video_is_listed(
    folder: Path, tasks: list[VideoTask], clip: Backbone, nodes: Any
) -> None:
    store = FatalStore.create(folder / "store", clip)  # `b` kills its process
    with pytest.warns(VideoWarning) as far:
        done = extract(tasks, store, clip, nodes)
    assert outcome(done) == (3, 0, ["b", "bad", "gone"])
    reasons = {failure.name: failure.reason for failure in done.failures}
    assert "ended with code 9 while encoding it" in reasons["b"]
    # Without the poison, what is due is done, and nothing else.
    assert outcome(extract(tasks, FeatureStore.create(folder / "store", clip), clip, nodes)) == (1, 3, ["bad", "gone"])
    ours = {path.name: path.read_bytes() for path in (folder / "store" / "videos").iterdir()}

    shutil.rmtree(folder / "store")
    with pytest.warns(VideoWarning) as near:
        jobs = extract_videos(tasks, FeatureStore.create(folder / "store", clip), clip, jobs=2)
    assert outcome(jobs) == (4, 0, ["bad", "gone"])
    assert {path.name: path.read_bytes() for path in (folder / "store" / "videos").iterdir()} == ours
    assert [str(warning.message) for warning in far] == [str(warning.message) for warning in near]
    assert {failure.name: failure.reason for failure in jobs.failures} == {n: reasons[n] for n in ("bad", "gone")}


@pytest.mark.slow
def test_a_lost_node_costs_nothing(folder: Path, tasks: list[VideoTask], clip: Backbone, nodes: Any) -> None:
    third = start_node(nodes)
    store = SlowStore.create(folder / "slow", clip)
    killed = []

    def kill(done: int, expected: int) -> None:
        if not killed:
            killed.append(nodes.remove_node(third, allow_graceful=False))

    many = [VideoTask(f"{task.name}{i}", task.path, 2) for task in tasks[1:4] for i in range(3)]
    done = extract_videos(many, store, clip, machines=Cluster(nodes.address), progress=kill)
    assert (outcome(done), len(killed)) == ((9, 0, []), 1)
    for task in many:
        assert store.is_current(task.name, task.path, 2, "exact")


@pytest.mark.slow
def test_what_kills_its_actor_is_given_up(nodes: Any) -> None:
    """As a machine's full memory does, by which Ray ends the actor and not its child."""
    results = Cluster(nodes.address, jobs=1).map(partial(partial, kill_parent), [1, 2])
    assert dict(results) == {1: Death(f"the machine or its actor was lost {ATTEMPTS} times"), 2: 2}


@pytest.mark.slow
def test_errors_stop_the_work(folder: Path, tasks: list[VideoTask], clip: Backbone, nodes: Any) -> None:
    store = FeatureStore.create(folder / "other", clip)
    other = load_backbone(clip.name, layers=3)
    with pytest.raises(FeatureError, match="has features of layers 2, not 3"):
        extract(tasks, store, other, nodes)
    (folder / "other" / "store.json").unlink()
    with pytest.raises(FeatureError, match="put the store and the videos into a folder that all machines share"):
        extract(tasks, store, clip, nodes)
    with pytest.raises(R2TuningError, match=r"no worker process could start: .* code 7"):
        list(Cluster(nodes.address).map(partial(os._exit, 7), [1]))
    assert list(Cluster("nowhere:1").map(partial(partial, kill_parent), [])) == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_a_command_that_is_stopped_and_goes_on(
    folder: Path, tasks: list[VideoTask], clip: Backbone, nodes: Any
) -> None:
    source = write_video(folder / "long.mp4", frames=200, fps=10, codec="mpeg4")
    names = [f"{number:03}.mp4" for number in range(100)]
    (folder / "many").mkdir()
    for name in names:
        shutil.copy(source, folder / "many" / name)
    (folder / "own.csv").write_text("\n".join(["video,start,end,query", *(f"{name},0,1,a dog" for name in names)]))
    arguments: list[object] = [folder / "own.csv", folder / "many", folder / "stopped", "--backbone", clip.name]
    arguments += ["--fps", 10]
    command = [sys.executable, "-m", "r2tuning", "extract", *arguments, "--cluster", nodes.address]
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    videos = folder / "stopped" / "videos"
    while process.poll() is None and not list(videos.glob("*.safetensors")):
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (130, ""), stderr
    assert stderr == f"stopped; what is complete is in {folder / 'stopped'}; run the same command again to continue\n"
    while list(videos.glob("*.part")):  # the children of the actors are leaving
        time.sleep(0.1)
    complete = len(list(videos.iterdir()))
    assert 0 < complete < len(names)
    result = run("extract", *arguments, "--cluster", nodes.address, "--limit", complete + 2)
    assert f"videos: 2 extracted, {complete} skipped, 0 failed" in result.stdout, result.output


def test_clusters_that_cannot_be_used_are_refused(folder: Path, tasks: list[VideoTask], clip: Backbone) -> None:
    (folder / "one.csv").write_text("video,start,end,query\na.mp4,0,1,a dog")
    arguments = [folder / "one.csv", folder / "videos", folder / "none", "--backbone", clip.name, "--fps", 1]
    refused(run("extract", *arguments, "--gpus", 0.5), 2, "--gpus", "is for --cluster")
    refused(run("extract", *arguments, "--cluster", "auto", "--shard", "1/2"), 2, "leave out --shard")
    assert not (folder / "none").exists()
    refused(
        run("extract", *arguments, "--cluster", "127.0.0.1:1"), 1, "127.0.0.1:1: no Ray cluster", "ray start --head"
    )


@pytest.mark.slow
def test_a_library_is_filled_by_a_cluster(folder: Path, nodes: Any) -> None:
    write_shapes(folder / "shapes.mp4", [91000000])
    (folder / "shapes bad.mp4").write_text("not a video")
    paths = [folder / "shapes.mp4", folder / "shapes bad.mp4"]
    far, near = Library(folder / "far", model="demo"), Library(folder / "near", model="demo")
    added = far.add(paths, machines=Cluster(nodes.address))
    one_by_one = near.add(paths, jobs=2)
    assert [failure.path for failure in added.failures] == [str(paths[1])]
    assert added.failures == one_by_one.failures
    for part in ("videos/1.safetensors", "segments/1.f16"):
        assert (far.folder / part).read_bytes() == (near.folder / part).read_bytes()
    assert far.add(paths, machines=Cluster(nodes.address)).indexed.videos == 0
