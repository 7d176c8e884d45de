"""Spreads one function over many items: worker processes on this machine, on a Dask cluster, or on SLURM's nodes.

Worker processes rather than threads, because a decoder that crashes then kills a worker and not the run. Each worker
uses one thread (OpenMP, BLAS, torch, OpenCV; the decoders in ``preprocess.media`` ask FFmpeg for one themselves),
because a core a clip beats many cores sharing one clip.

A worker is handed one item at a time, and by name. So it is known which item a worker that died was busy with, and
the scheduler holds no more than one item a worker, however many there are.
"""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from emibook import InputError

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}
GIB = 2**30
SECONDS, MEMORY = 3600.0, 8 * GIB
"""What one item may take: wall time, and the resident set of its worker in bytes."""
DEATHS = 3
"""An item that was being worked on when so many workers died is set aside."""
CONNECT_SECONDS = 15
LOOK_SECONDS = 0.2
"""How often the workers are counted, and how often a worker looks at what its item takes."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that every other item would meet as well."""

DONE, BEYOND, UNFIT = "done", "beyond a limit", "unfit"


class WorkerDied(RuntimeError):
    """The process that worked on an item died each time that it was tried."""


class LimitExceeded(RuntimeError):
    """An item took more time or memory than one may."""


class EndRun(RuntimeError):
    """Raised by a function where no other item could be done either: the run ends, with this line."""


@dataclass(frozen=True)
class Limits:
    """What one item may take: ``seconds`` of wall time, ``memory`` bytes resident in its worker. None: no limit."""

    seconds: float | None = SECONDS
    memory: int | None = MEMORY


def run(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    label: str,
    unit: str = "clip",
    workers: int | None = None,
    scheduler: str | None = None,
    slurm: str | None = None,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    failed: Callable[[Any], bool] = lambda result: isinstance(result, Exception),
    progress: bool = True,
) -> Iterator[tuple[Any, Any]]:
    """Yield ``(item, function(item))`` for every item, in the order in which they are done.

    Where ``function`` raises, the exception itself is the result, and the other items go on. An item whose worker
    process dies is tried again by another, after those that wait; at the third death its result is a ``WorkerDied``.
    Beyond ``limits`` its result is a ``LimitExceeded``, and its worker is replaced. ``function`` and the items have
    to be picklable, and a script that calls this needs the usual ``if __name__ == "__main__":``.

    ``workers``: worker processes on this machine, by default one a core. ``scheduler``: the address of a running
    Dask scheduler (``tcp://host:8786``), used instead; it and its workers have this package and see the same paths.
    Start them with ``dask worker ADDRESS --nworkers N --nthreads 1 --memory-limit 0``, because a worker does one item
    at a time, and Dask's own limit stops a worker without a word. ``slurm``: a partition of SLURM whose nodes are
    asked for ``workers`` workers. ``label`` and ``unit`` name work and items in the progress bar, where those for
    which ``failed`` holds are counted. No process is started where there are no items.

    Raises ``InputError`` where the workers cannot be had or cannot load the work, where the scheduler is lost, and
    where there is no room left to write: what is done is done, and a repeated command goes on.
    """
    waiting = deque(_Job(item) for item in items)
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers asked for {label}; give 1 or more, or none for one a core")
    if scheduler is not None and slurm is not None:
        raise InputError(f"{label}: both the scheduler {scheduler} and the SLURM partition {slurm}; give one of them")
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)  # a worker that starts by importing a script without a guard; the parent says so
    if not waiting:
        return
    from tqdm.auto import tqdm

    with ExitStack() as stack:
        client = _client(stack, label, len(waiting), workers, scheduler, slurm, progress)
        bar = stack.enter_context(tqdm(total=len(waiting), desc=label, unit=unit, disable=not progress))
        failures = 0
        for item, result in _Spread(client, function, waiting, label, limits).results():
            failures += failed(result)
            bar.set_postfix(failed=failures, refresh=False)
            bar.update()
            yield item, result


@dataclass
class _Job:
    """An item, and how often a worker died while it was the one being worked on."""

    item: Any
    deaths: int = 0


class _Spread:
    """Which items wait, which worker is busy with which, and what came of them."""

    def __init__(
        self, client: Any, function: Callable[[Any], Any], waiting: deque[_Job], label: str, limits: Limits
    ) -> None:
        from distributed.protocol.pickle import dumps

        self.client, self.waiting, self.label, self.limits = client, waiting, label, limits
        # Packed here and unpacked in _attempt, so that Dask itself only ever meets bytes and what is amiss is told.
        self.function = dumps(function)
        self.busy: dict[str, tuple[Any, _Job]] = {}  # by worker: the future and what it is the future of
        self.ended: SimpleQueue[Any] = SimpleQueue()
        self.found: deque[tuple[Any, Any]] = deque()
        self.alive: set[str] = set()
        self.looked = self.seen = time.monotonic()
        self.said: set[str] = set()

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Every item with its result, as they are done."""
        self._look()
        while self.waiting or self.busy:
            for address in [address for address in self.alive if address not in self.busy]:
                if self.waiting:
                    self._hand_out(address)
            try:
                self._collect(self.ended.get(timeout=LOOK_SECONDS))
            except Empty:
                pass
            if time.monotonic() > self.looked + LOOK_SECONDS:
                self._look()
            while self.found:
                yield self.found.popleft()

    def _hand_out(self, address: str) -> None:
        from distributed.protocol.pickle import dumps

        job = self.waiting.popleft()
        future = self.client.submit(
            _attempt, self.function, dumps(job.item), self.limits, key=f"{self.label.replace(' ', '_')}-{uuid4().hex}",
            workers=[address], allow_other_workers=False, pure=False,
        )
        future.add_done_callback(partial(_put, self.ended, address))
        self.busy[address] = future, job

    def _look(self) -> None:
        """Count the workers. What one that is gone was busy with waits again, or is set aside."""
        try:
            if self.client.status != "running":
                raise OSError("connection lost")
            threads = self.client.nthreads()
        except (OSError, RuntimeError, AttributeError) as error:
            raise self._lost() from error
        self.alive, self.looked = set(threads), time.monotonic()
        for address in [address for address in self.busy if address not in self.alive]:
            self._died(address, 1)
        if self.alive:
            self.seen = self.looked
        elif self.looked > self.seen + CONNECT_SECONDS:
            self._say("no worker yet; waiting for one (once stopped, the same command goes on)")
        if max(threads.values(), default=1) > 1:
            self._say(f"a worker does one item at a time, and one here has {max(threads.values())} threads; start "
                      f"as many workers of one thread instead: dask worker ADDRESS --nworkers N --nthreads 1")

    def _collect(self, ended: tuple[str, str]) -> None:
        """Take the result of the future with this key from the worker at this address."""
        from distributed import KilledWorker
        from distributed.protocol.pickle import loads

        address, key = ended
        future, job = self.busy.get(address, (None, None))
        if future is None or future.key != key:
            return
        if future.cancelled():
            raise self._lost()
        try:
            kind, told = future.result(timeout=CONNECT_SECONDS)
        except KilledWorker as error:
            self._died(address, error.allowed_failures + 1)
            return
        except TimeoutError:  # it died before it could hand over its result
            self._died(address, 1)
            return
        except Exception as error:
            reason = " ".join(str(error.__cause__ or error).split())
            raise InputError(f"{self.label}: the Dask cluster cannot load this package ({reason}); install it and what "
                             "it needs for the scheduler and every worker") from error
        del self.busy[address]
        if kind == UNFIT:
            raise InputError(f"{self.label}: the worker at {address} cannot load its work ({told}); it needs the same "
                             "packages as this machine")
        if kind == BEYOND:
            # The function still runs in its worker, which therefore has to go. A nanny starts another.
            self.alive.discard(address)
            self.client.run(os._exit, 1, workers=[address], on_error="ignore", wait=False)
            self.found.append((job.item, LimitExceeded(told)))
            return
        result = loads(told)
        if isinstance(result, EndRun):
            raise InputError(f"{self.label}: {result}; then repeat the command to go on")
        if isinstance(result, OSError) and result.errno in NO_ROOM:
            place = f": {result.filename}" if result.filename else ""
            raise InputError(f"{self.label}: {result.strerror}{place}; make room and repeat the command to go on")
        self.found.append((job.item, result))

    def _died(self, address: str, times: int) -> None:
        future, job = self.busy.pop(address)
        future.cancel()
        job.deaths += times
        if job.deaths < DEATHS:
            self.waiting.append(job)
            return
        self.found.append((job.item, WorkerDied(
            f"{job.deaths} worker processes died while they worked on it: a crash, or too little memory")))

    def _lost(self) -> InputError:
        return InputError(f"{self.label}: the Dask scheduler went away; repeat the command to go on")

    def _say(self, note: str) -> None:
        """A line on standard error, once a run."""
        if note not in self.said:
            self.said.add(note)
            print(f"{self.label}: {note}", file=sys.stderr)


def _put(ended: SimpleQueue[Any], address: str, future: Any) -> None:
    ended.put((address, future.key))


def _attempt(function: bytes, item: bytes, limits: Limits) -> tuple[str, Any]:
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
    ended: list[tuple[str, Any]] = []
    thread = threading.Thread(target=lambda: ended.append(_outcome(function, item)), name="work", daemon=True)
    thread.start()
    while True:
        thread.join(LOOK_SECONDS)
        if ended:
            return ended[0]
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
        return UNFIT, f"{type(error).__name__}: {error}"
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


def _client(
    stack: ExitStack, label: str, items: int, workers: int | None, scheduler: str | None, slurm: str | None,
    progress: bool,
) -> Any:
    """A client of ``scheduler``, or of a cluster of our own that ends with ``stack``."""
    import dask
    from dask.system import cpu_count
    from distributed import Client
    from distributed.utils import silence_logging_cmgr

    stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
    stack.enter_context(dask.config.set({
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        # A history that would grow with the number of items.
        "distributed.admin.low-level-log-length": 100,
    }))
    if scheduler is not None:
        try:
            client = stack.enter_context(Client(scheduler, timeout=CONNECT_SECONDS))
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {scheduler} ({type(error).__name__}); start one, or "
                             "leave the address out to use this machine") from error
    else:
        start = _local if slurm is None else partial(_slurm, partition=slurm)
        with warnings.catch_warnings():
            # A second run beside this one has the dashboard's port; Dask then takes another and need not say so.
            warnings.filterwarnings("ignore", message="Port .* is already in use")
            cluster = stack.enter_context(start(min(workers or cpu_count(), items), progress=progress))
        client = stack.enter_context(Client(cluster))
    if progress and client.dashboard_link:
        print(f"{label}: dashboard at {client.dashboard_link}", file=sys.stderr)
    return client


def _local(workers: int, *, progress: bool) -> Any:
    from distributed import LocalCluster

    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # a limit makes a worker pause for ever or its nanny kill it; ours are ``Limits``
            dashboard_address="127.0.0.1:8787" if progress else None,
            silence_logs=logging.CRITICAL,
        )
    except RuntimeError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        raise InputError(f"no worker process could start ({type(cause).__name__}: {cause}); a script has to call this "
                         "below `if __name__ == \"__main__\":`, because every worker imports it") from None


def _slurm(workers: int, *, partition: str, progress: bool) -> Any:
    """One job a core unless Dask's configuration for the site (``jobqueue.slurm``) says how large a job is."""
    import dask

    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise InputError("a SLURM cluster needs the package dask-jobqueue; install it with "
                         "pip install --constraint constraints.txt --editable .[slurm]") from None
    cores = dask.config.get("jobqueue.slurm.cores", None) or 1
    memory = dask.config.get("jobqueue.slurm.memory", None) or f"{cores * MEMORY // GIB} GiB"
    prologue = [f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()]
    cluster = SLURMCluster(queue=partition, cores=cores, processes=cores, memory=memory,
                           job_script_prologue=prologue, silence_logs=logging.CRITICAL)
    cluster.scale(workers)
    return cluster
