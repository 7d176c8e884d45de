from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from emibook import InputError, cluster


def work(item):
    if item == "raises":
        raise OSError(f"cannot read {item}")
    if item == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "unpicklable":
        return threading.Lock()
    if isinstance(item, tuple):  # dies once, at the first attempt
        marker = item[0]
        if not os.path.exists(marker):
            open(marker, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), item, {name: os.environ.get(name) for name in cluster.WORKER_ENVIRONMENT}


def test_one_failure_or_dead_worker_never_stops_the_others(tmp_path):
    items = ["dies", "raises", "unpicklable", (str(tmp_path / "marker"),), *range(6)]
    results = list(cluster.run(work, items, label="test", workers=2, progress=False))
    assert sorted(str(item) for item, _ in results) == sorted(map(str, items))
    found = {str(item): result for item, result in results}
    assert isinstance(found["dies"], cluster.WorkerDied)
    assert isinstance(found["raises"], OSError) and "cannot read raises" in str(found["raises"])
    assert isinstance(found["unpicklable"], Exception)
    for item in [items[3], *range(6)]:
        process, echoed, environment = found[str(item)]
        assert echoed == item and process != os.getpid()
        assert set(environment.values()) == {"1"}


def test_results_come_as_they_are_done_and_the_workers_go_with_the_run():
    results = cluster.run(wait, [3.0, 0.01], label="test", workers=2, progress=False)
    item, process = next(results)
    assert item == 0.01
    results.close()
    deadline = time.monotonic() + 10
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process)


def wait(seconds):
    time.sleep(seconds)
    return os.getpid()


def alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_no_items_start_no_process():
    started = time.perf_counter()
    assert list(cluster.run(work, [], label="test", progress=False)) == []
    assert time.perf_counter() - started < 0.05


def test_bad_settings_are_named(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    with pytest.raises(InputError, match="0 workers"):
        list(cluster.run(work, [1], label="test", workers=0, progress=False))
    with pytest.raises(InputError, match="tcp://127.0.0.1:1"):
        list(cluster.run(work, [1], label="test", scheduler="tcp://127.0.0.1:1", progress=False))
