"""Run one item on a worker: in one thread, within its limits."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
    # Keep a picture's memory for the next one: returning and allocating it again costs more than decoding.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20),
}
GIB = 2**30
POLL_SECONDS = 0.2
"""How often a worker checks the time and memory of its item."""
_THREAD = ThreadPoolExecutor(1, "work")  # one thread for all items, because libraries keep state per thread
DONE, OVER_LIMIT, NOT_LOADABLE = "done", "over a limit", "not loadable"


@dataclass(frozen=True)
class Limits:
    """What one item may take: ``seconds`` of wall time, ``memory`` bytes resident in its worker. None: no limit."""

    seconds: float | None = 3600.0
    memory: int | None = 8 * GIB


def run_item(function: bytes, item: bytes, limits: Limits) -> tuple[str, Any]:
    """On a worker: the outcome (``DONE``, ``OVER_LIMIT`` or ``NOT_LOADABLE``), and the pickled result or the reason.

    The work is done in a second thread. This one checks its time and memory, and whether its result is still wanted:
    where the run that submitted it was killed, the next run must not meet its half-written files.
    """
    import psutil
    from distributed import get_worker

    worker = get_worker()
    key, process, started = worker.get_current_task(), psutil.Process(), time.monotonic()
    worker.memory_manager.memory_pause_fraction = False  # a paused worker would never start its next item
    os.environ.update(WORKER_ENVIRONMENT)  # before numpy, torch and the like are loaded
    outcome = _THREAD.submit(_outcome, function, item)
    while True:
        try:
            return outcome.result(timeout=POLL_SECONDS)
        except TimeoutError:
            pass
        if limits.seconds is not None and time.monotonic() - started > limits.seconds:
            return OVER_LIMIT, f"took more than {limits.seconds:g} seconds"
        if limits.memory is not None and process.memory_info().rss > limits.memory:
            return OVER_LIMIT, f"took more than {limits.memory / GIB:.3g} GiB of memory"
        task = worker.state.tasks.get(key)
        if task is None or task.state != "executing":
            os._exit(1)


def _outcome(function: bytes, item: bytes) -> tuple[str, Any]:
    from distributed.protocol.pickle import dumps, loads

    try:
        call, value = loads(function), loads(item)
    except BaseException as error:
        return NOT_LOADABLE, str(error) or type(error).__name__
    _one_thread()
    try:
        result = call(value)
    except BaseException as error:
        result = error.with_traceback(None)
    try:
        packed = dumps(result)
        loads(packed)
    except Exception as error:
        shown = result if isinstance(result, BaseException) else error
        packed = dumps(RuntimeError(f"{type(shown).__name__}: {shown}"))
    return DONE, packed


def _one_thread() -> None:
    """For workers that were started outside this package, where the environment may be set too late."""
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    if torch and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    if cv2 and cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
