"""Run one function over many items in worker processes: on this machine, on a Dask cluster, or on SLURM's nodes.

Processes rather than threads, because a decoder that crashes then ends one worker and not the run. Each worker uses
one thread (OpenMP, BLAS, torch, OpenCV; the decoders in ``preprocess.media`` set FFmpeg's own), because many clips with
one core each are faster than one clip with many cores.

A worker gets one item at a time, and the scheduler chooses the worker. So it is known which item a worker that died was
busy with, and the Dask scheduler holds no more than one item per worker, however many items there are.
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
from emibook.compute.scheduler import NO_ROOM, Dispatcher, EndRun, Job, LimitExceeded, WorkerDied
from emibook.compute.worker import Limits

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
"""Format of the progress bar; slow work is reported in items per second too."""

__all__ = ["NO_ROOM", "EndRun", "LimitExceeded", "Limits", "Resources", "WorkerDied", "run", "workers_on_gpu"]


@dataclass(frozen=True)
class Resources:
    """Where and with how many processes work is done, and whether its progress is shown.

    ``device``: ``cpu`` or ``cuda``, by default ``cuda`` where there is one. ``workers``: worker processes on this
    machine, by default one per core. ``scheduler``: address of a running Dask scheduler, used instead. ``slurm``: a
    partition of SLURM whose nodes provide the workers.
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
    resources: Resources = Resources(),  # noqa: B008 (frozen)
    unit: str = "clip",
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    failed: Callable[[Any], bool] = lambda result: isinstance(result, Exception),
) -> Iterator[tuple[Any, Any]]:
    """Yield ``(item, function(item))`` for every item, in the order in which they are done.

    Where ``function`` raises, the exception itself is the result, and the other items continue. An item whose worker
    process dies is retried by another worker, after the items that wait; at the third death its result is a
    ``WorkerDied``. Beyond ``limits`` its result is a ``LimitExceeded``, and its worker is replaced. No process is
    started where there are no items.

    Args:
        function: what to do with an item. It and the items have to be picklable, and a script that calls ``run`` needs
            the usual ``if __name__ == "__main__":``.
        items: what to work on.
        label: name of the work, in the progress bar and in messages.
        resources: the workers; ``device`` is not used here. The workers of a running Dask ``scheduler``
            (``tcp://host:8786``) need this package and the same paths. Start them with
            ``dask worker ADDRESS --nworkers N --nthreads 1 --memory-limit 0``, because a worker does one item at a
            time, and Dask's own limit stops a worker without a message.
        unit: name of an item in the progress bar.
        limits: what one item may take.
        failed: whether a result is a failure; the progress bar counts them.

    Raises:
        InputError: the workers cannot be started or cannot load the work, the Dask scheduler is lost, or there is no
            disk space left. Finished work is kept, and a repeated command resumes.
    """
    waiting = deque(Job(item) for item in items)
    if resources.workers is not None and resources.workers < 1:
        raise InputError(f"{label}: {resources.workers} workers; give 1 or more, or leave it out for one per core")
    if resources.scheduler is not None and resources.slurm is not None:
        raise InputError(f"{label}: both the scheduler {resources.scheduler} and the SLURM partition "
                         f"{resources.slurm}; give one of them")
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise SystemExit(1)  # a worker that starts by importing a script without a guard; the parent reports it
    if not waiting:
        return
    from tqdm.auto import tqdm

    with ExitStack() as stack:
        client = connect(stack, label, len(waiting), resources)
        bar = stack.enter_context(tqdm(total=len(waiting), desc=label, unit=unit, disable=not resources.progress,
                                       bar_format=BAR))
        failures = 0
        for item, result in Dispatcher(client, function, waiting, label, limits).results():
            failures += failed(result)
            bar.set_postfix_str(f"{failures} failed", refresh=False)
            bar.update()
            yield item, result
