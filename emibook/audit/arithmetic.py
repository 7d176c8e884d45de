"""Checks of the paper's numbers and readings against each other, and against measures of our code.

A check takes a claim, whose tolerance is already scaled, and the evidence, and returns a ``Finding``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from emibook.audit import (
    CONTRADICTS,
    NOT_REPRODUCED,
    PARTLY,
    REPRODUCED,
    UNDERSPECIFIED,
    VERDICTS,
    Claim,
    Evidence,
    Finding,
    fusion_bounds,
)


def distance(one: Any, other: Any) -> float:
    """The largest absolute difference of numbers; for anything else 0 if equal, and else infinity."""
    numeric = all(not isinstance(value, str | bool) and np.asarray(value).dtype.kind in "iuf"
                  for value in (one, other))  # fmt: skip
    if numeric and np.shape(one) == np.shape(other):
        return float(np.max(np.abs(np.asarray(one, float) - np.asarray(other, float)), initial=0.0))
    return 0.0 if type(one) is type(other) and one == other else np.inf


def shown(value: Any) -> str:
    """A value as short text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return " ".join(f"{number:.3g}" for number in value.ravel())
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value))
    return str(value)


def share_verdict(held: list[bool]) -> str:
    """Reproduced, partly or not reproduced: whether all, some or none of the parts of a claim hold."""
    return REPRODUCED if all(held) else PARTLY if any(held) else NOT_REPRODUCED


def measured(claim: Claim, evidence: Evidence) -> Finding:
    """Each argument is a measure of our code, with the paper's value."""
    ours = {name: evidence.measures[name]() for name in claim.arguments}
    held = [distance(ours[name], paper) <= claim.tolerance for name, paper in claim.arguments.items()]
    words = [f"{name.replace('_', ' ')}: {shown(ours[name])}" + ("" if good else f", not {shown(paper)}")
             for good, (name, paper) in zip(held, claim.arguments.items(), strict=True)]
    return Finding(share_verdict(held), "; ".join(words))


def readings(claim: Claim, evidence: Evidence) -> Finding:
    """Readings of the sentence, each with its consequence; ``taken`` is the one of our code.

    Underspecified where they differ; not reproduced where ours is none of them.
    """
    values = {name: evidence.value(given) for name, given in claim.arguments["readings"].items()}
    words = "; ".join(f"{name}: {shown(value)}" for name, value in values.items())
    if "taken" in claim.arguments:
        ours = evidence.value(claim.arguments["taken"])
        fits = [name for name, value in values.items() if distance(value, ours) <= claim.tolerance]
        if not fits:
            return Finding(NOT_REPRODUCED, f"{words}; ours is none of them: {shown(ours)}")
        words += f"; taken here: {fits[0]}"
    first, *others = values.values()
    apart = any(distance(first, other) > claim.tolerance for other in others)
    return Finding(UNDERSPECIFIED if apart else REPRODUCED, words)


def repeated(claim: Claim, evidence: Evidence) -> Finding:
    """A value that the paper gives in several places."""
    values = {name: evidence.value(given) for name, given in claim.arguments["values"].items()}
    first, *others = values.values()
    same = all(distance(first, other) <= claim.tolerance for other in others)
    words = "; ".join(f"{name}: {shown(value)}" for name, value in values.items())
    return Finding(REPRODUCED if same else CONTRADICTS, words)


def in_table(claim: Claim, evidence: Evidence) -> Finding:
    """A number of the text that a table contains as well."""
    table, row = claim.arguments["table"], claim.arguments["row"]
    printed = evidence.paper.tables[table][row]
    same = distance(printed, claim.arguments["value"]) <= claim.tolerance
    return Finding(REPRODUCED if same else CONTRADICTS, f"Table {table}, {row}: {shown(printed)}")


def above_in_table(claim: Claim, evidence: Evidence) -> Finding:
    """Every other row of a table lies above one of them."""
    table = evidence.paper.tables[claim.arguments["table"]]
    baseline = claim.arguments["baseline"]
    others = [value for row, value in table.items() if row != baseline]
    above = [value > table[baseline] + claim.tolerance for value in others]
    words = f"{sum(above)} of {len(above)} rows lie above {shown(table[baseline])}"
    return Finding(REPRODUCED if all(above) else CONTRADICTS, words)


def above_both(claim: Claim, evidence: Evidence) -> Finding:
    """Rows of Table 3 lie above both of the rows of Table 2 that they average."""
    single, both = evidence.paper.tables["2"], evidence.paper.tables["3"]
    above = [all(both[row] > single[branch] + claim.tolerance for branch in branches)
             for row, branches in claim.arguments["rows"].items()]
    words = f"{sum(above)} of {len(above)} averages lie above both of their branches"
    return Finding(REPRODUCED if all(above) else CONTRADICTS, words)


def has_row(claim: Claim, evidence: Evidence) -> Finding:
    """A row of a table that joins a feature set of either list."""
    table = claim.arguments["table"]
    one, other = map(set, claim.arguments["joins"])
    joined = [row for row in evidence.paper.tables[table] if (names := _sets(row)) & one and names & other]
    if joined:
        return Finding(REPRODUCED, f"Table {table} has {', '.join(joined)}")
    return Finding(CONTRADICTS, f"no row of Table {table} joins {' or '.join(sorted(one))} with "
                                f"{' or '.join(sorted(other))}")


def _sets(row: str) -> set[str]:
    return {re.sub(r"\(.*\)", "", name) for name in row.split("+")}


def gains(claim: Claim, evidence: Evidence) -> Finding:
    """Each pair is a row, the row it is compared with, and the gain that the text gives."""
    table = evidence.paper.tables[claim.arguments["table"]]
    held, words = [], []
    for row, baseline, gain in claim.arguments["pairs"]:
        difference = table[row] - table[baseline]
        held.append(distance(difference, gain) <= claim.tolerance)
        words.append(f"{row}: {table[row]:.4g} - {table[baseline]:.4g} = {difference:.4f}")
        if not held[-1]:
            level = " (which is the level)" if distance(table[row], gain) == 0 else ""
            words[-1] += f", not {gain}{level}"
    return Finding(REPRODUCED if all(held) else CONTRADICTS, "; ".join(words))


def per_cent(claim: Claim, evidence: Evidence) -> Finding:
    """Each pair is a row, its baseline and per cents; partly where only the difference is meant, in hundredths."""
    table, verdicts, words = evidence.paper.tables[claim.arguments["table"]], [], []
    for row, baseline, given in claim.arguments["pairs"]:
        difference = 100 * (table[row] - table[baseline])
        share = difference / table[baseline]
        held = [distance(value, float(given)) <= claim.tolerance for value in (share, difference)]
        verdicts.append(REPRODUCED if held[0] else PARTLY if held[1] else CONTRADICTS)
        words.append(f"{row}: {share:.0f} per cent of the baseline, {difference:.2f} percentage points")
    return Finding(max(verdicts, key=VERDICTS.index), "; ".join(words))


def digits(claim: Claim, evidence: Evidence) -> Finding:
    """A difference has no more decimals than its two numbers; all three as printed."""
    difference, (one, other) = claim.arguments["difference"], claim.arguments["of"]
    places = min(_decimals(one), _decimals(other))
    follows = abs(abs(float(one) - float(other)) - float(difference)) <= 1e-9
    uncertain = 0.5 * 10.0**-places
    words = f"{one} - {other} is known to {places} decimals (within {uncertain:g}); {_decimals(difference)} are given"
    if not follows:
        return Finding(CONTRADICTS, words)
    return Finding(REPRODUCED if _decimals(difference) <= places else PARTLY, words)


def _decimals(number: str) -> int:
    return len(number.partition(".")[2])


def seconds(value: Any) -> float:
    """``h:mm:ss`` in seconds; a number as it is; ``durations`` and ``samples`` as the mean length of a sample."""
    if isinstance(value, dict):
        return sum(map(seconds, value["durations"])) / sum(value["samples"])
    if isinstance(value, str):
        hours, minutes, rest = map(int, value.split(":"))
        return hours * 3600 + minutes * 60 + rest
    return float(value)


def adds_up(claim: Claim, evidence: Evidence) -> Finding:
    """A sum of numbers, or of durations as ``h:mm:ss``."""
    total, terms = claim.arguments["total"], claim.arguments["terms"]
    result = sum(map(seconds, terms))
    same = abs(result - seconds(total)) <= claim.tolerance
    words = f"{' + '.join(map(str, terms))} = {_clock(result) if isinstance(total, str) else f'{result:g}'}"
    return Finding(REPRODUCED if same else CONTRADICTS, words)


def _clock(value: float) -> str:
    minutes, rest = divmod(round(value), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def more_than(claim: Claim, evidence: Evidence) -> Finding:
    """A number or a duration that is at least another."""
    value, than = (seconds(claim.arguments[name]) for name in ("value", "than"))
    source = claim.arguments.get("source", "")
    words = f"{value:,.7g} beside {than:,.7g}" + (f" ({source})" if source else "")
    return Finding(REPRODUCED if value >= than - claim.tolerance else CONTRADICTS, words)


def mean_length(claim: Claim, evidence: Evidence) -> Finding:
    """The mean that follows from durations and samples, compared with one that is stated elsewhere."""
    mean, stated = seconds(claim.arguments), claim.arguments["stated"]
    words = f"{mean:.3f} s follow; {stated} s are {claim.arguments['source']}"
    return Finding(REPRODUCED if abs(mean - stated) <= claim.tolerance else NOT_REPRODUCED, words)


def divides(claim: Claim, evidence: Evidence) -> Finding:
    """A width that is divided equally."""
    whole, parts = claim.arguments["whole"], claim.arguments["parts"]
    words = f"{whole} = {parts} x {whole // parts}" + (f" + {whole % parts}" if whole % parts else "")
    return Finding(CONTRADICTS if whole % parts else REPRODUCED, words)


def one_of_these(claim: Claim, evidence: Evidence) -> Finding:
    """Several sentences about one thing name the same of several ``things``."""
    named = [[thing for thing in claim.arguments["things"] if thing in text] for text in claim.arguments["statements"]]
    words = "; ".join(f"{', '.join(things) or 'none'}" for things in named)
    return Finding(REPRODUCED if all(things == named[0] for things in named) else CONTRADICTS, f"named are: {words}")


def as_cited(claim: Claim, evidence: Evidence) -> Finding:
    """What the paper lists of another work, compared with that work's own list."""
    said, cited = (set(claim.arguments[name]) for name in ("said", "cited"))
    parts = [f"{words}: {', '.join(sorted(rest))}" for words, rest in (("not named", cited - said),
                                                                     ("not there", said - cited)) if rest]
    words = f"{len(said)} beside {len(cited)} ({claim.arguments['source']})"
    return Finding(NOT_REPRODUCED if parts else REPRODUCED, "; ".join([words, *parts]))


def cites_about(claim: Claim, evidence: Evidence) -> Finding:
    """Each title has one of the words."""
    titles = [evidence.paper.references[number] for number in claim.arguments["references"]]
    held = [any(word in title.lower() for word in claim.arguments["about"]) for title in titles]
    words = "; ".join(f"[{number}] {title}" for number, title in
                      zip(claim.arguments["references"], titles, strict=True))
    return Finding(share_verdict(held), words)


def cites_original(claim: Claim, evidence: Evidence) -> Finding:
    """The title is that of the work that introduced what is cited: words in common, of all the words of both."""
    number, original = claim.arguments["reference"], claim.arguments["original"]
    title = evidence.paper.references[number]
    one, other = (set(re.findall(r"\w+", text.lower())) for text in (title, original))
    share = len(one & other) / len(one | other)
    held = 1 - share <= claim.tolerance
    return Finding(REPRODUCED if held else NOT_REPRODUCED,
                   f"[{number}] {title}" + ("" if held else f"; it was introduced by: {original}"))


def fused(claim: Claim, evidence: Evidence) -> Finding:
    """An average that two calibrated branches with uncorrelated predictions (r12 = 0) can reach."""
    single, both = evidence.paper.tables["2"], evidence.paper.tables["3"]
    first, second = single[claim.arguments["first"]], single[claim.arguments["second"]]
    average = both[claim.arguments["average"]]
    reach = float(fusion_bounds.calibrated(first, second, 0.0))
    r12 = fusion_bounds.implied(first, second, average)["calibrated"]
    words = f"reach of uncorrelated branches: {reach:.4f}; implied correlation: {r12:+.2f}"
    if average <= reach + claim.tolerance:
        return Finding(REPRODUCED, words)
    if r12 < -1:
        return Finding(CONTRADICTS, words)
    return Finding(UNDERSPECIFIED, f"{words}; possible where branches correlate negatively, or emotions differ, and "
                                   "no emotion's value is given")


def fused_gain(claim: Claim, evidence: Evidence) -> Finding:
    """What one branch's gain adds to the average, with the correlation between the branches as before."""
    single, both = evidence.paper.tables["2"], evidence.paper.tables["3"]
    second = single[claim.arguments["second"]]
    (before, fused_before), (after, fused_after) = claim.arguments["before"], claim.arguments["after"]
    r12 = fusion_bounds.implied(single[before], second, both[fused_before])["calibrated"]
    expected = float(fusion_bounds.calibrated(single[after], second, r12)) - both[fused_before]
    gain = both[fused_after] - both[fused_before]
    words = (f"the branch gains {single[after] - single[before]:.4f}, the average {gain:.4f}, where "
             f"{expected:.4f} follow")
    return Finding(REPRODUCED if abs(gain - expected) <= claim.tolerance else UNDERSPECIFIED, words)


CHECKS: dict[str, Callable[[Claim, Evidence], Finding]] = {
    check.__name__: check
    for check in (
        measured, readings, repeated, in_table, above_in_table, above_both, has_row, gains, per_cent, digits, adds_up,
        more_than, mean_length, divides, one_of_these, as_cited, cites_about, cites_original, fused, fused_gain,
    )
}
