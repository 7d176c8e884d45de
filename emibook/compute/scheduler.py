"""Give items to workers one at a time, and collect their results."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from emibook import InputError
from emibook.compute.worker import NOT_LOADABLE, OVER_LIMIT, Limits, run_item

MAX_DEATHS = 3
"""An item whose worker died this often is given up."""
POLL_SECONDS = 0.2
"""How often the workers are counted."""
WAIT_SECONDS = 15
"""How long there may be no worker without a message, and how long a finished result may take to arrive."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that every other item would meet as well."""


class WorkerDied(RuntimeError):
    """The process that worked on an item died each time that it was tried."""


class LimitExceeded(RuntimeError):
    """An item took more time or memory than one may."""


class EndRun(RuntimeError):
    """Raised by a function where no other item could be done either: the run ends with this message."""


@dataclass
class Job:
    """An item, and how often a worker died while it worked on it."""

    item: Any
    deaths: int = 0


class Dispatcher:
    """Gives each free worker an item, counts the workers, and collects the results."""

    def __init__(
        self, client: Any, function: Callable[[Any], Any], waiting: deque[Job], label: str, limits: Limits
    ) -> None:
        from distributed.protocol.pickle import dumps

        self.client, self.waiting, self.label, self.limits = client, waiting, label, limits
        # Pickled here and loaded in ``run_item``: Dask sees only bytes, and an error of loading can be reported.
        self.function = dumps(function)
        self.busy: dict[str, tuple[Any, Job]] = {}  # by worker: the future and its job
        self.ended: SimpleQueue[tuple[str, str]] = SimpleQueue()  # (worker, key) of the futures that are done
        self.finished: deque[tuple[Any, Any]] = deque()
        self.alive: set[str] = set()
        self.dismissed: set[str] = set()  # workers that are to end
        self.polled = self.last_alive = time.monotonic()
        self.reported: set[str] = set()

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Every item with its result, as they are done."""
        self._poll()
        self._submit()
        while self.busy or self.waiting:
            try:
                self._collect(self.ended.get(timeout=POLL_SECONDS))
            except Empty:
                pass
            if time.monotonic() > self.polled + POLL_SECONDS:
                self._poll()
            self._submit()
            while self.finished:
                yield self.finished.popleft()

    def _submit(self) -> None:
        """Give an item to every worker that has none."""
        from distributed.protocol.pickle import dumps

        for address in [address for address in self.alive if address not in self.busy][:len(self.waiting)]:
            job = self.waiting.popleft()
            key = f"{self.label.replace(' ', '_')}-{uuid4().hex}"
            future = self.client.submit(run_item, self.function, dumps(job.item), self.limits, key=key,
                                        workers=[address], allow_other_workers=False, pure=False)
            future.add_done_callback(partial(_put, self.ended, address))
            self.busy[address] = future, job

    def _poll(self) -> None:
        """Count the workers. The item of a worker that is gone waits again, or is given up."""
        try:
            if self.client.status != "running":
                raise OSError("connection lost")
            threads = self.client.nthreads()
            if new := set(threads) - self.alive - self.dismissed:
                self._check(new)
        except (OSError, RuntimeError, AttributeError) as error:
            raise self._lost() from error
        self.dismissed &= set(threads)
        self.alive, self.polled = set(threads) - self.dismissed, time.monotonic()
        for address in [address for address in self.busy if address not in self.alive]:
            self._died(address, 1)
        if self.alive:
            self.last_alive = self.polled
        elif self.polled > self.last_alive + WAIT_SECONDS:
            self._report("no worker yet; waiting for one (if stopped, repeat the command to resume)")
        if max(threads.values(), default=1) > 1:
            self._report(f"a worker does one item at a time, and one here has {max(threads.values())} threads; start "
                         "as many workers of one thread instead: dask worker ADDRESS --nworkers N --nthreads 1")

    def _check(self, addresses: set[str]) -> None:
        """Check that new workers have this package: one without it would end at the first task, without a message."""
        loaded = self.client.run(import_module, __name__, workers=list(addresses), on_error="return")
        for address, result in loaded.items():
            if isinstance(result, ImportError):
                raise self._not_loadable(f"the worker at {address}", result)

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
            outcome, value = future.result(timeout=WAIT_SECONDS)
        except KilledWorker as error:
            self._died(address, error.allowed_failures + 1)
            return
        except TimeoutError:  # it died before its result was sent
            self._died(address, 1)
            return
        except Exception as error:
            raise self._not_loadable("the Dask scheduler", error.__cause__ or error) from error
        del self.busy[address]
        if outcome == NOT_LOADABLE:
            raise self._not_loadable(f"the worker at {address}", value)
        if outcome == OVER_LIMIT:
            # The function still runs in its worker, which is therefore ended. Its nanny starts another.
            self.dismissed.add(address)
            self.alive.discard(address)
            self.client.run(os._exit, 1, workers=[address], on_error="ignore")
            self.finished.append((job.item, LimitExceeded(value)))
            return
        result = loads(value)
        if isinstance(result, EndRun):
            raise InputError(f"{self.label}: {result}; then repeat the command to resume")
        if isinstance(result, OSError) and result.errno in NO_ROOM:
            path = f": {result.filename}" if result.filename else ""
            raise InputError(f"{self.label}: {result.strerror}{path}; make room and repeat the command to resume")
        self.finished.append((job.item, result))

    def _died(self, address: str, times: int) -> None:
        future, job = self.busy.pop(address)
        self.alive.discard(address)
        future.cancel()
        job.deaths += times
        if job.deaths < MAX_DEATHS:
            self.waiting.append(job)
            return
        self.finished.append((job.item, WorkerDied(
            f"{job.deaths} worker processes died while they worked on it: a crash, or too little memory")))

    def _lost(self) -> InputError:
        return InputError(f"{self.label}: the connection to the Dask scheduler was lost; repeat the command to resume")

    def _not_loadable(self, process: str, error: object) -> InputError:
        return InputError(f"{self.label}: {process} cannot load its work ({' '.join(str(error).split())}); it needs "
                          "the same packages as this machine")

    def _report(self, message: str) -> None:
        """Print a message on standard error, once per run."""
        if message not in self.reported:
            self.reported.add(message)
            print(f"{self.label}: {message}", file=sys.stderr)


def _put(ended: SimpleQueue[Any], address: str, future: Any) -> None:
    ended.put((address, future.key))
