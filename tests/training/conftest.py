"""A small corpus with a planted signal."""

from __future__ import annotations

import made
import pytest

from emibook.sequences.load import load


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """(train, valid) of the planted corpus; one clip in each without a face."""
    work = tmp_path_factory.mktemp("work")
    corpus = made.corpus(work / "root")
    made.write(corpus, work, "aus", signal=6.0, empty=("00003", "00033"))
    return load(corpus, work, "aus", "train"), load(corpus, work, "aus", "valid")
