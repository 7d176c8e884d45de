"""The book, its audit, and the machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

from emibook.commands import Work, command


@command
def book(
    *,
    profile: Literal["builtin", "open", "paper"] = "builtin",
    root: Path | None = None,
    work: Path | None = None,
    chapter: Annotated[tuple[str, ...], arg(metavar="NAME...")] = (),
) -> int:
    """Run the chapters and build the site in _build/html.

    Args:
        profile: builtin makes its own corpus; open and paper take theirs from ROOT
        root: the data set (builtin: made where it is missing)
        work: folder to work in
        chapter: only these chapters (default: all)
    """
    from emibook.book.build import book

    print(book(profile=profile, root=root, work=work, chapters=list(chapter) or None))
    return 0


@command
def audit(*, work: Work | None = None) -> int:
    """Check every statement of the paper in book/claims.yml, and say what came of it.

    Args:
        work: a work folder; one that was made from Hume-Vidmimic2 turns what needs these data into verdicts
    """
    from emibook.audit import FIXED, audit, counts, fixed_before, read_claims

    paper = read_claims()
    findings = audit(paper, work)
    for claim in paper.claims:
        finding = findings[claim.id]
        print(f"{finding.verdict:23}  {claim.id}  ({claim.section}) {finding.reason}")
    for verdict, count in counts(findings).items():
        print(f"{verdict:23} {count:4}")
    for (count, digest), same in zip(FIXED, fixed_before(paper.claims), strict=True):
        print(f"tolerances of the first {count} claims, before the last of them were checked: {digest} "
              f"({'unchanged' if same else 'CHANGED SINCE'})")
    return 0


@command
def doctor() -> int:
    """Say what this machine has, what it lacks, and the command that mends it."""
    from emibook.doctor import examine

    findings = examine()
    for finding in findings:
        mark = "ok" if finding.good else "MISSING" if finding.needed else "without"
        print(f"{mark:8} {finding.what}: {finding.found}" + (f"  ->  {finding.mend}" if not finding.good else ""))
    return 1 if any(not finding.good and finding.needed for finding in findings) else 0
