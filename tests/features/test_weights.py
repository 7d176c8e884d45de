"""Published weights: the table, what is fetched and how, and everything that can go wrong on the way."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from safetensors import SafetensorError

from emibook import InputError, cli
from emibook.features import EXTRACTORS, download, store
from emibook.features.extraction import _choose
from emibook.features.weights import ANYONE, PRETRAINED, Pretrained, Weights, keep_weights

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT, LATER = "1" * 40, "2" * 40


@dataclass
class Served:
    """What the server on this machine gives, how it misbehaves, and what it was asked."""

    address: str = ""
    content: bytes = CONTENT
    ranges: bool = True  # whether it knows of them
    cut: int | None = None  # bytes of a body after which the line breaks
    status: int = 200
    commit: str = COMMIT
    etag: str = SHA256
    asked: list[tuple[str, str, str]] = field(default_factory=list)


@pytest.fixture
def served() -> Iterator[Served]:
    """A server of one file under any name, which is also a hub good enough for its client."""
    what = Served()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            wanted = self.headers.get("Range", "")
            what.asked.append((self.command, self.path, wanted))
            start = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and what.ranges else 0
            status = what.status if what.status != 200 else 206 if start else 200
            body = what.content[start:] if status in (200, 206) else b""
            if start >= len(what.content):
                status, body = 416, b""
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{what.etag}"')
            self.send_header("X-Repo-Commit", what.commit)
            if status == 206:
                size = len(what.content)
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: what.cut])
            self.close_connection = True

        do_GET = do_HEAD = answer

        def log_message(self, *_) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    what.address = f"http://127.0.0.1:{server.server_port}"
    yield what
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch) -> Path:
    """Empty caches of our own, and no proxy before this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache" / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def thing(served, monkeypatch) -> Pretrained:
    """Weights at an address."""
    row = Pretrained("a thing", f"{served.address}/thing.pt", "thing.pt", "MIT", ANYONE, 1, sha256=SHA256)
    monkeypatch.setitem(PRETRAINED, "thing", row)
    return row


@pytest.fixture
def hub(served, monkeypatch) -> Pretrained:
    """Weights on a hub, of which neither revision nor hash is known."""
    monkeypatch.setattr(constants, "ENDPOINT", served.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                        served.address + "/{repo_id}/resolve/{revision}/{filename}")
    row = Pretrained("a model", "owner/model", "model.safetensors", "MIT", ANYONE, 1)
    monkeypatch.setitem(PRETRAINED, "model", row)
    return row


def refused(*names: str) -> str:
    with pytest.raises(InputError) as caught:
        for name in names:
            download.get(name, progress=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def target(caches: Path) -> Path:
    return caches / "torch" / "hub" / "checkpoints" / "thing.pt"


def part(caches: Path) -> Path:
    return target(caches).with_name(".thing.pt.part")


def test_every_row_says_what_a_reader_needs():
    for name, row in PRETRAINED.items():
        assert row.about and row.licence and row.use and row.page.startswith("https://")
        assert row.revision is None or re.fullmatch("[0-9a-f]{40}", row.revision)
        assert row.sha256 is None or re.fullmatch("[0-9a-f]{8,64}", row.sha256)
        assert ("NC" not in row.licence) or row.restricted, name
        assert not row.file or row.megabytes
    assert {extractor.pretrained for extractor in EXTRACTORS.values()} - {""} <= set(PRETRAINED)
    for extractor in EXTRACTORS.values():
        assert bool(extractor.pretrained) == ("pretrained" in extractor.sources)
        if extractor.pretrained:
            assert callable(extractor.encoder_class.convert)
    with pytest.raises(ValueError, match="SHA-256"):
        replace(PRETRAINED["facenet"], sha256=None)  # an address alone names no bytes


def test_a_file_is_fetched_once_and_checked(served, thing, caches, capsys):
    assert download.cached("thing") is None
    assert download.get("thing", progress=False) == target(caches)
    assert target(caches).read_bytes() == CONTENT and len(served.asked) == 1
    assert download.get("thing", progress=False) == download.verified("thing") == target(caches)
    assert len(served.asked) == 1 and [path.name for path in target(caches).parent.iterdir()] == ["thing.pt"]
    assert capsys.readouterr().err == ""
    target(caches).rename(caches / "torch" / "thing.pt")
    (caches / "torch" / "checkpoints").mkdir()
    (caches / "torch" / "thing.pt").rename(caches / "torch" / "checkpoints" / "thing.pt")  # where facenet-pytorch looks
    assert download.verified("thing") == caches / "torch" / "checkpoints" / "thing.pt"


def test_half_a_download_goes_on_where_it_stopped(served, thing, caches):
    served.cut = 100_000
    assert "stopped at 100,000 of 300,000 bytes" in refused("thing")
    assert part(caches).read_bytes() == CONTENT[:100_000] and not target(caches).exists()
    assert "stopped at 200,000 of 300,000" in refused("thing")
    served.cut = None
    download.get("thing", progress=False)
    assert [wanted for _, _, wanted in served.asked] == ["", "bytes=100000-", "bytes=200000-"]
    assert target(caches).read_bytes() == CONTENT and not part(caches).exists()


def test_a_server_without_ranges_sends_the_whole_again(served, thing, caches):
    part(caches).parent.mkdir(parents=True)
    part(caches).write_bytes(b"x" * 1000)
    served.ranges = False
    download.get("thing", progress=False)
    assert target(caches).read_bytes() == CONTENT


def test_more_than_the_file_is_thrown_away(served, thing, caches):
    part(caches).parent.mkdir(parents=True)
    part(caches).write_bytes(CONTENT + b"x")
    assert "thrown away" in refused("thing")
    assert download.get("thing", progress=False).read_bytes() == CONTENT


def test_another_file_than_expected_is_not_kept(served, thing, caches):
    served.content = CONTENT[::-1]
    message = refused("thing")
    assert SHA256[:12] in message and hashlib.sha256(CONTENT[::-1]).hexdigest()[:12] in message
    assert not target(caches).exists() and not part(caches).exists()
    target(caches).write_bytes(b"older")  # there, and wrong: said, and left alone
    count = len(served.asked)
    assert "delete it, then emibook weights get thing" in refused("thing")
    assert target(caches).read_bytes() == b"older" and len(served.asked) == count


def test_a_full_disk_is_said_before_and_while(served, thing, caches, monkeypatch):
    usage = shutil.disk_usage(Path("/"))
    with monkeypatch.context() as small:
        small.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
        assert "300,000 bytes to come, 1,000 free" in refused("thing") and not part(caches).exists()
    part(caches).symlink_to("/dev/full")
    assert "the disk is full; make room, and the same command goes on" in refused("thing")
    part(caches).unlink()
    assert download.get("thing", progress=False).read_bytes() == CONTENT


def test_no_network_and_a_server_that_refuses(served, thing, hub, caches, monkeypatch):
    served.status = 503
    assert "503" in refused("thing") and "--weights" in refused("thing")
    served.status = 404
    assert "404" in refused("thing")
    monkeypatch.setitem(PRETRAINED, "thing", replace(thing, source="http://127.0.0.1:9/thing.pt"))
    assert "could not be fetched ([Errno 111] Connection refused)" in refused("thing") and not target(caches).exists()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "huggingface.co/owner/model could not be fetched" in refused("model")
    assert "emibook weights get model" in str(pytest.raises(InputError, download.verified, "model").value)


def test_a_licence_that_forbids_something_is_shown_before_the_first_download(served, thing, monkeypatch, capsys):
    row = replace(thing, licence="CC BY-NC-SA 4.0", use="non-commercial use")
    monkeypatch.setitem(PRETRAINED, "thing", row)
    served.status = 503
    refused("thing")
    assert "thing: CC BY-NC-SA 4.0: non-commercial use only; see" in capsys.readouterr().err
    served.status = 200
    download.get("thing", progress=False)
    assert "CC BY-NC-SA" in capsys.readouterr().err
    download.get("thing", progress=False)
    assert capsys.readouterr().err == ""


def test_what_the_hub_gave_first_is_held_to(served, hub, caches, capsys):
    assert {row["name"]: row for row in download.overview()}["model"]["pinned by"] == (
        "no revision yet, no SHA-256 yet (the first download's is kept)")
    path = download.get("model")
    assert path.read_bytes() == CONTENT and COMMIT in path.parts
    said = capsys.readouterr().err
    assert f"first seen with SHA-256 {SHA256[:12]}" in said
    ledger = json.loads((caches / "emibook" / "weights.json").read_text())
    assert ledger == {"model": {"source": "owner/model", "file": "model.safetensors", "revision": COMMIT,
                                "sha256": SHA256}}
    row = {row["name"]: row for row in download.overview()}["model"]
    assert row["pinned by"] == f"revision {COMMIT[:12]}, SHA-256 {SHA256[:12]} (as first fetched)"
    assert row["present"] == "yes"

    shutil.rmtree(caches / "hub")  # another machine's cache: the revision that was trusted is asked for, not the last
    served.commit, served.content = LATER, CONTENT[::-1]
    served.etag = hashlib.sha256(CONTENT[::-1]).hexdigest()
    served.asked.clear()
    assert f"expected {SHA256[:12]}" in refused("model")
    assert all(f"/resolve/{COMMIT}/" in path for _, path, _ in served.asked)
    assert json.loads((caches / "emibook" / "weights.json").read_text()) == ledger


def test_a_pinned_revision_is_what_is_asked_for_and_found(served, hub, caches, monkeypatch):
    monkeypatch.setitem(PRETRAINED, "model", replace(hub, revision=COMMIT, sha256=SHA256, beside=("config.json",)))
    path = download.get("model")
    assert {path for _, path, _ in served.asked} == {
        f"/owner/model/resolve/{COMMIT}/{file}" for file in ("config.json", "model.safetensors")}
    assert (path.parent / "config.json").is_file()
    assert not (caches / "emibook").exists()  # nothing to trust
    monkeypatch.setitem(PRETRAINED, "model", replace(hub, revision=LATER))
    assert download.cached("model") is None


def test_a_file_of_the_hub_that_changed_in_the_cache_is_refused(served, hub, caches):
    path = download.get("model").resolve()
    shutil.rmtree(caches / "emibook")
    path.write_bytes(CONTENT[:-1] + b"x")  # the cache still calls it by the hash that the hub told
    assert f"expected {SHA256[:12]}" in refused("model") and not (caches / "emibook").exists()


def test_half_a_file_of_the_hub_goes_on_too(served, hub, caches):
    served.cut = 200_000
    assert "stopped at 200,000 of 300,000 bytes" in refused("model") and download.cached("model") is None
    served.cut = None
    assert download.get("model", progress=False).read_bytes() == CONTENT
    assert [wanted for asked, _, wanted in served.asked if asked == "GET"] == ["", "bytes=200000-"]
    assert not list((caches / "hub").rglob(".*.part"))


def test_a_full_disk_is_said_of_the_hubs_files_too(served, hub, caches):
    blobs = caches / "hub" / "models--owner--model" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f".{SHA256}.part").symlink_to("/dev/full")
    assert "the disk is full" in refused("model") and download.cached("model") is None
    (blobs / f".{SHA256}.part").unlink()
    assert download.get("model", progress=False).read_bytes() == CONTENT


def test_a_file_of_the_hub_that_is_not_what_it_told_is_not_kept(served, hub, caches):
    served.content = CONTENT[::-1]
    assert f"expected {SHA256[:12]}; nothing was kept" in refused("model")
    assert download.cached("model") is None and not [path for path in (caches / "hub").rglob("*") if path.is_file()]


def test_a_broken_ledger_is_said(served, hub, caches):
    download.get("model")
    ledger = caches / "emibook" / "weights.json"
    for broken in ("{", "[]", '{"model": 3}', '{"model": {}}'):
        ledger.write_text(broken)
        with pytest.raises(InputError, match="delete it to trust the files anew"):
            download.verified("model")
    ledger.unlink()
    ledger.mkdir()
    with pytest.raises(InputError, match="weights.json is not readable"):
        download.overview()


def test_a_folder_or_file_in_the_way_is_told_before_the_download(served, thing, hub, caches):
    target(caches).mkdir(parents=True)
    message = refused("thing")
    assert f"it cannot be kept (Is a directory: {target(caches)})" in message and "network" not in message
    target(caches).rmdir()
    part(caches).mkdir()
    assert f"it cannot be kept (Is a directory: {part(caches)})" in refused("thing")
    part(caches).rmdir()
    assert download.get("thing", progress=False).read_bytes() == CONTENT
    shutil.rmtree(caches)
    caches.write_text("a file")
    assert "it cannot be kept (Not a directory: " in refused("thing")
    assert "it cannot be kept (Not a directory: " in refused("model")


def test_weights_that_are_handed_out_by_hand_say_where():
    assert "take a checkpoint from https://github.com/yaoing/DAN and give it with --weights" in refused("resnet18")
    assert "no weights called 'nothing'" in refused("nothing")


def test_pretrained_is_the_default_only_where_it_is(tmp_path, monkeypatch):
    manet, facenet = EXTRACTORS["manet"], EXTRACTORS["facenet"]
    assert facenet.default() == manet.default() == "untrained"
    assert (EXTRACTORS["resnet18"].default(), EXTRACTORS["vit"].default()) == ("builtin", "small")
    for name, kind in (("facenet", "untrained"), ("vit", "small"), ("resnet18", "builtin")):  # what stands in says so
        advice = EXTRACTORS[name].advice(Weights(kind))
        assert f"emibook weights get {name}" in advice or f"--weights {name}=FILE" in advice
    assert facenet.advice(Weights("pretrained")) == EXTRACTORS["mfcc"].advice(Weights("formula")) == ""
    with pytest.raises(InputError, match="run emibook weights get facenet") as caught:
        facenet.resolve("pretrained", tmp_path / "encoders")
    assert "\n" not in str(caught.value) and not (tmp_path / "encoders").exists()
    with pytest.raises(InputError, match="take a checkpoint from https://github.com/zengqunzhao"):
        manet.resolve("pretrained", tmp_path / "encoders")

    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    row = PRETRAINED["facenet"]
    path = Path(download._torch_places(row)[0])
    path.parent.mkdir(parents=True)
    torch.save(InceptionResnetV1().state_dict(), path)
    with pytest.raises(InputError, match="expected 281cebca8662"):  # a file of that name is not enough
        facenet.resolve(None, tmp_path / "encoders")
    monkeypatch.setitem(PRETRAINED, "facenet", replace(row, sha256=hashlib.sha256(path.read_bytes()).hexdigest()))
    assert facenet.default() == "pretrained"
    weights = facenet.resolve(None, tmp_path / "encoders")
    assert weights.kind == weights.label == "pretrained" and weights.path(tmp_path / "encoders").is_file()
    assert facenet.resolve("untrained", tmp_path / "encoders") == Weights("untrained", seed=0)

    def full(state, path):
        Path(path).write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    kept = weights.path(tmp_path / "encoders").read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(InputError, match="facenet: its weights cannot be kept in .* No space left .* make room"):
        facenet.resolve("pretrained", tmp_path / "encoders")
    assert [path.read_bytes() for path in (tmp_path / "encoders").iterdir()] == [kept]  # the old file, and no half one


def test_features_made_with_published_weights_go_on_without_the_cache(tmp_path, monkeypatch):
    work, state = tmp_path / "w", {"weight": torch.ones(3)}
    weights = keep_weights("facenet", "pretrained", state, work / "encoders")
    assert weights.kind == "pretrained" and download.cached("facenet") is None
    store.open_folder(work, "facenet", {"extractor": "facenet", "version": "1", "weights": asdict(weights)})
    assert _choose("facenet", None, work, "cpu", 1, False) == weights
    with pytest.raises(InputError, match="run emibook weights get facenet"):
        _choose("facenet", "pretrained", work, "cpu", 1, False)
    (work / "encoders" / weights.file).write_bytes(b"other")
    with pytest.raises(InputError, match="is not the file that was used"):
        _choose("facenet", None, work, "cpu", 1, False)


def test_the_command_lists_gets_and_refuses(served, thing, caches, capsys):
    assert cli.main(["weights"]) == 0
    said = capsys.readouterr().out
    for name, row in PRETRAINED.items():
        assert name in said and row.page in said and row.licence in said
    assert cli.main(["weights", "get", "thing"]) == 0
    assert capsys.readouterr().out.strip() == str(target(caches))
    assert cli.main(["weights", "list"]) == 0
    assert re.search(r"thing +yes +1 +MIT +anyone", capsys.readouterr().out)
    for wrong in (["get"], ["get", "nothing"], ["list", "vit"]):
        assert cli.main(["weights", *wrong]) == 1
        assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["weights", "put"]) == 2
