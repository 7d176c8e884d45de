"""Spreads one function over many items: Dask worker processes on this machine, or a Dask scheduler anywhere.

Worker processes rather than threads, because a decoder that crashes then kills a worker and not the run. Each worker
is single-threaded (OpenMP, BLAS, OpenCV; the decoders in ``preprocess.media`` ask FFmpeg for one thread themselves),
because a core a clip beats many cores sharing one clip.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from emibook import InputError

WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}
CONNECT_SECONDS = 15


class WorkerDied(RuntimeError):
    """The process that worked on an item died each time that it was tried."""


def run(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    label: str,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> Iterator[tuple[Any, Any]]:
    """Yield ``(item, function(item))`` for every item, in the order in which they are done.

    Where ``function`` raises, the exception itself is the result, and the other items go on. An item whose worker
    process dies is tried again, at last with nothing beside it; if it still kills its worker its result is a
    ``WorkerDied``. ``function`` and the items have to be picklable, and a script that calls this needs the usual
    ``if __name__ == "__main__":``.

    ``workers``: worker processes on this machine, by default one a core. ``scheduler``: the address of a running
    Dask scheduler (``tcp://host:8786``), used instead; its workers see the same paths and have this package.
    ``label`` names the work in the progress bar. No process is started where there are no items.
    """
    items = list(items)
    if workers is not None and workers < 1:
        raise InputError(f"{workers} workers asked for {label}; give 1 or more, or none for one a core")
    if not items:
        return
    from dask.system import cpu_count
    from distributed import KilledWorker, as_completed
    from tqdm.auto import tqdm

    with ExitStack() as stack:
        client = _client(stack, min(workers or cpu_count(), len(items)), scheduler)
        bar = stack.enter_context(tqdm(total=len(items), desc=label, disable=not progress))
        futures = client.map(_attempt, [function] * len(items), items, pure=False)
        waiting = {future.key: item for future, item in zip(futures, items, strict=True)}
        running = as_completed(futures)
        del futures  # a result is kept on its worker for as long as somebody holds its future
        suspects = []
        for future in running:
            item, result = waiting.pop(future.key), _result(future, label)
            if isinstance(result, KilledWorker):
                # Dask suspects everything that lay on a worker that died, not only what killed it.
                suspects.append(item)
                continue
            bar.update()
            yield item, result
        for item in suspects:
            future = client.submit(_attempt, function, item, pure=False)
            result = _result(future, label)
            if isinstance(result, KilledWorker):
                result = WorkerDied("the process that worked on it died each time: a crash, or too little memory")
            bar.update()
            yield item, result


def _client(stack: ExitStack, workers: int, scheduler: str | None) -> Any:
    """A client of ``scheduler``, or of a cluster on this machine that ends with ``stack``."""
    import dask
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            return stack.enter_context(Client(scheduler, timeout=CONNECT_SECONDS))
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {scheduler} ({type(error).__name__}); start one, or "
                             "leave the address out to use this machine") from error
    stack.enter_context(dask.config.set({
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.scheduler.allowed-failures": 1,
    }))
    with warnings.catch_warnings():
        # A second run beside this one has the dashboard's port; Dask then takes another and need not say so.
        warnings.filterwarnings("ignore", message="Port .* is already in use")
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            memory_limit=0,  # a limit makes a worker pause for ever or its nanny kill it
            dashboard_address="127.0.0.1:8787",
            silence_logs=logging.CRITICAL,
        )
    stack.enter_context(cluster)
    return stack.enter_context(Client(cluster))


def _attempt(function: Callable[[Any], Any], item: Any) -> Any:
    try:
        return function(item)
    except Exception as error:
        return error.with_traceback(None)


def _result(future: Any, label: str) -> Any:
    """What the future holds: a result, or the exception that stood in its way. Waits for it."""
    try:
        return future.result()
    except Exception as error:
        if future.cancelled():
            raise InputError(f"{label}: the Dask scheduler went away; repeat the command to go on") from error
        return error
