"""Spreads one function over many items: worker processes on this machine, on a Dask cluster, or on SLURM's nodes.

Worker processes rather than threads, because a decoder that crashes then kills a worker and not the run. Each worker
uses one thread (OpenMP, BLAS, torch, OpenCV; the decoders in ``preprocess.media`` ask FFmpeg for one themselves),
because a core a clip beats many cores sharing one clip.

A worker is handed one item at a time, and by name. So it is known which item a worker that died was busy with, and
the scheduler holds no more than one item a worker, however many there are.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from emibook import InputError
from emibook.compute.backends import connect, workers_on_gpu
from emibook.compute.scheduler import NO_ROOM, EndRun, Job, LimitExceeded, Spread, WorkerDied
from emibook.compute.worker import Limits

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
"""Slow work too is told in items a second."""

__all__ = ["NO_ROOM", "EndRun", "LimitExceeded", "Limits", "Resources", "WorkerDied", "run", "workers_on_gpu"]


@dataclass(frozen=True)
class Resources:
    """Where and with how many processes work is done, and whether its progress is shown.

    ``device``: ``cpu`` or ``cuda``, by default ``cuda`` where there is one. ``workers``: worker processes on this
    machine, by default one a core. ``scheduler``: address of a running Dask scheduler, used instead. ``slurm``: a
    partition of SLURM whose nodes are asked for the workers.
    """

    device: str | None = None
    workers: int | None = None
    scheduler: str | None = None
    slurm: str | None = None
    progress: bool = True


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
    waiting = deque(Job(item) for item in items)
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
        client = connect(stack, label, len(waiting), workers, scheduler, slurm, progress)
        bar = stack.enter_context(tqdm(total=len(waiting), desc=label, unit=unit, disable=not progress, bar_format=BAR))
        failures = 0
        for item, result in Spread(client, function, waiting, label, limits).results():
            failures += failed(result)
            bar.set_postfix_str(f"{failures} failed", refresh=False)
            bar.update()
            yield item, result
