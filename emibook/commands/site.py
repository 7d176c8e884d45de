"""Commands for the book, the audit of the paper, and this machine."""

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
        profile: builtin makes its own corpus; open and paper read a data set from ROOT
        root: the data set (builtin: made if missing)
        work: folder for intermediate results
        chapter: only these chapters (default: all)
    """
    from emibook.book.build import book

    print(book(profile=profile, root=root, work=work, chapters=list(chapter) or None))
    return 0


@command
def audit(*, work: Work | None = None) -> int:
    """Check the statements of the paper in book/claims.yml and report a verdict on each.

    Args:
        work: a work folder made from Hume-Vidmimic2, for the statements that need these data
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
    """Report what this machine has and what is missing, with the command that installs it."""
    from emibook.doctor import examine

    try:
        from emibook.features import download, openface

        extra = [*download.findings(), openface.finding()]
    except ImportError:  # of a package that is reported as missing
        extra = []
    findings = examine(extra)
    for finding in findings:
        mark = "ok" if finding.good else "MISSING" if finding.needed else "without"
        print(f"{mark:8} {finding.what}: {finding.found}" + (f"  ->  {finding.mend}" if not finding.good else ""))
    return 1 if any(not finding.good and finding.needed for finding in findings) else 0
