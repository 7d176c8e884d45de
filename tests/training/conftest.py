"""A small corpus with a planted signal."""

from __future__ import annotations

import feature_corpus
import pytest

from emibook.sequences.load import load


@pytest.fixture(scope="module")
def sequences(tmp_path_factory):
    """(train, valid) of the planted corpus; one clip in each without a face."""
    work = tmp_path_factory.mktemp("work")
    corpus = feature_corpus.corpus(work / "root")
    feature_corpus.write(corpus, work, "aus", signal=6.0, empty=("00003", "00033"))
    return load(corpus, work, "aus", "train"), load(corpus, work, "aus", "valid")
