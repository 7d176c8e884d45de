"""Which items wait, which worker is busy with which, and what came of them."""

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
from emibook.compute.worker import BEYOND, UNFIT, Limits, attempt

DEATHS = 3
"""An item that was being worked on when so many workers died is set aside."""
LOOK_SECONDS = 0.2
"""How often the workers are counted."""
PATIENCE_SECONDS = 15
"""How long there may be no worker, and how long one may take to hand over a result."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors that every other item would meet as well."""


class WorkerDied(RuntimeError):
    """The process that worked on an item died each time that it was tried."""


class LimitExceeded(RuntimeError):
    """An item took more time or memory than one may."""


class EndRun(RuntimeError):
    """Raised by a function where no other item could be done either: the run ends, with this line."""


@dataclass
class Job:
    """An item, and how often a worker died while it was the one being worked on."""

    item: Any
    deaths: int = 0


class Spread:
    """Which items wait, which worker is busy with which, and what came of them."""

    def __init__(
        self, client: Any, function: Callable[[Any], Any], waiting: deque[Job], label: str, limits: Limits
    ) -> None:
        from distributed.protocol.pickle import dumps

        self.client, self.waiting, self.label, self.limits = client, waiting, label, limits
        # Packed here and unpacked in attempt, so that Dask itself only ever meets bytes and what is amiss is told.
        self.function = dumps(function)
        self.busy: dict[str, tuple[Any, Job]] = {}  # by worker: the future and what it is the future of
        self.ended: SimpleQueue[Any] = SimpleQueue()
        self.found: deque[tuple[Any, Any]] = deque()
        self.alive: set[str] = set()
        self.dismissed: set[str] = set()  # workers that are to end
        self.looked = self.seen = time.monotonic()
        self.said: set[str] = set()

    def results(self) -> Iterator[tuple[Any, Any]]:
        """Every item with its result, as they are done."""
        self._look()
        self._hand_out()
        while self.busy or self.waiting:
            try:
                self._collect(self.ended.get(timeout=LOOK_SECONDS))
            except Empty:
                pass
            if time.monotonic() > self.looked + LOOK_SECONDS:
                self._look()
            self._hand_out()
            while self.found:
                yield self.found.popleft()

    def _hand_out(self) -> None:
        """An item for every worker that has none."""
        from distributed.protocol.pickle import dumps

        for address in [address for address in self.alive if address not in self.busy][:len(self.waiting)]:
            job = self.waiting.popleft()
            key = f"{self.label.replace(' ', '_')}-{uuid4().hex}"
            future = self.client.submit(attempt, self.function, dumps(job.item), self.limits, key=key,
                                        workers=[address], allow_other_workers=False, pure=False)
            future.add_done_callback(partial(_put, self.ended, address))
            self.busy[address] = future, job

    def _look(self) -> None:
        """Count the workers. What one that is gone was busy with waits again, or is set aside."""
        try:
            if self.client.status != "running":
                raise OSError("connection lost")
            threads = self.client.nthreads()
            if new := set(threads) - self.alive - self.dismissed:
                self._check(new)
        except (OSError, RuntimeError, AttributeError) as error:
            raise self._lost() from error
        self.dismissed &= set(threads)
        self.alive, self.looked = set(threads) - self.dismissed, time.monotonic()
        for address in [address for address in self.busy if address not in self.alive]:
            self._died(address, 1)
        if self.alive:
            self.seen = self.looked
        elif self.looked > self.seen + PATIENCE_SECONDS:
            self._say("no worker yet; waiting for one (once stopped, the same command goes on)")
        if max(threads.values(), default=1) > 1:
            self._say(f"a worker does one item at a time, and one here has {max(threads.values())} threads; start "
                      f"as many workers of one thread instead: dask worker ADDRESS --nworkers N --nthreads 1")

    def _check(self, addresses: set[str]) -> None:
        """A worker that lacks this package would end at the first task, without a word to us."""
        loaded = self.client.run(import_module, __name__, workers=list(addresses), on_error="return")
        for address, result in loaded.items():
            if isinstance(result, ImportError):
                raise self._unfit(f"the worker at {address}", result)

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
            kind, told = future.result(timeout=PATIENCE_SECONDS)
        except KilledWorker as error:
            self._died(address, error.allowed_failures + 1)
            return
        except TimeoutError:  # it died before it could hand over its result
            self._died(address, 1)
            return
        except Exception as error:
            raise self._unfit("the Dask scheduler", error.__cause__ or error) from error
        del self.busy[address]
        if kind == UNFIT:
            raise self._unfit(f"the worker at {address}", told)
        if kind == BEYOND:
            # The function still runs in its worker, which therefore has to go. A nanny starts another.
            self.dismissed.add(address)
            self.alive.discard(address)
            self.client.run(os._exit, 1, workers=[address], on_error="ignore")
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
        self.alive.discard(address)
        future.cancel()
        job.deaths += times
        if job.deaths < DEATHS:
            self.waiting.append(job)
            return
        self.found.append((job.item, WorkerDied(
            f"{job.deaths} worker processes died while they worked on it: a crash, or too little memory")))

    def _lost(self) -> InputError:
        return InputError(f"{self.label}: the Dask scheduler went away; repeat the command to go on")

    def _unfit(self, who: str, why: object) -> InputError:
        return InputError(f"{self.label}: {who} cannot load its work ({' '.join(str(why).split())}); it needs the same "
                          "packages as this machine")

    def _say(self, note: str) -> None:
        """A line on standard error, once a run."""
        if note not in self.said:
            self.said.add(note)
            print(f"{self.label}: {note}", file=sys.stderr)


def _put(ended: SimpleQueue[Any], address: str, future: Any) -> None:
    ended.put((address, future.key))
