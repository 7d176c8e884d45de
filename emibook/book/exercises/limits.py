"""Chapter 17: the precision of a flag, what the law forbids, and a datasheet of a corpus."""

from __future__ import annotations

from typing import Any

from emibook.book.exercises import hints

FEWEST_WORDS = 5
QUESTIONS = ("who", "asked", "labels", "groups", "use", "misuse")


def flagged(answer: Any) -> str:
    """17.1: of those flagged, the share in need: base rate 0.1, recall 0.6, false alarm rate 0.2."""
    if not hints.number(answer, 0.6, 1e-3):
        return "That is the share of those in need who are flagged. The question turns it around."
    return hints.number(answer, 0.25, 1e-3, "the share")


def forbidden(answer: Any) -> str:
    """17.2: the letters of the uses that Article 5 (1) (f) of the AI Act forbids."""
    unknown = sorted(set(answer) - set("abcde"))
    if unknown:
        return f"{unknown[0]!r} is not a letter from a to e."
    wrong = hints.members(answer, ["b", "c"], "uses")
    return wrong and wrong + " The article names two places, and two purposes that are excepted."


def datasheet(answer: Any) -> str:
    """17.3: a text for each of ``QUESTIONS``, by name."""
    for question in QUESTIONS:
        if len(str(answer.get(question, "")).split()) < FEWEST_WORDS:
            return f"{question!r} is missing, or answered in fewer than {FEWEST_WORDS} words."
    texts = [str(answer[question]) for question in QUESTIONS]
    return "" if len(set(texts)) == len(texts) else "Two questions have the same answer."


CHECKS = {"17.1": flagged, "17.2": forbidden, "17.3": datasheet}
