"""What a chapter calls: the profile that it ran with, paths of the project, a listing of the library's source."""

from __future__ import annotations

import html
import inspect
import textwrap
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emibook.corpus import Corpus

TABLE_FEATURES = ("vit", "resnet18", "aus", "wav2vec2", "mfcc")


@dataclass(frozen=True)
class Profile:
    """A corpus and a set of weights; no stage knows which profile it runs in."""

    name: str
    data: str
    """What the clips are, in words for the top of a page."""
    clips: int | None
    """How many clips are drawn; None where the corpus is the reader's."""
    seeds: int
    weights: dict[str, str] = field(default_factory=dict)
    """Feature name to source; a name left out takes what the work folder uses, or else that feature's default."""


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("builtin", "the puppet, drawn by this book", 240, 2, {"vit": "small", "wav2vec2": "small"}),
        Profile("open", "open data of real people, on the reader's disk", None, 5),
        Profile("paper", "Hume-Vidmimic2, licensed by its owners, on the reader's disk", None, 5),
    )
}


def project_path(path: Path | str) -> Path:
    """A path from the project's folder, wherever in the project the notebook was opened; others as they are."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "_config.yml").exists() and (folder / "notebooks").is_dir():
            return folder / path
    return Path(path)


def banner(profile: str, corpus: Corpus) -> Any:
    """What stands below a chapter's title: the profile, the corpus with its size, and what must be said of it."""
    from IPython.display import HTML

    from emibook.corpus import PARTITIONS

    shares = ", ".join(f"{len(corpus.partition(name))} {name}" for name in PARTITIONS if len(corpus.partition(name)))
    text = f"{len(corpus.clips)} clips of the corpus {corpus.name}" + (f" ({shares})" if shares else "") + "."
    if corpus.note:
        text += f" {corpus.note[0].upper()}{corpus.note[1:]}."
    data = PROFILES[profile].data if corpus.root != Path() else "simulated numbers, drawn by this page"
    title = f"Made by the profile “{profile}”: {data}"
    return HTML(
        f'<div class="admonition note"><p class="admonition-title">{html.escape(title)}</p>'
        f"<p>{html.escape(text)}</p></div>"
    )


def listing(thing: Any) -> Any:
    """The source of a function, a method or a class of the library, as a chapter shows it."""
    from IPython.display import Markdown

    return Markdown(f"```python\n{textwrap.dedent(inspect.getsource(thing))}```")
