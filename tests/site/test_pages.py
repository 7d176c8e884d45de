"""The built site, looked at as a reader's browser would: run by ``make check-site`` after ``make book``."""

import functools
import os
import re
import shutil
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
SITE = ROOT / "_build" / "html"
LOG = ROOT / "_build" / "sphinx.log"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
REQUIRED = os.environ.get("EMIBOOK_REQUIRE_CHROMIUM") == "1"
LOADS = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
PAGES = sorted(path for path in SITE.rglob("*.html") if "_static" not in path.parts)
OPENED = [path for path in PAGES if "_modules" not in path.parts]  # those are source code, all by one template
VIEWS = {"wide": {"width": 1400, "height": 900}, "narrow": {"width": 390, "height": 844}}


class Page(HTMLParser):
    """What a page links to, loads and shows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.clips: list[dict[str, str | None]] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values[key] for key in ("id", "name") if values.get(key)}
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        if tag == "img":
            self.images.append(values)
        if tag == "video":
            self.clips.append(values)
        if values.get(LOADS.get(tag)) and values.get("rel") != "canonical":
            self.loads.append(values[LOADS[tag]])


@functools.cache
def read(path: Path) -> Page:
    return Page(path)


def name(path: Path) -> str:
    return str(path.relative_to(SITE))


def test_there_is_a_site():
    assert (SITE / "index.html").exists() and len(PAGES) >= 4, "no site in _build/html: run make book"


def test_sphinx_had_nothing_to_say():
    said = LOG.read_text(encoding="utf-8")
    assert "build succeeded" in said
    assert not re.findall(r".*(?:WARNING|ERROR).*", said)


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_links_inside_the_site_lead_somewhere(path):
    for link in read(path).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            assert parts.scheme in ("http", "https", "mailto"), link
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        target = target / "index.html" if target.is_dir() else target
        assert target.is_relative_to(SITE) and target.exists(), link
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in read(target).anchors, link


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_image_says_what_it_shows(path):
    for image in read(path).images:
        alt = image.get("alt") or ""
        assert alt.strip() and not re.search(r"\.(png|svg|jpe?g)$", alt), image.get("src")


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_every_clip_says_what_it_shows_and_plays_only_when_asked(path):
    for clip in read(path).clips:
        assert (clip.get("aria-label") or "").strip()
        assert "controls" in clip and "autoplay" not in clip


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_a_page_loads_nothing_from_elsewhere(path):
    for address in read(path).loads:
        parts = urlsplit(address)
        assert not parts.netloc and parts.scheme in ("", "data"), address
        if not parts.scheme:
            assert (path.parent / unquote(parts.path)).exists(), address


@pytest.fixture(scope="module")
def served():
    handler = functools.partial(_Quiet, directory=str(SITE))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        if REQUIRED:
            pytest.fail("no Chromium on this machine, and EMIBOOK_REQUIRE_CHROMIUM=1 asks for it")
        pytest.skip("no Chromium on this machine: the pages were not opened in a browser")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        started = play.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield started
        started.close()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("path", OPENED, ids=name)
def test_a_browser_has_no_complaint(path, view, served, browser):
    page = browser.new_page(viewport=VIEWS[view])
    complaints, strangers = [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))
    page.on("request", lambda request: _note_stranger(request.url, served, strangers))
    try:
        page.goto(f"{served}/{name(path)}", wait_until="networkidle")
        assert not complaints
        assert not strangers
        # The page itself never scrolls sideways; a wide table may, inside its own box.
        assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 1
        broken = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"
        assert page.evaluate(broken) == []
        page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.videoWidth)")
    finally:
        page.close()


def _note_stranger(url: str, served: str, strangers: list[str]) -> None:
    if not url.startswith((served, "data:", "blob:")):
        strangers.append(url)
