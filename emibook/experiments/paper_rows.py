"""Every row of the paper's Tables 2 and 3 as data, and the rows that a reader asks for.

Source: paper section 4.3, Tables 2 and 3 (rows and values).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from emibook import InputError
from emibook.corpus import Corpus
from emibook.experiments.variants import BASELINE
from emibook.features.official import OfficialViT, OfficialWav2Vec2
from emibook.sequences.load import modality


@dataclass(frozen=True)
class Row:
    """A row of a table. ``paper`` is the paper's mean Pearson correlation on its validation partition.

    ``branches`` are the runs that are fused: a feature set, or several joined by ``+``, with `` (baseline)`` behind
    where the model is the organisers' and not the paper's. ``against``: the row that it is compared with.
    """

    features: str
    modality: str
    paper: float | None
    branches: tuple[str, ...]
    against: str | None = None


def _unimodal(features: str, modality: str, paper: float | None = None, against: str | None = None) -> Row:
    return Row(features, modality, paper, (features,), against)


def _fused(video: str, sound: str, paper: float | None = None, against: str | None = None) -> Row:
    return Row(f"{video} & {sound}", "V+A", paper, (*_branches(video), *_branches(sound)), against)


def _branches(name: str) -> tuple[str, ...]:
    return tuple(name.split(" & "))


def _apart(name: str, modality: str) -> Row:
    """Feature sets of one modality, a branch each, averaged; beside the branch that has them joined."""
    return Row(name, modality, None, _branches(name), "+".join(_branches(name)))


# The paper compares each row with the organisers' of its modality (section 4.3), the joined channels with one alone.
TABLE2 = (
    _unimodal("vit (baseline)", "V", 0.09),
    _unimodal("vit", "V", 0.10, "vit (baseline)"),
    _unimodal("resnet18", "V", 0.1236, "vit (baseline)"),
    _unimodal("aus", "V", 0.1352, "vit (baseline)"),
    _unimodal("resnet18+aus", "V", 0.1479, "aus"),
    _unimodal("wav2vec2 (baseline)", "A", 0.24),
    _unimodal("wav2vec2", "A", 0.2808, "wav2vec2 (baseline)"),
)
BOTH_BASELINES = "vit & wav2vec2 (baseline)"
TABLE3 = (
    Row(BOTH_BASELINES, "V+A", 0.25, ("vit (baseline)", "wav2vec2 (baseline)")),
    _fused("vit", "wav2vec2", 0.2835, BOTH_BASELINES),
    _fused("resnet18", "wav2vec2", 0.2983, BOTH_BASELINES),
    _fused("aus", "wav2vec2", 0.3026, BOTH_BASELINES),
    _fused("resnet18+aus", "wav2vec2", 0.3288, BOTH_BASELINES),
)
# Not in the paper: a sound feature that needs no weights, so that fusion shows where there are none for wav2vec 2.0.
# A fused row is compared with its sound alone.
EXTRA_TABLE2 = (_unimodal("mfcc", "A"),)
EXTRA_TABLE3 = tuple(_fused(video, "mfcc", against="mfcc") for video in ("vit", "resnet18", "aus", "resnet18+aus"))


def _officially(row: Row) -> Row:
    """The row with the data set's own ViT and wav2vec 2.0 features in the place of extracted ones."""
    def named(text: str) -> str:
        return re.sub(r"\b(vit|wav2vec2)\b", r"official_\1", text)

    against = row.against and named(row.against)
    return replace(row, features=named(row.features), branches=tuple(map(named, row.branches)), against=against)


# What the paper's rows of these two names most likely are: it retrained "the official features" (section 4.3).
OFFICIAL = tuple(map(_officially, (*TABLE2, *TABLE3)))


def has_official(corpus: Corpus) -> bool:
    """Whether the organisers' ViT and wav2vec 2.0 features came with the corpus."""
    try:
        for features in (OfficialViT, OfficialWav2Vec2):
            features.require(corpus.root)
    except InputError:
        return False
    return True


def chosen_rows(
    names: Sequence[str] | None = None, *, official: bool = False
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """The rows of Tables 2 and 3: the paper's and ours, or those that ``names``, feature sets, make.

    Each name is a row of Table 2, each pair of a visual and a sound one a row of Table 3; a row of the paper's keeps
    its value. ``resnet18 & aus`` are branches of one modality that are trained apart and averaged. Without names and
    where the ``official`` features are there, they stand in the paper's rows, and what is extracted here has rows of
    its own beside them, without the paper's value.

    Raises ``InputError`` for an unknown feature set, one named twice, or a name of two modalities.
    """
    table2, table3 = (*TABLE2, *EXTRA_TABLE2), (*TABLE3, *EXTRA_TABLE3)
    if not names and official:
        return tuple(
            (*map(_officially, papers),
             *(replace(row, paper=None, against=_officially(row).features) for row in papers
               if _officially(row).features != row.features and BASELINE not in row.features), *extra)
            for papers, extra in ((TABLE2, EXTRA_TABLE2), (TABLE3, EXTRA_TABLE3))
        )
    if not names:
        return table2, table3
    if len(set(names)) < len(names):
        raise InputError(f"rows {' '.join(names)}: one is named twice")
    kinds = {name: _modality(name) for name in names}
    known = {row.branches: row for row in (*OFFICIAL, *table2, *table3)}
    if any(name.startswith("official_") for name in names):
        known |= {row.branches: row for row in OFFICIAL}
    ones = tuple(known.get((name,)) or (_apart if " & " in name else _unimodal)(name,
                                                                                kind) for name, kind in kinds.items())
    pairs = [(video, sound) for video in names for sound in names if (kinds[video], kinds[sound]) == ("V", "A")]
    return ones, tuple(known.get(pair) or _fused(*pair, against=pair[1]) for pair in pairs)


def _modality(name: str) -> str:
    branches = _branches(name)
    if len(set(branches)) < len(branches):
        raise InputError(f"row {name}: a branch is named twice")
    kinds = {modality(branch.removesuffix(BASELINE)) for branch in branches}
    if len(kinds) > 1:
        raise InputError(f"row {name} has both modalities; name each by itself, and their pair is a row of Table 3")
    return kinds.pop()
