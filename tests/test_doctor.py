"""The doctor reports what there is with its version, and what is missing with the command that installs it."""

from __future__ import annotations

import hashlib
import importlib.metadata

from emibook import doctor
from emibook.features import download, openface, weights
from emibook.features.weights import ANYONE, Pretrained


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


def test_findings_of_other_modules_are_added():
    extra = doctor.Finding("OpenFace", "missing", False, False, "build it")
    assert extra in doctor.examine([extra])


def test_published_weights_are_reported_as_they_are(monkeypatch, tmp_path):
    contents = {"good": b"good", "other": b"bad", "absent": None}
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    known = hashlib.sha256(b"good").hexdigest()
    table = {name: Pretrained("a model", "owner/model", "model.bin", "MIT", ANYONE, 7, revision="1" * 40, sha256=known)
             for name in contents}
    table["unknown"] = Pretrained("a model", "owner/model", "model.bin", "MIT", ANYONE, 7, revision="1" * 40)
    table["by hand"] = Pretrained("a model", "https://example.org", "", "MIT", ANYONE, None)
    (tmp_path / "unknown").write_bytes(b"any")
    for module in (weights, download):
        monkeypatch.setattr(module, "PRETRAINED", table)
    monkeypatch.setattr(download, "cached", lambda name: tmp_path / name if (tmp_path / name).exists() else None)
    findings = {finding.what.removeprefix("weights "): finding for finding in download.findings()}
    assert list(findings) == list(table) and not any(finding.needed for finding in findings.values())
    assert findings["good"].good and findings["good"].found == f"{tmp_path / 'good'}, SHA-256 as expected"
    assert not findings["other"].good and "another file" in findings["other"].found
    assert findings["other"].mend == "delete it, then emibook weights get other"
    assert findings["unknown"].good and "SHA-256 unknown" in findings["unknown"].found
    absent = findings["absent"]
    assert (absent.good, absent.found, absent.mend) == (
        False, "missing: a model, 7 MB", "emibook weights get absent")
    assert not findings["by hand"].good and "get a checkpoint from https://example.org" in findings["by hand"].mend


def test_openface_is_found_on_the_path(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not openface.finding().good and "FeatureExtraction" in openface.finding().mend
    (tmp_path / "FeatureExtraction").touch(0o755)
    assert openface.finding().good


def test_a_pair_that_does_not_load_is_reported(monkeypatch):
    import torchvision

    def broken(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    pair = next(finding for finding in doctor.examine() if finding.what == "torch with torchvision")
    assert not pair.good and "nms" in pair.found and pair.mend
