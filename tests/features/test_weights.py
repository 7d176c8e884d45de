"""Published weights: the table, the download, and everything that can go wrong with it."""

from __future__ import annotations

import errno
import hashlib
import os
import re
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
from emibook.compute import Resources
from emibook.features import EXTRACTORS, download, store
from emibook.features.extraction import _choose, _Request
from emibook.features.weights import ANYONE, PRETRAINED, Pretrained, Weights, keep_weights

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUIET = Resources(device="cpu", workers=1, progress=False)
COMMIT, LATER = "1" * 40, "2" * 40


@dataclass
class Served:
    """What the server on this machine sends, how it misbehaves, and the requests that it got."""

    address: str = ""
    content: bytes = CONTENT
    cut: int | None = None  # bytes of a body after which the connection breaks
    status: int = 200
    etag: str = SHA256
    requests: list[tuple[str, str]] = field(default_factory=list)


@pytest.fixture
def served() -> Iterator[Served]:
    """A server of one file under any name, which is also a hub good enough for its client."""
    what = Served()

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            what.requests.append((self.command, self.path))
            start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range", "")) or [0, 0])[1])
            body = what.content[start:] if what.status == 200 else b""
            self.send_response(what.status if what.status != 200 else 206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{what.etag}"')
            self.send_header("X-Repo-Commit", COMMIT)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(what.content) - 1}/{len(what.content)}")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: what.cut])
            self.close_connection = True

        do_GET = do_HEAD = reply

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
    """Empty caches for the test, and no proxy before this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache" / "torch"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return tmp_path / "cache"


@pytest.fixture
def by_url(served, monkeypatch) -> Pretrained:
    """Weights at a URL."""
    row = Pretrained("a thing", f"{served.address}/thing.pt", "thing.pt", "MIT", ANYONE, 1, sha256=SHA256)
    monkeypatch.setitem(PRETRAINED, "thing", row)
    return row


@pytest.fixture
def by_hub(served, monkeypatch) -> Pretrained:
    """Weights on a hub, of which the revision is known and no hash."""
    monkeypatch.setattr(constants, "ENDPOINT", served.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                        served.address + "/{repo_id}/resolve/{revision}/{filename}")
    row = Pretrained("a model", "owner/model", "model.safetensors", "MIT", ANYONE, 1, revision=COMMIT)
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


def test_every_row_says_what_a_reader_needs():
    for name, row in PRETRAINED.items():
        assert row.about and row.licence and row.use and row.page.startswith("https://")
        assert row.revision is None or re.fullmatch("[0-9a-f]{40}", row.revision)
        assert row.sha256 is None or re.fullmatch("[0-9a-f]{64}", row.sha256)
        assert ("NC" not in row.licence) or row.restricted, name
        assert not row.file or row.megabytes
    assert {extractor.pretrained for extractor in EXTRACTORS.values()} - {""} <= set(PRETRAINED)
    for extractor in EXTRACTORS.values():
        assert bool(extractor.pretrained) == ("pretrained" in extractor.sources)
        if extractor.pretrained:
            assert callable(extractor.encoder_class.convert)
    with pytest.raises(ValueError, match="SHA-256"):
        replace(PRETRAINED["facenet"], sha256=None)  # a URL alone does not identify the bytes
    with pytest.raises(ValueError, match="revision"):
        replace(PRETRAINED["vit"], revision=None)


def test_a_file_is_downloaded_once_and_checked(served, by_url, caches, capsys):
    assert download.cached("thing") is None
    assert download.get("thing", progress=False) == target(caches)
    assert target(caches).read_bytes() == CONTENT and len(served.requests) == 1
    assert download.get("thing", progress=False) == download.verified("thing") == target(caches)
    assert len(served.requests) == 1 and [path.name for path in target(caches).parent.iterdir()] == ["thing.pt"]
    assert capsys.readouterr().err == ""
    (caches / "torch" / "checkpoints").mkdir()
    moved = target(caches).rename(caches / "torch" / "checkpoints" / "thing.pt")  # the folder of facenet-pytorch
    assert download.verified("thing") == moved


def test_half_a_download_is_not_kept(served, by_url, by_hub, caches):
    served.cut = 100_000
    for name in ("thing", "model"):
        assert "could not be downloaded" in refused(name) and download.cached(name) is None
    served.cut = None
    for name in ("thing", "model"):
        assert download.get(name, progress=False).read_bytes() == CONTENT


def test_another_file_than_expected_is_not_kept(served, by_url, caches):
    served.content = CONTENT[::-1]
    assert "another file than was published" in refused("thing")
    assert not target(caches).exists()
    target(caches).write_bytes(b"older")  # it exists, and is wrong: reported, and not replaced
    count = len(served.requests)
    assert "delete it, then emibook weights get thing" in refused("thing")
    assert target(caches).read_bytes() == b"older" and len(served.requests) == count


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk(by_url, by_hub, monkeypatch, number):
    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pooch.retrieve", full)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    for name in ("thing", "model"):
        assert "the disk is full; free disk space and repeat the command" in refused(name)


def test_no_network_and_a_server_that_refuses(served, by_url, by_hub, caches, monkeypatch):
    served.status = 404
    assert "404" in refused("thing") and "--weights" in refused("thing")
    assert "huggingface.co/owner/model could not be downloaded" in refused("model")
    monkeypatch.setitem(PRETRAINED, "thing", replace(by_url, source="http://127.0.0.1:9/thing.pt"))
    assert "could not be downloaded" in refused("thing") and not target(caches).exists()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "huggingface.co/owner/model could not be downloaded" in refused("model")
    assert "emibook weights get model" in str(pytest.raises(InputError, download.verified, "model").value)


def test_a_licence_that_forbids_something_is_shown_before_the_first_download(served, by_url, monkeypatch, capsys):
    row = replace(by_url, licence="CC BY-NC-SA 4.0", use="non-commercial use")
    monkeypatch.setitem(PRETRAINED, "thing", row)
    served.status = 404
    refused("thing")
    assert "thing: CC BY-NC-SA 4.0: non-commercial use only; see" in capsys.readouterr().err
    served.status = 200
    download.get("thing", progress=False)
    assert "CC BY-NC-SA" in capsys.readouterr().err
    download.get("thing", progress=False)
    assert capsys.readouterr().err == ""


def test_the_pinned_revision_is_downloaded_and_its_hash_shown(served, by_hub, monkeypatch):
    monkeypatch.setitem(PRETRAINED, "model", replace(by_hub, beside=("config.json",)))
    assert {row["name"]: row for row in download.overview()}["model"]["pinned by"] == f"revision {COMMIT[:12]}"
    path = download.get("model", progress=False)
    assert {path for _, path in served.requests} == {
        f"/owner/model/resolve/{COMMIT}/{file}" for file in ("config.json", "model.safetensors")}
    assert path.read_bytes() == CONTENT and (path.parent / "config.json").is_file()
    row = {row["name"]: row for row in download.overview()}["model"]
    assert row["pinned by"] == f"revision {COMMIT[:12]}, SHA-256 {SHA256[:12]} (as downloaded)"
    assert row["present"] == "yes"
    monkeypatch.setitem(PRETRAINED, "model", replace(by_hub, revision=LATER))
    assert download.cached("model") is None


def test_a_file_of_the_hub_that_changed_in_the_cache_is_refused(by_hub):
    path = download.get("model", progress=False).resolve()
    path.write_bytes(CONTENT[:-1] + b"x")  # the cache still names it by its SHA-256
    assert f"expected {SHA256[:12]}" in refused("model")


def test_a_folder_that_is_a_file_is_reported_as_such(by_url, by_hub, caches):
    caches.write_text("a file")
    for name in ("thing", "model"):
        message = refused(name)
        assert "it cannot be written" in message and "network" not in message


def test_weights_that_are_not_available_for_download_say_where():
    assert "get a checkpoint from https://github.com/yaoing/DAN and give it with --weights" in refused("resnet18")
    assert "no weights called 'nothing'" in refused("nothing")


def test_pretrained_is_the_default_only_where_it_is(tmp_path, monkeypatch):
    manet, facenet = EXTRACTORS["manet"], EXTRACTORS["facenet"]
    assert facenet.default() == manet.default() == "untrained"
    assert (EXTRACTORS["resnet18"].default(), EXTRACTORS["vit"].default()) == ("builtin", "small")
    for name, kind in (("facenet", "untrained"), ("vit", "small"), ("resnet18", "builtin")):  
        advice = EXTRACTORS[name].advice(Weights(kind))
        assert f"emibook weights get {name}" in advice or f"--weights {name}=FILE" in advice
    assert facenet.advice(Weights("pretrained")) == EXTRACTORS["mfcc"].advice(Weights("formula")) == ""
    with pytest.raises(InputError, match="run emibook weights get facenet") as caught:
        facenet.resolve("pretrained", tmp_path / "encoders")
    assert "\n" not in str(caught.value) and not (tmp_path / "encoders").exists()
    with pytest.raises(InputError, match="get a checkpoint from https://github.com/zengqunzhao"):
        manet.resolve("pretrained", tmp_path / "encoders")

    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(0)
    row = PRETRAINED["facenet"]
    path = Path(download._torch_paths(row)[0])
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
    with pytest.raises(InputError, match="facenet: its weights cannot be written to .* No space left .* free disk"):
        facenet.resolve("pretrained", tmp_path / "encoders")
    assert [path.read_bytes() for path in (tmp_path / "encoders").iterdir()] == [kept]  # the old file, and no half one


def test_features_made_with_published_weights_go_on_without_the_cache(tmp_path, monkeypatch):
    work, state = tmp_path / "w", {"weight": torch.ones(3)}
    weights = keep_weights("facenet", "pretrained", state, work / "encoders")
    assert weights.kind == "pretrained" and download.cached("facenet") is None
    store.open_folder(work, "facenet", {"extractor": "facenet", "version": "1", "weights": asdict(weights)})
    request = _Request(None, work, ("facenet",), {}, None, QUIET)
    assert _choose("facenet", request) == weights
    with pytest.raises(InputError, match="run emibook weights get facenet"):
        _choose("facenet", replace(request, sources={"facenet": "pretrained"}))
    (work / "encoders" / weights.file).write_bytes(b"other")
    with pytest.raises(InputError, match="is not the file that was used"):
        _choose("facenet", request)


def test_the_command_lists_gets_and_refuses(served, by_url, caches, capsys):
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
