from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from dask_hosts import PYTHONPATH, Hosts, is_true_within

from emibook import InputError, compute
from emibook.compute import Limits, Resources, backends, worker


def work(item):
    """What happens to an item is its first word; every start is a line in the file that is its second."""
    what, log, *_ = item
    with open(log, "a") as file:
        file.write(json.dumps(item) + "\n")
    if what == "raises":
        raise OSError(f"cannot read {log}")
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "dies once" and Path(log).read_text().count(what) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "unpicklable":
        return threading.Lock()
    if what == "sleeps":
        time.sleep(item[2])
    if what == "eats":
        eaten = []
        while True:
            eaten.append(bytearray(b"x" * 2**24))
            time.sleep(0.01)
    if what == "full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), log)
    if what == "hopeless":
        raise compute.EndRun(f"{log} cannot be seen here")
    return os.getpid(), {name: os.environ.get(name) for name in worker.WORKER_ENVIRONMENT}


def run_all(items, limits=Limits(), **resources):  # noqa: B008 (frozen)
    return compute.run(work, items, label="test", limits=limits, resources=Resources(progress=False, **resources))


def starts(log) -> Counter:
    """How often each item was started."""
    return Counter(tuple(json.loads(line)) for line in Path(log).read_text().splitlines())


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_items_that_kill_workers_are_given_up_and_others_done_once(tmp_path):
    log = str(tmp_path / "log")
    killers, once = [("dies", log, i) for i in range(2)], ("dies once", log)
    raising = [("raises", log), ("unpicklable", log)]
    others = [("is done", log, i) for i in range(20)]
    items = [others[0], *killers, once, *raising, *others[1:]]
    results = dict(run_all(items, workers=2))
    assert set(results) == set(items)
    for killer in killers:
        assert isinstance(results[killer], compute.WorkerDied) and "3 worker processes died" in str(results[killer])
    assert isinstance(results[raising[0]], OSError) and "cannot read" in str(results[raising[0]])
    assert isinstance(results[raising[1]], Exception)
    for item in [once, *others]:
        process, environment = results[item]
        assert process != os.getpid() and environment == worker.WORKER_ENVIRONMENT
        assert {text for name, text in environment.items() if "THREADS" in name} == {"1"}
    expected = {**dict.fromkeys([*raising, *others], 1), **dict.fromkeys(killers, 3), once: 2}
    assert starts(log) == expected


def test_items_over_a_limit_are_stopped_and_their_workers_replaced(tmp_path):
    log = str(tmp_path / "log")
    sleeps, eats, others = ("sleeps", log, 1000), ("eats", log), [("is done", log, i) for i in range(4)]
    limits = Limits(seconds=2, memory=worker.GIB // 2)
    started = time.monotonic()
    results = dict(run_all([sleeps, eats, *others], workers=1, limits=limits))
    assert time.monotonic() - started < 30
    assert isinstance(results[sleeps], compute.LimitExceeded) and str(results[sleeps]) == "took more than 2 seconds"
    assert str(results[eats]) == "took more than 0.5 GiB of memory"
    assert starts(log) == dict.fromkeys([sleeps, eats, *others], 1)
    processes = {results[item][0] for item in others}
    assert len(processes) == 1 and not alive(processes.pop())


def test_results_come_as_they_are_done_and_the_workers_go_with_the_run(tmp_path):
    log = str(tmp_path / "log")
    results = run_all([("sleeps", log, 3), ("is done", log)], workers=2)
    item, (process, _) = next(results)
    assert item[0] == "is done"
    results.close()
    assert is_true_within(10, lambda: not alive(process))


def test_no_items_start_no_process(monkeypatch):
    monkeypatch.setattr(compute, "connect", lambda *_: pytest.fail("processes were started"))
    assert list(run_all([])) == []
    with pytest.raises(pytest.fail.Exception, match="processes were started"):
        list(run_all([("is done", os.devnull)]))


def test_bad_settings_are_named(monkeypatch):
    monkeypatch.setattr(backends, "CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match="0 workers"):
        list(run_all([1], workers=0))
    with pytest.raises(InputError, match="tcp://127.0.0.1:1"):
        list(run_all([1], scheduler="tcp://127.0.0.1:1"))
    with pytest.raises(InputError, match="both the scheduler"):
        list(run_all([1], scheduler="tcp://127.0.0.1:1", slurm="night"))


def test_an_address_without_a_dask_scheduler_is_reported_in_time(monkeypatch):
    monkeypatch.setattr(backends, "CONNECT_SECONDS", 1)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # as a scheduler's dashboard
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(BaseHTTPRequestHandler, "log_message", lambda *_: None)
    started = time.monotonic()
    with pytest.raises(InputError, match=f"no Dask scheduler answers at tcp://127.0.0.1:{server.server_port}"):
        list(run_all([1], scheduler=f"tcp://127.0.0.1:{server.server_port}"))
    assert time.monotonic() - started < 10
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("what", "said"), [("full", "test: No space left on device: .*make room and repeat"),
                                            ("hopeless", "test: .* cannot be seen here; then repeat")])
def test_errors_that_every_item_would_meet_end_the_run(tmp_path, what, said):
    log = str(tmp_path / "log")
    items = [("is done", log, 0), (what, log), *(("sleeps", log, 0.05, i) for i in range(200))]
    with pytest.raises(InputError, match=said):
        list(run_all(items, workers=1))
    assert sum(starts(log).values()) < 10


def test_progress_shows_rate_failures_and_the_dashboard(tmp_path, capfd):
    log = str(tmp_path / "log")
    items = [("raises", log), *(("is done", log, i) for i in range(2)), ("sleeps", log, 1.5)]
    assert len(list(compute.run(work, items, label="test", resources=Resources(workers=1)))) == 4
    shown = capfd.readouterr().err
    assert "s/clip" not in shown  # however slow
    assert shown.count("dashboard at http://127.0.0.1:") == 1
    assert "4/4" in shown and "clip/s" in shown and "1 failed" in shown


def program(folder: Path, body: str) -> list[str]:
    path = folder / "program.py"
    path.write_text("import sys\nfrom emibook import compute\nfrom emibook.compute import Resources\n" + body)
    return [sys.executable, str(path)]


def test_a_script_without_a_guard_is_reported(tmp_path):
    body = ("resources = Resources(workers=2, progress=False)\n"
            "for _ in compute.run(abs, [1, 2], label='test', resources=resources):\n    print('done')\n")
    result = subprocess.run(program(tmp_path, body), capture_output=True, text=True, timeout=60)
    assert result.returncode != 0 and "done" not in result.stdout
    assert "below `if __name__ == \"__main__\":`" in result.stderr.splitlines()[-1]
    assert result.stderr.count("Traceback") == 1


MEMORY = """
import psutil
if __name__ == "__main__":
    resident = []
    for _ in compute.run(abs, range(1000), label="test", resources=Resources(workers=1, progress=False)):
        resident.append(psutil.Process().memory_info().rss)
    print(resident[99], max(resident))
"""


@pytest.mark.slow
def test_a_thousand_items_take_hardly_more_memory_than_a_hundred(tmp_path):
    result = subprocess.run(program(tmp_path, MEMORY), capture_output=True, text=True, check=True, timeout=120)
    few, many = map(int, result.stdout.split())
    assert many < 1.1 * few


@pytest.fixture
def hosts(tmp_path):
    hosts = Hosts(tmp_path)
    yield hosts
    for process in hosts.running:
        if process.poll() is None:
            hosts.kill(process)


def host_of(item):
    """The session of the worker, which stands for its machine; and the threads that torch and OpenCV would use."""
    name, log = item
    with open(log, "a") as file:
        file.write(f"{name} {os.getsid(0)}\n")
    import cv2
    import torch

    time.sleep(0.3)
    return os.getsid(0), torch.get_num_threads(), cv2.getNumThreads()


def test_two_hosts_of_which_one_is_killed_in_the_middle(hosts, tmp_path):
    first, second = hosts.host(2), hosts.host()
    log, seen, results = tmp_path / "started", set(), {}
    for item, result in compute.run(host_of, [(i, str(log)) for i in range(24)], label="test",
                                    resources=Resources(scheduler=hosts.address, progress=False)):
        results[item[0]] = result
        seen.add(result[0])
        if seen == {first.pid, second.pid} and first.poll() is None:
            hosts.kill(first)
    assert first.poll() is not None and sorted(results) == list(range(24))
    assert {threads for _, *threads in map(list, results.values()) for threads in threads} == {1}
    # What was done before is not done again: only what the two workers of the lost host were busy with.
    twice = [name for name, count in Counter(line.split()[0] for line in log.read_text().splitlines()).items()
             if count > 1]
    assert len(twice) <= 2


def test_a_lost_scheduler_is_reported(hosts, tmp_path):
    hosts.host()
    log = str(tmp_path / "started")
    results = run_all([("sleeps", log, 0.2, i) for i in range(50)], scheduler=hosts.address)
    next(results)
    hosts.kill(hosts.scheduler)
    started = time.monotonic()
    with pytest.raises(InputError, match="test: the connection to the Dask scheduler was lost; repeat the command"):
        list(results)
    assert time.monotonic() - started < 20


@contextmanager
def killed_run(hosts, tmp_path):
    body = "import test_scheduler\nif __name__ == '__main__':\n    " \
           "list(test_scheduler.run_all([('sleeps', sys.argv[1], 1000)], scheduler=sys.argv[2]))\n"
    log = tmp_path / "first"
    run = subprocess.Popen([*program(tmp_path, body), str(log), hosts.address],
                           env=os.environ | {"PYTHONPATH": PYTHONPATH})
    assert is_true_within(30, log.is_file)
    run.kill()
    run.wait()
    yield


def test_a_killed_run_leaves_no_work_running_on_another_machine(hosts, tmp_path):
    hosts.host()
    with killed_run(hosts, tmp_path):
        log = str(tmp_path / "second")
        started = time.monotonic()
        assert len(list(run_all([("is done", log)], scheduler=hosts.address))) == 1
        assert time.monotonic() - started < 20


@pytest.mark.parametrize("missing", ["test_scheduler", "emibook"])
def test_a_worker_without_a_package_is_named(hosts, tmp_path, missing):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == '{missing}':\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Missing())\n")
    hosts.host(environment={"PYTHONPATH": f"{tmp_path}{os.pathsep}{PYTHONPATH}"})
    said = f"test: the worker at tcp.* cannot load its work .No module named '{missing}'.; it needs the same packages"
    with pytest.raises(InputError, match=said):
        list(run_all([("is done", str(tmp_path / "started"), i) for i in range(3)], scheduler=hosts.address))


SBATCH = """#!/bin/sh
# Runs the job on this machine instead of queueing it.
test "$1" = --test-only && exec cat >"{folder}/tested"
cp "$1" "{folder}/job-$$"
setsid sh "{folder}/job-$$" >>"{folder}/output" 2>&1 &
echo $! >>"{folder}/jobs"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job; do kill -9 -- "-$job"; done
"""


def test_slurm_is_asked_for_workers(tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        path = tmp_path / name
        path.write_text(text.format(folder=tmp_path))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    log = str(tmp_path / "started")
    items = [("sleeps", log, 0.5, i) for i in range(8)]
    results = dict(run_all(items, slurm="night", workers=2))
    assert set(results) == set(items) and len({process for process, _ in results.values()}) == 2
    for _, environment in results.values():
        assert environment == worker.WORKER_ENVIRONMENT
        assert {text for name, text in environment.items() if "THREADS" in name} == {"1"}
    jobs = [path.read_text() for path in tmp_path.glob("job-*")]
    assert len(jobs) == 2 and all("#SBATCH -p night\n" in job and "--cpus-per-task=1\n" in job for job in jobs)
    assert is_true_within(10, lambda: not any(alive(process) for process, _ in results.values()))


def test_slurm_that_accepts_no_job_is_reported(tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no sbatch on this machine, which SLURM's partition night needs"):
        list(run_all([1], slurm="night"))
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    with pytest.raises(InputError, match="accepts no job for its partition night: .*invalid partition"):
        list(run_all([1], slurm="night"))


def test_slurm_without_its_package_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(InputError, match=r"dask-jobqueue; install it with pip install .*\[slurm\]"):
        list(run_all([1], slurm="night"))
