"""Start or find the workers: on this machine, at a running Dask scheduler, or on SLURM's nodes."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import warnings
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from emibook import InputError
from emibook.compute.worker import GIB, WORKER_ENVIRONMENT, Limits

if TYPE_CHECKING:
    from emibook.compute import Resources

CONNECT_SECONDS = 15
RESCALE_SECONDS = 30
"""How often SLURM is asked to replace missing workers."""


def connect(stack: ExitStack, label: str, items: int, resources: Resources) -> Any:
    """A Dask client of ``resources.scheduler``, or of a new cluster; both are closed with ``stack``."""
    import dask
    from dask.system import cpu_count
    from distributed import Client
    from distributed.utils import silence_logging_cmgr

    stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
    stack.enter_context(dask.config.set({
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.scheduler.allowed-failures": 0,  # a death is reported at once; ``scheduler`` counts them
        # Its history would grow with the number of items.
        "distributed.admin.low-level-log-length": 100,
    }))
    if resources.scheduler is not None:
        try:
            _check_scheduler(resources.scheduler)
            client = stack.enter_context(Client(resources.scheduler, timeout=CONNECT_SECONDS))
        except (OSError, ValueError) as error:
            raise InputError(f"no Dask scheduler answers at {resources.scheduler} ({type(error).__name__}); "
                             "start one, or leave the address out to use this machine") from error
    else:
        start = _local if resources.slurm is None else partial(_slurm, partition=resources.slurm)
        with warnings.catch_warnings():
            # Another run at the same time has the dashboard's port; Dask then takes another, and warns needlessly.
            warnings.filterwarnings("ignore", message="Port .* is already in use")
            cluster = stack.enter_context(start(min(resources.workers or cpu_count(), items),
                                                progress=resources.progress))
        client = stack.enter_context(Client(cluster))
    if resources.progress and client.dashboard_link:
        print(f"{label}: dashboard at {client.dashboard_link}", file=sys.stderr)
    return client


def workers_on_gpu(bytes_per_worker: int) -> int:
    """How many workers this machine's GPU has free memory for, at least one and at most one per core."""
    import torch
    from dask.system import cpu_count

    free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
    return max(1, min(cpu_count(), free // bytes_per_worker))


def _check_scheduler(scheduler: str) -> None:
    """Raise ``OSError`` or ``ValueError`` where no scheduler answers.

    A client would wait for ever where something else answers at the address, a scheduler's dashboard for example.
    """
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
            memory_limit=0,  # with one, a worker pauses for ever or its nanny kills it; see ``Limits`` instead
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
    """One job per core, unless Dask's configuration for the site (``jobqueue.slurm``) gives the size of a job."""
    import dask
    from tornado.ioloop import PeriodicCallback

    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise InputError("a SLURM cluster needs the package dask-jobqueue; install it with "
                         "pip install --constraint constraints.txt --editable .[slurm]") from None
    if not shutil.which("sbatch"):
        raise InputError(f"no sbatch on this machine, which SLURM's partition {partition} needs; use a machine "
                         "that has it")
    cores = dask.config.get("jobqueue.slurm.cores", None) or 1
    # More than an item's limit, so that the item is stopped before SLURM ends the whole job.
    memory = dask.config.get("jobqueue.slurm.memory", None) or f"{cores * (Limits().memory // GIB + 2)} GiB"
    prologue = [f"export {name}={value}" for name, value in WORKER_ENVIRONMENT.items()]
    cluster = SLURMCluster(queue=partition, cores=cores, processes=cores, memory=memory, job_script_prologue=prologue,
                           worker_extra_args=["--memory-limit", "0"], silence_logs=logging.CRITICAL)
    # Repeated, because a job whose time is up has to be replaced by another.
    rescale = PeriodicCallback(lambda: cluster.scale(workers), RESCALE_SECONDS * 1000)
    # Dask submits jobs in the background and drops SLURM's errors, so a test submission comes first.
    submitted = subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(), capture_output=True, text=True)
    if submitted.returncode:
        cluster.close()
        raise InputError(f"SLURM accepts no job for its partition {partition}: {' '.join(submitted.stderr.split())}")
    cluster.scale(workers)
    cluster.loop.add_callback(rescale.start)
    return cluster
