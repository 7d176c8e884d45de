"""The checks of chapter 16, and what its page says of the open data."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from emibook import InputError
from emibook.book.exercises import check_exercise

ROOT = Path(__file__).parents[2]
CHAPTER = ROOT / "notebooks" / "16_your_own_run.py"


def hint(number, answer, **given) -> str:
    with pytest.raises(InputError) as error:
        check_exercise(number, answer, **given)
    return str(error.value)


def test_cores_for_a_night():
    core_hours = pd.Series({"preprocess": 3.0, "vit": 30.5})
    check_exercise("16.1", 5, core_hours=core_hours)
    assert "there are eight" in hint("16.1", 33.5, core_hours=core_hours)
    assert "A little too few" in hint("16.1", 4, core_hours=core_hours)
    assert "too large" in hint("16.1", 9, core_hours=core_hours)


def test_person_leakage():
    pairs = np.repeat(np.arange(2000), 2)
    dealt = np.random.default_rng(3).integers(5, size=len(pairs))
    check_exercise("16.2", np.mean([np.isin(pairs[dealt == each], pairs[dealt != each]).mean() for each in range(5)]))
    assert "share of the others" in hint("16.2", 0.2) and "only whether" in hint("16.2", 0.64)
    assert "too small" in hint("16.2", 0.5)


def test_the_page_says_that_nobody_has_run_it_until_somebody_has():
    text = CHAPTER.read_text()
    kept = sorted((ROOT / "book" / "results").glob("crema_d_table*.csv"))
    assert "has not been run" in re.search(r"if not kept:\n    print\((.*)\)", text).group(1)
    assert len(kept) in (0, 2), "both tables or none"
    for path in kept:
        table = pd.read_csv(path)
        assert table["corpus"].str.startswith("crema-d").all() and (table["weights"] == "people").any()
