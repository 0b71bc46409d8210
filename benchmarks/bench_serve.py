"""`r2tuning serve` under load, beside a Gradio page around the same function.

Puts videos of Moving Shapes into a library with the demo model and starts the server. Clients then ask at the same
time, each a sentence of its own choice and the next one after a pause, while a job indexes more videos. Health is asked
ten times a second. Then the same clients ask a Gradio page whose function is `Library.search`, with Gradio's defaults.
Prints requests per second, latencies in seconds, errors, and the memory of all processes of each server.

``--gradio PYTHON`` names a Python that has both packages; without it, only the server is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx2 as httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.shapes import write_shapes

from r2tuning import Library
from r2tuning.synthetic.queries import describe
from r2tuning.synthetic.staging import make_video

SERVE_PORT, GRADIO_PORT = 8431, 8432
FIRST_SEED, MORE_SEED = 91_000_000, 92_000_000

PAGE = """
import sys
import gradio
from r2tuning import Library

library = Library(sys.argv[1])

def search(query):
    return [[hit.video, hit.moment.start, hit.moment.end, hit.score] for hit in library.search(query, top=10)]

search("warm up")
page = gradio.Interface(search, gradio.Textbox(), gradio.Dataframe(), api_name="search")
page.launch(server_name="127.0.0.1", server_port=int(sys.argv[2]), quiet=True)
"""


@dataclass
class Measured:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def measure_memory(root: int) -> int:
    """Bytes that a process and all its children have in memory, shared pages counted for each in part."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    family, size = {root}, 0
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    for process in family:
        with suppress(OSError):
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
            size += 1024 * int(text.partition("Pss:")[2].split()[0])
    return size


async def load(
    ask: Callable[[httpx.AsyncClient, str], Awaitable[object]],
    queries: list[str],
    options: argparse.Namespace,
    server: int,
    health: str,
) -> Measured:
    """Lets clients ask for some time."""
    found, end = Measured(), time.monotonic() + options.seconds

    async def be_client(number: int) -> None:
        chance = random.Random(number)
        async with httpx.AsyncClient(timeout=300) as client:
            await asyncio.sleep(chance.uniform(0, options.pause + 0.1))
            while time.monotonic() < end:
                began = time.monotonic()
                try:
                    await ask(client, chance.choice(queries))
                    found.seconds.append(time.monotonic() - began)
                except Exception as error:
                    found.errors.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(options.pause * chance.uniform(0.5, 1.5))

    async def weigh() -> None:
        while time.monotonic() < end:
            found.memory.append(await asyncio.to_thread(measure_memory, server))
            await asyncio.sleep(5)

    with ProcessPoolExecutor(1) as pool:  # the clients keep this process busy, which would count as the server's time
        watching = pool.submit(watch, health, options.seconds)
        await asyncio.gather(*(be_client(number) for number in range(options.clients)), weigh())
        found.health = watching.result()
    return found


def watch(health: str, seconds: float) -> list[float]:
    """How long an address takes to answer, asked ten times a second."""
    taken, end = [], time.monotonic() + seconds
    with httpx.Client(timeout=60) as client:
        while time.monotonic() < end:
            began = time.monotonic()
            with suppress(httpx.HTTPError):
                client.get(health)
                taken.append(time.monotonic() - began)
            time.sleep(0.1)
    return taken


async def ask_server(client: httpx.AsyncClient, query: str) -> object:
    """Asks our API."""
    reply = await client.post(
        f"http://127.0.0.1:{SERVE_PORT}/api/v1/search",
        json={"queries": [query], "top": 10},
    )
    reply.raise_for_status()
    return reply.json()["searches"][0]["hits"]


async def ask_gradio(client: httpx.AsyncClient, query: str) -> object:
    """Asks Gradio's API: a question gets an event, whose stream has the answer."""
    address = f"http://127.0.0.1:{GRADIO_PORT}/gradio_api/call/search"
    reply = await client.post(address, json={"data": [query]})
    reply.raise_for_status()
    answer = await client.get(f"{address}/{reply.json()['event_id']}")
    if "event: complete" not in answer.text:
        raise RuntimeError(answer.text[:200])
    return answer.text


def wait_until_up(address: str, server: subprocess.Popen[bytes]) -> None:
    """Waits for the first answer of a server."""
    for _ in range(1200):
        if server.poll() is not None:
            raise SystemExit(f"the server ended with {server.returncode}")
        with suppress(httpx.HTTPError):
            if httpx.get(address).status_code == 200:
                return
        time.sleep(0.1)
    raise SystemExit(f"{address}: does not answer")


def show(name: str, found: Measured, seconds: float) -> None:
    """Prints a row."""
    ordered = sorted(found.seconds)
    p95 = ordered[int(0.95 * len(ordered))] if ordered else float("nan")
    healths = sorted(found.health)
    slow = " / ".join(f"{healths[min(int(share * len(healths)), len(healths) - 1)]:.3f}" for share in (0.5, 0.95, 1))
    memory = f"{found.memory[0] / 1e6:.0f} to {max(found.memory) / 1e6:.0f} MB"
    print(
        f"| {name} | {len(ordered)} | {len(ordered) / seconds:.1f} | {statistics.median(ordered):.2f} | {p95:.2f} | "
        f"{ordered[-1]:.2f} | {len(found.errors)} | {slow} | {memory} |",
        flush=True,
    )
    for error in sorted(set(found.errors))[:3]:
        print(error, file=sys.stderr)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of videos and libraries; kept")
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--more", type=int, default=60, help="videos that are indexed meanwhile")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds from an answer to the next question, about")
    parser.add_argument("--sentences", type=int, help="different ones that are asked; without it, all of the videos")
    parser.add_argument("--gradio", help="a Python with gradio and r2tuning")
    options = parser.parse_args()
    for name, seed, count in (("videos", FIRST_SEED, options.videos), ("more", MORE_SEED, options.more)):
        (options.folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(seed, seed + count):
            path = options.folder / name / f"{number}.mp4"
            if not path.exists():
                write_shapes(path, [number], "val")
    queries = [one.query for number in range(FIRST_SEED, FIRST_SEED + options.videos)
               for one in describe(make_video(number, "val"))]  # fmt: skip
    queries = random.Random(0).sample(queries, options.sentences or len(queries))
    print(
        f"{options.clients} clients, {len(queries)} sentences, a pause of {options.pause:g} s, {options.seconds:g} s\n"
    )
    print("| server | answers | per second | median | p95 | longest | errors | health: median, p95, longest | memory |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        library = Path(name) / "library"
        Library(library, model="demo").add(options.folder / "videos")
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "r2tuning", "serve", str(library), "--port", str(SERVE_PORT), "--no-open"]
        server = subprocess.Popen([*command, "--root", str(options.folder)], stdout=subprocess.DEVNULL, env=environment)
        try:
            address = f"http://127.0.0.1:{SERVE_PORT}"
            wait_until_up(f"{address}/ready", server)
            httpx.post(f"{address}/api/v1/videos", json={"path": str(options.folder / "more")}).raise_for_status()
            found = asyncio.run(load(ask_server, queries, options, server.pid, f"{address}/health"))
            done = httpx.get(f"{address}/api/v1/jobs").json()["jobs"][0]
            show("r2tuning serve", found, options.seconds)
        finally:
            server.terminate()
            server.wait()
        print(f"\nindexed meanwhile: {json.dumps(done['progress'])}, {done['state']}\n", file=sys.stderr)
        if options.gradio:
            command = [options.gradio, "-c", PAGE, str(library), str(GRADIO_PORT)]
            page = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
            try:
                address = f"http://127.0.0.1:{GRADIO_PORT}"
                wait_until_up(address, page)
                add = [sys.executable, "-m", "r2tuning", "library", "add", str(options.folder / "more")]
                add += ["--library", str(Path(name) / "other"), "--model", "demo"]
                adding = subprocess.Popen(add, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=environment)
                found = asyncio.run(load(ask_gradio, queries, options, page.pid, address))
                show("Gradio", found, options.seconds)
                adding.kill()
            finally:
                page.terminate()
                page.wait()


if __name__ == "__main__":
    main()
