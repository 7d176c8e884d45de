"""The audit: every checkable statement of the paper, compared with the code, the paper's other numbers, and runs.

Statements, their checks and their tolerances are data, in ``book/claims.yml``. A verdict is computed here and stored
nowhere. ``arithmetic`` holds the checks of the paper against itself, ``steps`` and ``networks`` measure our code,
``results`` holds the checks that need runs on the paper's own data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emibook import InputError

VERDICTS = ("reproduced", "partly", "not reproduced", "contradicts itself", "underspecified", "needs the licensed data")
REPRODUCED, PARTLY, NOT_REPRODUCED, CONTRADICTS, UNDERSPECIFIED, NEEDS_DATA = VERDICTS
KINDS = ("arithmetic", "architecture", "procedure", "result", "citation")
FIELDS = ("id", "section", "quotation", "kind", "check", "arguments", "tolerance", "why")
ROUNDING = 1e-9
"""Added to every tolerance, for the rounding of decimal numbers to binary ones."""

FIXED = (
    (120, "cdfe7b3f26bb235ce1ed98941cbeb2e55bae0028a5e9184985abb5a8ce93f3e6"),
    (138, "e15844f0e2afb275436cac13c58aa498c71eba1de65ea18587317f0cd4eb9a9e"),
)
"""The number of claims when tolerances were fixed, and the hash of their tolerances, before the last were checked.

The first entry is from before any check had run; each later one from before the added claims were checked.
"""


@dataclass(frozen=True)
class Claim:
    """One statement of the paper, as ``book/claims.yml`` holds it."""

    id: str
    section: str
    quotation: str
    kind: str
    check: str
    arguments: dict[str, Any]
    tolerance: float
    why: str
    """The reason for the tolerance, and its unit."""


@dataclass(frozen=True)
class Paper:
    """The claims, the tables as printed, and the titles of the works cited."""

    claims: tuple[Claim, ...]
    tables: dict[str, dict[str, float]]
    references: dict[int, str]


@dataclass(frozen=True)
class Finding:
    """A verdict, and the evidence for it in words."""

    verdict: str
    reason: str

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"no verdict {self.verdict!r}")


def read_claims(path: Path | str = "book/claims.yml") -> Paper:
    """Read ``book/claims.yml``.

    Raises:
        InputError: no such file, or a claim with other fields, an id that occurs twice, or an unknown kind.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no claims at {path}: run this in the folder of the project")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    claims = []
    for entry in content["claims"]:
        name = f"{path}: claim {entry.get('id', '(without an id)')}"
        if set(entry) != set(FIELDS):
            raise InputError(f"{name}: its fields are {', '.join(entry)}; they should be {', '.join(FIELDS)}")
        if entry["id"] in {claim.id for claim in claims}:
            raise InputError(f"{name}: occurs twice")
        if entry["kind"] not in KINDS:
            raise InputError(f"{name}: no kind {entry['kind']!r}; there are {', '.join(KINDS)}")
        claims.append(Claim(**entry | {"section": str(entry["section"]), "tolerance": float(entry["tolerance"])}))
    return Paper(tuple(claims), content["tables"], content["references"])


def tolerances_hash(claims: Sequence[Claim]) -> str:
    """The SHA-256 of the tolerances: of JSON pairs of id and tolerance in the claims' order."""
    return hashlib.sha256(json.dumps([[claim.id, claim.tolerance] for claim in claims]).encode()).hexdigest()


def audit(paper: Paper, work: Path | str | None = None, scale: float = 1.0) -> dict[str, Finding]:
    """The finding of each claim, by its id.

    Args:
        work: a work folder; where it was made from Hume-Vidmimic2 itself, claims that need these data get a verdict.
        scale: multiplies every tolerance.

    Raises:
        InputError: a claim whose check does not exist or does not fit its arguments.
    """
    return _audit(paper, _evidence(paper, work), scale)


def _evidence(paper: Paper, work: Path | str | None) -> Evidence:
    from emibook.audit import networks, results, steps

    return Evidence(paper, {**steps.MEASURES, **networks.MEASURES}, results.licensed(work))


def _audit(paper: Paper, evidence: Evidence, scale: float) -> dict[str, Finding]:
    from emibook.audit import arithmetic, results

    checks, findings = {**arithmetic.CHECKS, **results.CHECKS}, {}
    for claim in paper.claims:
        if claim.check not in checks:
            raise InputError(f"claim {claim.id}: no check {claim.check}; there are {', '.join(checks)}")
        scaled = replace(claim, tolerance=claim.tolerance * scale + ROUNDING)
        try:
            findings[claim.id] = checks[claim.check](scaled, evidence)
        except KeyError as error:
            raise InputError(f"claim {claim.id}: its check {claim.check} has no {error}") from error
    return findings


@dataclass(frozen=True)
class Evidence:
    """The input of the checks: the paper, measures of our code by name, and the licensed data where available."""

    paper: Paper
    measures: dict[str, Any]
    licensed: Any

    def value(self, given: Any) -> Any:
        """A value of the paper as it is, or the result of the measure of that name."""
        return self.measures[given]() if isinstance(given, str) and given in self.measures else given


def counts(findings: dict[str, Finding]) -> dict[str, int]:
    """The number of claims with each verdict, in the verdicts' order."""
    return {verdict: sum(finding.verdict == verdict for finding in findings.values()) for verdict in VERDICTS}


SCALES = (0.0, 0.5, 1.0, 1.5)
"""Factors on every tolerance at which the verdicts are counted."""


def sensitivity(paper: Paper, work: Path | str | None = None) -> dict[float, dict[str, int]]:
    """``counts`` with every tolerance multiplied by each of ``SCALES``."""
    evidence = _evidence(paper, work)
    return {scale: counts(_audit(paper, evidence, scale)) for scale in SCALES}


def fixed_before(claims: Sequence[Claim]) -> list[bool]:
    """For each entry of ``FIXED``, whether its claims still have the same tolerances."""
    return [tolerances_hash(claims[:count]) == digest for count, digest in FIXED]
