"""The order in which a worker does what waits."""

import asyncio
import time
from collections.abc import Callable

from r2tuning.server import workers
from r2tuning.server.workers import Failure, Worker


def open_slowly() -> Callable[[list[str]], list[str | Failure]]:
    """Work that says when it was done."""

    def work(tasks: list[str]) -> list[str | Failure]:
        time.sleep(0.02)
        return [f"{task} {time.monotonic()}" for task in tasks]

    return work


async def order(asked: list[str]) -> list[str]:
    """The tasks in the order in which they were done, after "known"; those with a capital letter are slow at first."""
    worker: Worker[str, str] = Worker(
        "test", open_slowly, most_waiting=100, slow=lambda task: task if task[0].isupper() else None
    )
    worker.start()
    try:
        await worker.ask("Known")
        done = await asyncio.gather(*(worker.ask(task) for task in asked))
    finally:
        await worker.stop()
    return [text.split()[0] for text in sorted(done, key=lambda text: float(text.split()[1]))]


def test_what_was_asked_before_and_what_is_quick_goes_before_new_sentences() -> None:
    asked = ["New", "Other", "quick", "Known", "New"]
    assert asyncio.run(order(asked)) == ["quick", "Known", "New", "New", "Other"]


def test_quick_questions_do_not_keep_a_slow_one_waiting_for_ever() -> None:
    done = asyncio.run(order(["New", *[f"quick{number}" for number in range(workers.MOST_BEFORE + 5)]]))
    assert done.index("New") == workers.MOST_BEFORE
