"""What happens on a worker: one item, one thread, within its limits."""

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
    # A picture's memory is kept for the next one. Handed back and fetched anew it costs more than decoding gains.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 2**20),
}
GIB = 2**30
LOOK_SECONDS = 0.2
"""How often a worker looks at what its item takes."""
_WORK = ThreadPoolExecutor(1, "work")  # the same thread for every item, because libraries keep things by thread
DONE, BEYOND, UNFIT = "done", "beyond a limit", "unfit"


@dataclass(frozen=True)
class Limits:
    """What one item may take: ``seconds`` of wall time, ``memory`` bytes resident in its worker. None: no limit."""

    seconds: float | None = 3600.0
    memory: int | None = 8 * GIB


def attempt(function: bytes, item: bytes, limits: Limits) -> tuple[str, Any]:
    """On a worker: what came of the item (``DONE``, ``BEYOND`` a limit, ``UNFIT``), and the packed result or why.

    The work is done in a thread beside this one, which looks at what it takes, and whether anybody still waits for it:
    where the run that asked for it was killed, the next run must not meet its half-written files.
    """
    import psutil
    from distributed import get_worker

    worker = get_worker()
    key, process, started = worker.get_current_task(), psutil.Process(), time.monotonic()
    worker.memory_manager.memory_pause_fraction = False  # a paused worker would keep its next item for ever
    os.environ.update(WORKER_ENVIRONMENT)  # before numpy, torch and the like are loaded
    outcome = _WORK.submit(_outcome, function, item)
    while True:
        try:
            return outcome.result(timeout=LOOK_SECONDS)
        except TimeoutError:
            pass
        if limits.seconds is not None and time.monotonic() - started > limits.seconds:
            return BEYOND, f"took more than {limits.seconds:g} seconds"
        if limits.memory is not None and process.memory_info().rss > limits.memory:
            return BEYOND, f"took more than {limits.memory / GIB:.3g} GiB of memory"
        task = worker.state.tasks.get(key)
        if task is None or task.state != "executing":
            os._exit(1)


def _outcome(function: bytes, item: bytes) -> tuple[str, Any]:
    from distributed.protocol.pickle import dumps, loads

    try:
        call, value = loads(function), loads(item)
    except BaseException as error:
        return UNFIT, str(error) or type(error).__name__
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
    """For workers that others started, where the environment may have come too late."""
    torch, cv2 = sys.modules.get("torch"), sys.modules.get("cv2")
    if torch and torch.get_num_threads() != 1:
        torch.set_num_threads(1)
    if cv2 and cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
