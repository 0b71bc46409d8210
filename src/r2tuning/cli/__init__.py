"""The ``r2tuning`` command. This file imports next to nothing, so that Ctrl-C is quiet from the first moment on."""

import os
import signal
import threading
from types import FrameType


def run() -> None:
    """Entry point of the ``r2tuning`` command."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nohup and shells' & ignore it
        signal.signal(signal.SIGINT, _stop_at_once)
    from r2tuning.cli.main import run

    run()


def _stop_at_once(*_: object) -> None:
    """Ends the process while it has nothing to clean up: exceptions amid imports print tracebacks, or get lost."""
    os.write(2, b"stopped\n")
    os._exit(130)


def raise_interrupts() -> None:
    """Lets Ctrl-C raise `KeyboardInterrupt` again, once a command runs."""
    if signal.getsignal(signal.SIGINT) is _stop_at_once:
        signal.signal(signal.SIGINT, _raise_after_imports)


def _raise_after_imports(number: int, frame: FrameType | None) -> None:
    """Raises `KeyboardInterrupt`, but amid an import tries again later: native code that imports NumPy drops it."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib."):
            later = threading.Timer(0.05, os.kill, (os.getpid(), number))
            later.daemon = True
            later.start()
            return
        frame = frame.f_back
    raise KeyboardInterrupt
