"""What this machine has, what it lacks, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass

REQUIRED = ("torch", "torchvision", "facenet-pytorch", "transformers", "av", "opencv-python-headless", "librosa")
BOOK = ("jupyter-book", "jupytext", "papermill", "jupyterlab")
EXTRAS = {"opensmile": "eGeMAPS features", "dask-jobqueue": "work spread over a SLURM cluster",
          "tensorboard": "curves as TensorBoard's files"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what it is, what was found, whether the pipeline needs it, and what mends it."""

    what: str
    found: str
    good: bool
    needed: bool = True
    mend: str = ""


def _package(name: str, needed: bool, why: str, mend: str) -> Finding:
    try:
        return Finding(name, importlib.metadata.version(name), True, needed)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, f"missing: {why}", False, needed, mend)


def _torch_pair() -> Finding:
    """torchvision's compiled operators load only with the torch they were built for."""
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
        return Finding("torch with torchvision", "load together", True)
    except (ImportError, RuntimeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        mend = "pip install --constraint constraints.txt torch torchvision"
        return Finding("torch with torchvision", f"do not load together: {reason}", False, mend=mend)


def _accelerator() -> Finding:
    try:
        import torch

        if torch.cuda.is_available():
            return Finding("accelerator", torch.cuda.get_device_name(), True, False)
    except ImportError:
        pass
    return Finding("accelerator", f"none; {os.cpu_count()} processor cores", True, False)


def machine() -> str:
    """The processor, its cores, an accelerator and the versions that a measured time depends on, in one line."""
    import torch

    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            cpu = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), cpu)
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "facenet-pytorch", "av"))
    return f"{cpu}, {os.cpu_count()} cores{gpu}; Python {platform.python_version()}, {versions}"


def examine(extra: Iterable[Finding] = ()) -> list[Finding]:
    """Look at the interpreter, the packages, the accelerator and the browser.

    Args:
        extra: findings of other modules, about published weights and external programs.
    """
    good_python = (3, 11) <= sys.version_info < (3, 14)
    findings = [Finding("Python", sys.version.split()[0], good_python, mend="use Python 3.11, 3.12 or 3.13")]
    findings += [_package(name, True, "the pipeline needs it", "pip install --editable .") for name in REQUIRED]
    findings += [_torch_pair(), _accelerator()]
    findings += [_package(name, False, "the book needs it", "pip install --editable .[book]") for name in BOOK]
    for name, what in EXTRAS.items():
        group = "slurm" if name == "dask-jobqueue" else name
        findings.append(_package(name, False, what, f"pip install --editable .[{group}]"))
    findings += extra
    browser = next((shutil.which(name) for name in BROWSERS if shutil.which(name)), None)
    mend = "install Chromium, for example: apt-get install chromium"
    findings.append(Finding("browser for check-site", browser or "missing", bool(browser), False, mend))
    return findings
