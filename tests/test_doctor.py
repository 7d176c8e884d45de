"""The doctor: what is there is told with its version, what is missing with the command that mends it."""

from __future__ import annotations

import hashlib
import importlib.metadata

from emibook import InputError, doctor
from emibook.features import download, weights
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


def test_published_weights_are_told_as_they_are(monkeypatch, tmp_path):
    rows = {"there": b"good", "other": b"bad", "unknown": b"any", "absent": None}
    for name, content in rows.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    known = hashlib.sha256(b"good").hexdigest()
    table = {name: Pretrained("a model", "owner/model", "model.bin", "MIT", ANYONE, 7,
                              sha256=None if name == "unknown" else known) for name in rows}
    by_hand = Pretrained("a model", "https://example.org", "", "MIT", ANYONE, None)
    for module in (weights, download):
        monkeypatch.setattr(module, "PRETRAINED", table | {"by hand": by_hand})
    monkeypatch.setattr(download, "_trusted", dict)
    monkeypatch.setattr(download, "cached", lambda name: tmp_path / name if rows.get(name) else None)
    monkeypatch.setenv("PATH", str(tmp_path))
    findings = {finding.what: finding for finding in doctor.examine()}
    assert not any(findings[f"weights {name}"].needed for name in (*rows, "by hand"))
    there, other, unknown, absent, hand = (findings[f"weights {name}"] for name in (*rows, "by hand"))
    assert there.good and there.found == f"{tmp_path / 'there'}, SHA-256 as it has to be"
    assert not other.good and "another file" in other.found
    assert other.mend == "delete it, then emibook weights get other"
    assert unknown.good and "no SHA-256 is known" in unknown.found
    assert not absent.good and (absent.found, absent.mend) == ("missing: a model, 7 MB", "emibook weights get absent")
    assert not hand.good and "take a checkpoint from https://example.org" in hand.mend
    assert not findings["OpenFace"].good and "FeatureExtraction" in findings["OpenFace"].mend
    (tmp_path / "FeatureExtraction").touch(0o755)
    monkeypatch.setattr(download, "_trusted", lambda: (_ for _ in ()).throw(InputError("weights.json is not readable")))
    unknown = next(finding for finding in doctor.examine() if finding.what == "weights unknown")
    assert not unknown.good and "not readable" in unknown.found
    assert {finding.what: finding for finding in doctor.examine()}["OpenFace"].good


def test_a_pair_that_does_not_load_is_told(monkeypatch):
    import torchvision

    def broken(*_):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(torchvision.ops, "nms", broken)
    pair = next(finding for finding in doctor.examine() if finding.what == "torch with torchvision")
    assert not pair.good and "nms" in pair.found and pair.mend
