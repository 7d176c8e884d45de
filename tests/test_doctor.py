"""The doctor: what is there is told with its version, what is missing with the command that mends it."""

from __future__ import annotations

import importlib.metadata

from emibook import doctor


def test_this_machine_has_what_the_tests_run_on():
    findings = {finding.what: finding for finding in doctor.examine()}
    assert all(findings[name].good for name in (*doctor.REQUIRED, "Python", "torch with torchvision"))
    assert findings["torch"].found == importlib.metadata.version("torch")


def test_what_is_missing_comes_with_a_command(monkeypatch):
    def version(name: str) -> str:
        if name in ("librosa", "papermill", "opensmile"):
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    findings = {finding.what: finding for finding in doctor.examine()}
    assert not findings["librosa"].good and findings["librosa"].needed
    assert not findings["papermill"].good and not findings["papermill"].needed
    for name in ("librosa", "papermill", "opensmile"):
        assert findings[name].mend.startswith("pip install")


def test_a_pair_that_does_not_load_is_told(monkeypatch):
    import torchvision

    def broken(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    pair = next(finding for finding in doctor.examine() if finding.what == "torch with torchvision")
    assert not pair.good and "nms" in pair.found and pair.mend
