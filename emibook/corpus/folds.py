"""Cross-validation by participant: each labelled clip is in ``valid`` once, and no participant in two partitions."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from emibook import InputError
from emibook.corpus import Corpus


def fold(corpus: Corpus, which: str) -> Corpus:
    """The corpus with the labelled clips of one group of participants as ``valid`` and of the others as ``train``.

    The N groups have about equally many clips, and are the same for every K. Clips without labels keep their
    partition, and so do clips in no partition where the corpus has partitions.

    Args:
        corpus: a corpus that names the participants of its labelled clips.
        which: K/N, the number of the group from 1 and the number of groups.

    Raises:
        InputError: ``which`` is not K/N, or participants are unknown or fewer than N.
    """
    parts = re.fullmatch(r"([0-9]+)/([0-9]+)", which.strip())
    if not parts or not 1 <= (chosen := int(parts[1])) <= (count := int(parts[2])) or count < 2:
        raise InputError(f"fold {which!r}: give K/N, as 1/5 for the first of five")
    clips = corpus.clips.copy()
    assigned = clips[list(corpus.targets)].notna().all(axis=1) if corpus.targets else clips["clip"].isna()
    if (clips["partition"] != "").any():
        assigned &= clips["partition"] != ""
    participants = clips.loc[assigned, "participant"]
    if (participants == "").any() or not len(participants):
        raise InputError(f"{corpus.root}: {int((participants == '').sum())} of {len(participants)} labelled clips "
                         "name no participant, so one participant could be in two folds; give --participants a CSV of "
                         "clip,participant")
    sizes = participants.value_counts()
    if len(sizes) < count:
        raise InputError(f"{corpus.root}: {len(sizes)} participants make no {count} folds")
    names = np.random.default_rng(0).permutation(sorted(sizes.index))
    names = names[np.argsort(-sizes[names].to_numpy(), kind="stable")]  # the largest first: more equal groups
    group: dict[str, int] = {}
    filled = np.zeros(count)
    for name in names:
        group[name] = int(filled.argmin())
        filled[group[name]] += sizes[name]
    clips.loc[assigned, "partition"] = ["valid" if group[name] == chosen - 1 else "train" for name in participants]
    return replace(corpus, name=f"{corpus.name}, fold {chosen} of {count}", clips=clips)
