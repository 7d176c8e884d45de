"""Where the workers are: on this machine, with a running Dask scheduler, or on SLURM's nodes."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import warnings
from contextlib import ExitStack
from functools import partial
from typing import Any

from emibook import InputError
from emibook.compute.worker import GIB, WORKER_ENVIRONMENT, Limits

CONNECT_SECONDS = 15
ASK_SECONDS = 30
"""How often SLURM is asked for the workers that are missing."""


def connect(
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
        "distributed.scheduler.allowed-failures": 0,  # so that a death is told at once, and counted in ``spread``
        # A history that would grow with the number of items.
        "distributed.admin.low-level-log-length": 100,
    }))
    if scheduler is not None:
        try:
            _ask(scheduler)
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


def workers_on_gpu(bytes_each: int) -> int:
    """As many workers as this machine's GPU has free memory for, at least one and at most one a core."""
    import torch
    from dask.system import cpu_count

    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
    return max(1, min(cpu_count(), free // bytes_each))


def _ask(scheduler: str) -> None:
    """Raises ``OSError`` or ``ValueError`` where no scheduler answers: a client waits for ever for something else's
    answer, its dashboard's for example."""
    from distributed.core import rpc
    from distributed.utils import LoopRunner, sync

    async def identity() -> None:
        async with rpc(scheduler, timeout=CONNECT_SECONDS) as remote:
            await remote.identity()

    runner = LoopRunner()
    runner.start()
    try:
        sync(runner.loop, identity, callback_timeout=CONNECT_SECONDS)
    finally:
        runner.stop()


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
    from tornado.ioloop import PeriodicCallback

    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise InputError("a SLURM cluster needs the package dask-jobqueue; install it with "
                         "pip install --constraint constraints.txt --editable .[slurm]") from None
    if not shutil.which("sbatch"):
        raise InputError(f"no sbatch on this machine to ask SLURM's partition {partition} with; use one that has it")
    cores = dask.config.get("jobqueue.slurm.cores", None) or 1
    # Room beside the limit of an item, so that ours is met before SLURM's, which would end the whole job.
    memory = dask.config.get("jobqueue.slurm.memory", None) or f"{cores * (Limits().memory // GIB + 2)} GiB"
    prologue = [f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()]
    cluster = SLURMCluster(queue=partition, cores=cores, processes=cores, memory=memory, job_script_prologue=prologue,
                           worker_extra_args=["--memory-limit", "0"], silence_logs=logging.CRITICAL)
    # Asked again and again, because a job whose time is up has to be replaced by another.
    ask = PeriodicCallback(lambda: cluster.scale(workers), ASK_SECONDS * 1000)
    # Jobs are handed in out of sight, so what SLURM has against them is asked before.
    asked = subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(), capture_output=True, text=True)
    if asked.returncode:
        cluster.close()
        raise InputError(f"SLURM takes no job for its partition {partition}: {' '.join(asked.stderr.split())}")
    cluster.scale(workers)
    cluster.loop.add_callback(ask.start)
    return cluster
