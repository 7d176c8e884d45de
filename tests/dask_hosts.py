"""A Dask scheduler and its workers in processes of their own, as if each were another machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from emibook.compute import worker

ROOT = Path(__file__).parents[1]
PYTHONPATH = os.pathsep.join(str(ROOT / folder) for folder in ("", "tests", "tests/compute"))


def is_true_within(seconds: float, condition) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return bool(condition())


class Hosts:
    """A Dask scheduler and its workers, each in processes of their own as if on another machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.running = folder, []
        file = folder / "scheduler.json"
        self.scheduler = self.start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        assert is_true_within(30, lambda: file.is_file() and file.read_text())
        self.address = json.loads(file.read_text())["address"]

    def start(self, what: str, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen:
        clean = {name: value for name, value in os.environ.items() if name not in worker.WORKER_ENVIRONMENT}
        with open(self.folder / "log", "a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments], start_new_session=True,
                env=clean | {"PYTHONPATH": PYTHONPATH} | (environment or {}),
                stdout=log, stderr=log)
        self.running.append(process)
        return process

    def host(self, workers: int = 1, environment: dict[str, str] | None = None) -> subprocess.Popen:
        return self.start("worker", self.address, "--nworkers", str(workers), "--nthreads", "1", "--no-dashboard",
                          environment=environment)

    @staticmethod
    def kill(process: subprocess.Popen) -> None:
        """All of a host's processes at once, as when its power fails."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
