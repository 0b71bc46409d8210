"""What a library costs: encoding, by step; bytes of each tier; searching 10 to 10,000 hours, warm and in a new process.

Everything has the shape of ViT-B/32 with random weights; nothing is downloaded. ``index`` encodes a video of 720p30
H.264; ``refine`` runs the model on windows; ``recall`` compares the index of an object store with an exact scan;
``search`` asks libraries of made-up vectors, one video an hour, whose v̂ is one file under many names, so that the disk
holds it once. Prints Markdown tables. Of seconds, both those on the clock and those of the CPU are given: on a busy
machine only the latter tell something.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from r2tuning import Grounder, Library
from r2tuning.checkpoints.folder import CheckpointConfig, Provenance, save_checkpoint
from r2tuning.decoding import DecodingConfig
from r2tuning.features import encode_video
from r2tuning.library.catalog import Catalog, open_catalog
from r2tuning.library.indexing import embed_video
from r2tuning.library.projected import read_projected, write_projected
from r2tuning.library.records import File, Generation, Keep, RowRange, Video, describe
from r2tuning.library.segments import MOST_ROWS, segment_path
from r2tuning.model import R2Config, R2Tuning
from r2tuning.types import Engine
from r2tuning.video import sample_frames

FPS, WINDOW = 0.5, 150
HOUR = round(3600 * FPS)
KEPT = 1.0
"""Share of the frames that keep a vector; half of it or less for real videos, whose frames look like the last one."""

MANY = 12
"""Videos that are encoded by a process for each core."""

QUERIES = ("a dog catches a ball", "someone opens a door", "a red car turns left", "people dance", "the sun sets")


@contextmanager
def timed(into: dict[str, tuple[float, float]], name: str) -> Iterator[None]:
    """Notes the seconds of a block on the clock and of the CPU, all threads together."""
    clock, cpu = time.perf_counter(), time.process_time()
    yield
    into[name] = time.perf_counter() - clock, time.process_time() - cpu


def save_model(folder: Path) -> Path:
    """A checkpoint with a CLIP of ViT-B/32's shape beside it, both of random weights."""
    torch.manual_seed(0)
    # Not above: `ask` is to import what the command imports, and transformers takes seconds.
    from support.models import tokenizer
    from transformers import CLIPConfig, CLIPModel

    words = tokenizer()
    text = {"vocab_size": len(words), "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    CLIPModel(CLIPConfig(text_config=text)).save_pretrained(folder / "clip")
    words.save_pretrained(folder / "clip")
    config = R2Config()
    checkpoint = CheckpointConfig(
        name="random",
        model=config,
        backbone=str(folder / "clip"),
        fps=FPS,
        window=WINDOW,
        decoding=DecodingConfig(nms="normal"),
        provenance=Provenance(source="random", created_with="bench_library.py"),
    )
    save_checkpoint(folder / "model", R2Tuning(config).state_dict(), checkpoint)
    return folder / "model"


def write_video(path: Path, seconds: int) -> Path:
    """Moving blobs over noise in 1280 × 720 at 30 frames per second, H.264, a key frame every 8 seconds."""
    rng = np.random.default_rng(0)
    height, width = 720, 1280
    backdrop = np.kron(rng.integers(0, 200, (45, 80, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "veryfast", "crf": "23", "g": "240"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(30 * seconds):
            image = np.roll(backdrop, 3 * index, axis=1).copy()
            x, y = (7 * index) % (width - 200), (5 * index) % (height - 200)
            image[y : y + 200, x : x + 200] = (index // 30 * 37 % 255, 80, 160)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def retitle(source: Path, target: Path, title: str) -> Path:
    """Copies a video with another title, which makes it another video for a library."""
    with av.open(str(source)) as read, av.open(str(target), "w") as written:
        written.metadata["title"] = title
        stream = written.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                written.mux(packet)
    return target


def bench_jobs(folder: Path, model: Path, video: Path, engine: Engine, seconds: int) -> None:
    """Many videos, with a process for each core."""
    copies = [retitle(video, folder / f"{number}.mp4", str(number)) for number in range(MANY)]
    jobs, spent = len(os.sched_getaffinity(0)), dict[str, tuple[float, float]]()
    with timed(spent, "all"):
        added = Library(folder / "library-jobs", model=model, engine=engine).add(copies, jobs=jobs)
    clock = spent["all"][0]
    print(
        f"\n{added.indexed.videos} videos, {engine}, --jobs {jobs}: {clock:.1f} s with the start of the processes, "
        f"{MANY * seconds / clock:.0f} times real time",
        flush=True,
    )


def bench_index(folder: Path, engines: list[Engine], seconds: int) -> None:
    """Where the time of encoding goes, and what a video takes on the disk."""
    model, video = save_model(folder), write_video(folder / "video.mp4", seconds)
    print(f"{seconds} s of 720p30 H.264, {video.stat().st_size / 1e6:.1f} MB; {torch.get_num_threads()} threads\n")
    print("| engine | library add | times real time | decode | image tower | vectors | v̂ | CPU s in all |")
    print("|---|---|---|---|---|---|---|---|")
    for engine in engines:
        grounder = Grounder.from_pretrained(model, engine=engine)
        tower, spent = grounder.backbone, dict[str, tuple[float, float]]()
        encode_video(video, tower, 1)  # loads, compiles
        with timed(spent, "decode"), sample_frames(video, FPS, tower.preprocessing) as frames:
            batches = list(frames)
        with timed(spent, "tower"):
            for batch in batches:
                tower.encode_frames(batch.pixels[~batch.repeated])
        encoded = encode_video(video, tower, FPS)
        with timed(spent, "vectors"):
            embed_video(encoded, grounder)
        with timed(spent, "projected"):
            write_projected(encoded, grounder.model, round(WINDOW * FPS), folder / "v.safetensors")
        with timed(spent, "all"):
            Library(folder / f"library-{engine}", model=model, engine=engine).add([video])
        clock, cpu = spent["all"]
        steps = " | ".join(f"{spent[name][0]:.2f} s" for name in ("decode", "tower", "vectors", "projected"))
        print(f"| {engine} | {clock:.2f} s | {seconds / clock:.0f} | {steps} | {cpu:.2f} |", flush=True)
    bench_jobs(folder, model, video, engines[0], seconds)
    print("\n| keep | MB an hour |\n|---|---|")
    keeps: tuple[Keep, ...] = ("vectors", "answers", "raw")
    for keep in keeps:
        library = Library(folder / f"library-{keep}", model=model, engine=engines[0], keep=keep)
        added = library.add([video])
        print(f"| {keep} | {added.indexed.bytes / 1e6 * 3600 / seconds:.1f} |", flush=True)


def fill(library: Path, model: Path, hours: int) -> None:
    """Makes a library of so many videos of an hour, without videos."""
    grounder = Grounder.from_pretrained(model)
    config = grounder.config.model
    (library / "videos").mkdir(parents=True)
    (library / "segments").mkdir()
    first = library / "videos" / "1.safetensors"
    if not (library.parent / "v.safetensors").exists():
        write_made_up(library.parent / "v.safetensors", config.steps, grounder.backbone.tokens_per_frame, config.hidden)
    rng = np.random.default_rng(0)
    rows = round(KEPT * HOUR)
    frames = np.linspace(0, HOUR - 1, rows).astype(np.int32)
    with open_catalog(library, create=True) as catalog:
        with catalog.change():
            facts = describe(grounder, str(model), None, "answers", "exact")
            generation = catalog.add_generation(facts, current=True)
        width = grounder.backbone.embed_queries(["a"]).shape[1]
        with catalog.change():
            fill_catalog(catalog, generation, library, hours, frames, width, rng)
    for number in range(1, hours + 1):
        os.link(library.parent / "v.safetensors", first.with_name(f"{number}.safetensors"))


def fill_catalog(
    catalog: Catalog,
    generation: Generation,
    library: Path,
    hours: int,
    frames: np.ndarray,
    width: int,
    rng: np.random.Generator,
) -> None:
    """Files, videos and vectors: each video walks away from a place of its own."""
    rows, stop, segment, file = len(frames), 0, None, None
    for number in range(1, hours + 1):
        path, identity = f"/videos/{number}.mp4", f"made-up-{number}"
        catalog.save_file(File(path, 1, 1, identity, 0.0))
        catalog.add_video(
            Video(number, generation.id, identity, 3600.0, 0.0, FPS, HOUR, "exact", truncated=False, bytes=1)
        )
        center = rng.standard_normal(width, dtype=np.float32)
        walk = center + np.cumsum(rng.standard_normal((rows, width), dtype=np.float32), axis=0) / rows**0.5
        walk /= np.linalg.norm(walk, axis=1, keepdims=True)
        if segment is None or file is None or stop + rows > MOST_ROWS:
            segment, stop = catalog.add_segment(generation.id, width), 0
            file = segment_path(library, segment.id).open("wb")
        file.write(walk.astype("<f2").tobytes())
        file.flush()
        catalog.add_range(RowRange(number, segment.id, stop, frames))
        stop += rows


def write_made_up(path: Path, steps: int, tokens: int, hidden: int) -> None:
    """v̂ of an hour, of noise."""
    shape = [HOUR, steps, tokens]
    size = int(np.prod(shape))
    layout = {
        "scales": {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * size]},
        "values": {"dtype": "I8", "shape": [*shape, hidden], "data_offsets": [4 * size, 4 * size + size * hidden]},
    }
    text = json.dumps(layout).encode()
    rng = np.random.default_rng(1)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + np.full(size, 0.01, "<f4").tobytes())
        for _ in range(HOUR):
            file.write(rng.integers(-127, 128, size * hidden // HOUR, dtype=np.int8).tobytes())


def drop_cached(folder: Path) -> None:
    """Makes the system forget what it has in memory of some files, so that they are read from the disk again."""
    if hasattr(os, "posix_fadvise"):
        for path in folder.rglob("*"):
            if path.is_file():
                number = os.open(path, os.O_RDONLY)
                os.posix_fadvise(number, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(number)


def ask(place: Path) -> None:
    """Runs in a new process: opens a library and asks it, once cold and then warm. Prints what it took as JSON."""
    spent: dict[str, tuple[float, float]] = {}
    library = Library(place)
    with timed(spent, "first"):
        library.search(QUERIES[0])
    scans, searches = [], []
    snapshot = library.look()
    (vector,) = library._load(snapshot.generation.facts).backbone.embed_queries(["a cat"])
    for query in QUERIES * 2:
        with timed(spent, "search"):
            library.search(query)
        searches.append(spent["search"])
        with timed(spent, "scan"):
            snapshot.view.scan(vector, snapshot.videos, 20, 37)
        scans.append(spent["scan"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    own = int(status.partition("RssAnon:")[2].split()[0]) / 1024
    print(json.dumps({"first": spent["first"], "searches": searches, "scans": scans, "peak": peak, "own": own}))


def bench_search(folder: Path, hours: list[int]) -> None:
    """Searches libraries of several sizes."""
    model = save_model(folder)
    print("One window is 75 frames; each search refines 20. Clock / CPU seconds, the median of ten searches.\n")
    print("| hours | vectors | on disk | new process | its first search | warm search | of it, the scan | memory |")
    print("|---|---|---|---|---|---|---|---|")
    for number in hours:
        place = folder / f"hours-{number}"
        fill(place, model, number)
        size = sum(path.stat().st_size for path in (place / "segments").iterdir())
        drop_cached(place)
        command = [sys.executable, __file__, "ask", str(place)]
        began = time.perf_counter()
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        whole = time.perf_counter() - began
        found = json.loads(answer.stdout)
        later = [sum(one[0] for one in found[name]) for name in ("searches", "scans")]
        start = whole - sum(later) - found["first"][0]
        medians = [
            " / ".join(f"{statistics.median(column):.2f}" for column in zip(*found[name], strict=True))
            for name in ("searches", "scans")
        ]
        first = " / ".join(f"{value:.2f}" for value in found["first"])
        memory = f"{found['own']:.0f} MB, {found['peak']:.0f} MB with mapped files"
        print(
            f"| {number:,} | {number * round(KEPT * HOUR):,} | {size / 1e9:.2f} GB | {start:.1f} s | {first} | "
            f"{' | '.join(medians)} | {memory} |",
            flush=True,
        )
        for path in place.rglob("*.*"):
            path.unlink()


def bench_recall(folder: Path, hours: int) -> None:
    """How many of the candidates of an exact scan the index of an object store finds; here it is a folder."""
    from r2tuning.library.lance import LanceIndex
    from r2tuning.library.segments import SegmentIndex

    fill(folder / "library", save_model(folder), hours)
    generator, answers = torch.Generator().manual_seed(0), []
    with open_catalog(folder / "library") as catalog:
        exact = SegmentIndex(folder / "library").view(catalog, 1)
        index = LanceIndex(str(folder / "lance"))
        for number in range(1, hours + 1):
            index.append(catalog, 1, number, exact.read(number))
        index.flush()
        began = time.perf_counter()
        index.optimize()
        built = time.perf_counter() - began
        view, videos = index.view(catalog, 1), range(1, hours + 1)
        for _ in range(50):
            row = torch.from_numpy(exact.read(int(torch.randint(1, hours + 1, (), generator=generator))).vectors[0])
            other = torch.nn.functional.normalize(torch.randn(len(row), generator=generator), dim=0)
            query = torch.nn.functional.normalize(0.3 * row.float() + 0.95 * other, dim=0)  # as near as a sentence
            peaks = {(peak.video, peak.frame) for peak in exact.scan(query, videos, 20, 37)}
            began = time.perf_counter()
            found = {(peak.video, peak.frame) for peak in view.scan(query, videos, 20, 37)}
            answers.append((len(peaks & found) / len(peaks), time.perf_counter() - began))
    recall, seconds = zip(*answers, strict=True)
    print(
        f"{hours * round(KEPT * HOUR):,} vectors, indexed in {built:.0f} s: recall of 20 candidates "
        f"{statistics.mean(recall):.3f}, lowest of 50 queries {min(recall):.2f}; {statistics.median(seconds):.3f} s"
    )


def bench_refine(folder: Path) -> None:
    """The cost of refining some windows, apart from finding them."""
    model = save_model(folder)
    grounder = Grounder.from_pretrained(model)
    config = grounder.config.model
    write_made_up(folder / "v.safetensors", config.steps, grounder.backbone.tokens_per_frame, config.hidden)
    (features,) = grounder.backbone.encode_queries([QUERIES[0]])
    from r2tuning.prediction import predict_windows

    print("| windows of 75 frames | read v̂ | model | CPU s |\n|---|---|---|---|")
    for count in (1, 10, 20):
        reads, runs = [], []
        for _ in range(3):
            spent: dict[str, tuple[float, float]] = {}
            with timed(spent, "read"):
                parts = [read_projected(folder / "v.safetensors", 75 * i, 75 * i + 75) for i in range(count)]
            with timed(spent, "run"), torch.inference_mode():
                predict_windows(grounder.model, parts, [features], FPS)
            reads.append(spent["read"])
            runs.append(spent["run"])
        read, run = (min(column) for column in (reads, runs))
        print(f"| {count} | {read[0]:.3f} s | {run[0]:.3f} s | {read[1] + run[1]:.3f} |", flush=True)


def main() -> None:
    """Runs the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=("index", "search", "refine", "recall", "all", "ask"), default="all")
    parser.add_argument("place", nargs="?", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=int, default=120, help="length of the video of index")
    parser.add_argument(
        "--hours", type=int, nargs="+", default=[10, 100, 1000], help="sizes of the libraries of search"
    )
    parser.add_argument("--engines", nargs="+", default=["torch", "torch-bf16", "onnx-int8"])
    parser.add_argument("--folder", type=Path, help="where to work; 1 GB for each 1,000 hours")
    options = parser.parse_args()
    if options.part == "ask":
        ask(options.place)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if options.part in ("index", "all"):
            bench_index(folder / "index", options.engines, options.seconds)
        if options.part in ("refine", "all"):
            bench_refine(folder / "refine")
        if options.part in ("recall", "all"):
            bench_recall(folder / "recall", 300)
        if options.part in ("search", "all"):
            bench_search(folder / "search", options.hours)


if __name__ == "__main__":
    main()
