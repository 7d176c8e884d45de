"""Cross-validation by participant: every labelled clip is validated on once, and nobody is in two partitions."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from emibook import InputError
from emibook.corpus import Corpus


def fold(corpus: Corpus, which: str) -> Corpus:
    """The corpus with the labelled clips of group K of N as ``valid`` and of the others as ``train``; ``which`` is K/N.

    The groups are of participants, dealt so that they have about as many clips each, and the same whichever of them is
    asked for. Clips without labels stay where they are, and so do clips that the corpus has put in no partition while
    others are in one. Raises ``InputError`` for a ``which`` that is none, and where participants are unknown or fewer
    than N.
    """
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", which.strip())
    if not found or not 1 <= (chosen := int(found[1])) <= (count := int(found[2])) or count < 2:
        raise InputError(f"fold {which!r}: give K/N, as 1/5 for the first of five")
    clips = corpus.clips.copy()
    dealt = clips[list(corpus.targets)].notna().all(axis=1) if corpus.targets else clips["clip"].isna()
    if (clips["partition"] != "").any():
        dealt &= clips["partition"] != ""
    people = clips.loc[dealt, "participant"]
    if (people == "").any() or not len(people):
        raise InputError(f"{corpus.root}: {int((people == '').sum())} of {len(people)} labelled clips name no "
                         "participant, so folds would mix people; give --participants a CSV of clip,participant")
    sizes = people.value_counts()
    if len(sizes) < count:
        raise InputError(f"{corpus.root}: {len(sizes)} participants make no {count} folds")
    names = np.random.default_rng(0).permutation(sorted(sizes.index))
    names = names[np.argsort(-sizes[names].to_numpy(), kind="stable")]  # the largest first, so that all come out even
    group: dict[str, int] = {}
    filled = np.zeros(count)
    for name in names:
        group[name] = int(filled.argmin())
        filled[group[name]] += sizes[name]
    clips.loc[dealt, "partition"] = ["valid" if group[name] == chosen - 1 else "train" for name in people]
    return replace(corpus, name=f"{corpus.name}, fold {chosen} of {count}", clips=clips)
