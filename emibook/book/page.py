"""What a chapter calls: its profile, paths of the project, the banner below its title, listings of source code."""

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
"""The feature sets of Tables 2 and 3."""


@dataclass(frozen=True)
class Profile:
    """A corpus and a set of weights; no stage knows which profile it runs in."""

    name: str
    data: str
    """What the clips are, in words for the top of a page."""
    clips: int | None
    """Clips of the corpus that the book makes; None if the corpus is the reader's."""
    seeds: int
    weights: dict[str, str] = field(default_factory=dict)
    """Feature set to source; a name left out takes the source that the work folder uses, else the default."""


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("builtin", "the puppet, drawn by this book", 240, 2, {"vit": "small", "wav2vec2": "small"}),
        Profile("open", "open data of real people, on the reader's disk", None, 5),
        Profile("paper", "Hume-Vidmimic2, licensed by its owners, on the reader's disk", None, 5),
    )
}


def project_path(path: Path | str) -> Path:
    """A path relative to the project's folder, wherever in the project the notebook was opened."""
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "_config.yml").exists() and (folder / "notebooks").is_dir():
            return folder / path
    return Path(path)


def banner(profile: str, corpus: Corpus) -> Any:
    """The box below a chapter's title: the profile, the corpus with its size, and what it is not."""
    from IPython.display import HTML

    from emibook.corpus import PARTITIONS

    sizes = ", ".join(f"{len(corpus.partition(name))} {name}" for name in PARTITIONS if len(corpus.partition(name)))
    text = f"{len(corpus.clips)} clips of the corpus {corpus.name}" + (f" ({sizes})" if sizes else "") + "."
    if corpus.note:
        text += f" {corpus.note[0].upper()}{corpus.note[1:]}."
    data = PROFILES[profile].data if corpus.root != Path() else "simulated numbers, made by this page"
    title = f"Made by the profile “{profile}”: {data}"
    return HTML(
        f'<div class="admonition note"><p class="admonition-title">{html.escape(title)}</p>'
        f"<p>{html.escape(text)}</p></div>"
    )


def listing(thing: Any) -> Any:
    """The source of a function, a method or a class of the library, as a chapter shows it."""
    from IPython.display import Markdown

    return Markdown(f"```python\n{textwrap.dedent(inspect.getsource(thing))}```")
