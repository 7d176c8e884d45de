"""Checks that need runs on the paper's own data; without them the verdict is "needs the licensed data".

A work folder counts where its ``corpus.json`` names Hume-Vidmimic2 and has no note: a puppet corpus in the same layout
has one. A row or a run counts where its encoders are published ones, the user's own, or the data set's own features:
encoders that were fitted on the puppet or have random weights are no evidence here.

Whose features the paper's ViT and wav2vec 2.0 rows hold is a claim of its own. A row is judged with the data set's own
where there are such runs (section 4.3: "retraining the official features"), and as extracted where there are none.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas

from emibook import InputError
from emibook.audit import NEEDS_DATA, NOT_REPRODUCED, PARTLY, REPRODUCED, UNDERSPECIFIED, Claim, Evidence, Finding
from emibook.audit.arithmetic import seconds, share_verdict
from emibook.corpus import PARTITIONS, Corpus, open_corpus
from emibook.evaluation import Interval, paired_difference
from emibook.experiments.paper_rows import OFFICIAL, TABLE2, TABLE3
from emibook.experiments.runs import Run, labels_of
from emibook.fusion import late_fusion

CORPUS, RECIPE = "hume-vidmimic2", "paper"
WAITS = Finding(NEEDS_DATA, "no runs on Hume-Vidmimic2 in the work folder")
BRANCHES = {row.features: row.branches for row in (*TABLE2, *TABLE3, *OFFICIAL)}
OFFICIALLY = {row.features: other.features for row, other in zip((*TABLE2, *TABLE3), OFFICIAL, strict=True)}
SUBSTITUTES = ("builtin", "untrained")  # labels of weights of encoders that are none of the paper's
FILES = 200  # a random sample of the corpus, whose frames are counted


class Licensed:
    """A work folder that was made from Hume-Vidmimic2: its corpus, tables and runs, each read when first needed."""

    def __init__(self, work: Path, root: Path) -> None:
        self.work, self.root = work, root

    @functools.cached_property
    def corpus(self) -> Corpus:
        return open_corpus(self.root)

    @functools.cache  # noqa: B019 - one folder an audit
    def table(self, name: str) -> pandas.DataFrame:
        """``table2`` or ``table3`` by its rows, without those of other corpora; empty where it is not made yet."""
        path = self.work / "tables" / f"{name}.csv"
        if not path.is_file():
            return pandas.DataFrame()
        table = pandas.read_csv(path, keep_default_na=False, dtype={"note": str})
        return table[(table["corpus"] == CORPUS) & (table["note"] == "")].set_index("features")

    @functools.cached_property
    def runs(self) -> dict[str, dict[int, Run]]:
        """The runs of the paper's recipe on these clips and labels, by branch and seed."""
        runs: dict[str, dict[int, Run]] = {}
        labels = labels_of(self.corpus)
        for path in sorted((self.work / "runs").glob("*/metrics.json")):
            try:
                run = Run.open(path.parent)
            except InputError:  # of another version
                continue
            about = run.config
            ours = about["corpus"] == CORPUS and not about["note"] and about.get("variant", "base") == "base"
            ours = ours and about["labels"] == labels
            if ours and about["recipe"]["name"] == RECIPE and not is_substitute(run.metrics["weights"]):
                runs.setdefault(run.branch, {})[about["seed"]] = run
        return runs

    def read_as(self, features: str) -> str:
        """The row with the data set's own features where there are runs of it, else as it is."""
        official = OFFICIALLY[features]
        return official if self._seeds(official) else features

    def _seeds(self, features: str) -> list[int]:
        return sorted(set.intersection(*(set(self.runs.get(branch, {})) for branch in BRANCHES[features])))

    @functools.cache  # noqa: B019 - one folder an audit
    def predictions(self, features: str) -> list[np.ndarray] | None:
        """A row's predictions of the validation clips, (clip, emotion) per seed; None where a run is missing."""
        branches, seeds = BRANCHES[features], self._seeds(features)
        clips = self.corpus.partition("valid")["clip"]
        by_seed = []
        for seed in seeds:
            parts = [self.runs[branch][seed].predictions("valid", clips) for branch in branches]
            values, present = zip(*parts, strict=True)
            by_seed.append(late_fusion(*values, present=present) if len(parts) > 1 else values[0])
        return by_seed or None

    @functools.cache  # noqa: B019 - one folder an audit
    def gain(self, one: str, other: str) -> Interval | None:
        """The difference of the first row's score from the second's, paired by seed; None where runs are missing."""
        first, second = self.predictions(one), self.predictions(other)
        if first is None or second is None:
            return None
        valid, seeds = self.corpus.partition("valid"), min(len(first), len(second))
        truth = valid[list(self.corpus.targets)].to_numpy(float)
        return paired_difference(truth, first[:seeds], second[:seeds], list(valid["participant"]))

    @functools.cached_property
    def rates(self) -> np.ndarray:
        """(file,) mean frames per second of at most ``FILES`` videos that can be read."""
        rates = []
        paths = self.corpus.clips["path"]
        for path in paths.sample(min(FILES, len(paths)), random_state=0).sort_index():
            try:
                with av.open(path) as file:
                    times = sorted(packet.pts * packet.time_base for packet in file.demux(video=0)
                                   if packet.pts is not None)
            except (av.FFmpegError, IndexError):  # preprocessing reports why
                continue
            if len(times) > 1 and times[-1] > times[0]:
                rates.append(float((len(times) - 1) / (times[-1] - times[0])))
        return np.array(rates)


def is_substitute(weights: str) -> bool:
    """Whether an encoder of a row or run was fitted on the puppet or has random weights."""
    return any(word in weights for word in SUBSTITUTES)


def licensed(work: Path | str | None) -> Licensed | None:
    """The work folder where it was made from the paper's own data, else None.

    Raises:
        InputError: no ``corpus.json`` in it.
    """
    if work is None:
        return None
    about = Path(work) / "corpus.json"
    if not about.is_file():
        raise InputError(f"no corpus.json in {work}: give a work folder, as emibook preprocess writes it")
    owner = json.loads(about.read_text(encoding="utf-8"))
    return Licensed(Path(work), Path(owner["root"])) if owner["name"] == CORPUS and not owner["note"] else None


def _with_data(check: Callable[[Claim, Licensed], Finding]) -> Callable[[Claim, Evidence], Finding]:
    """The check where the data are available, else ``WAITS``."""

    @functools.wraps(check)
    def checked(claim: Claim, evidence: Evidence) -> Finding:
        return check(claim, evidence.licensed) if evidence.licensed is not None else WAITS

    return checked


@_with_data
def row(claim: Claim, data: Licensed) -> Finding:
    """A row of Table 2 or 3: the mean over seeds within the tolerance; partly where only our interval holds it."""
    table, features, value = (claim.arguments[name] for name in ("table", "features", "value"))
    rows = data.table(table)
    read_as = next((name for name in (OFFICIALLY[features], features) if name in rows.index), None)
    if read_as is None:
        return Finding(NEEDS_DATA, f"{table}.csv has no row {features} yet")
    row = rows.loc[read_as]
    if is_substitute(row["weights"]) or row["recipe"] != RECIPE:
        return Finding(NEEDS_DATA, f"made with weights {row['weights']} and the recipe {row['recipe']}")
    mean, low, high = (float(row[name]) for name in ("mean", "low", "high"))
    words = f"{read_as}: {mean:.4f}, {low:.4f} to {high:.4f} over {row['interval_over']}, {row['seeds']} seeds"
    if abs(mean - value) <= claim.tolerance:
        return Finding(REPRODUCED, words)
    return Finding(PARTLY if low <= value <= high else NOT_REPRODUCED, words)


@_with_data
def better(claim: Claim, data: Licensed) -> Finding:
    """Of each pair of rows the first beats the second: the interval of the paired difference lies above zero."""
    held, words = [], []
    for one, other in (map(data.read_as, pair) for pair in claim.arguments["pairs"]):
        gain = data.gain(one, other)
        if gain is None:
            missing = one if data.predictions(one) is None else other
            return Finding(NEEDS_DATA, f"no runs of the recipe {RECIPE} and published weights of {missing} yet")
        held.append(gain.low > claim.tolerance)
        words.append(f"{one} less {other}: {gain.mean:+.4f}, {gain.low:+.4f} to {gain.high:+.4f} over {gain.over}")
    return Finding(share_verdict(held), "; ".join(words))


@_with_data
def partition(claim: Claim, data: Licensed) -> Finding:
    """The number of samples of a partition, and their duration within some per cent."""
    clips = data.corpus.partition(claim.arguments["name"])["clip"]
    measured = pandas.read_csv(data.work / "preprocess.csv", dtype={"clip": str}, keep_default_na=False)
    lengths = pandas.to_numeric(measured.set_index("clip")["seconds"]).reindex(clips)
    if lengths.isna().any():
        return Finding(NEEDS_DATA, f"{int(lengths.isna().sum())} of {len(clips)} clips have no duration yet")
    printed, total = seconds(claim.arguments["duration"]), float(lengths.sum())
    off = 100 * (total / printed - 1)
    held = [len(clips) == claim.arguments["samples"], abs(off) <= claim.tolerance]
    return Finding(share_verdict(held), f"{len(clips)} samples, {total:,.0f} s, {off:+.2f} % of what is printed")


@_with_data
def participants(claim: Claim, data: Licensed) -> Finding:
    """The number of participants that are named."""
    people = set(data.corpus.clips["participant"])
    if "" in people:
        return Finding(UNDERSPECIFIED, "the tables as distributed do not say who is in which clip")
    same = abs(len(people) - claim.arguments["count"]) <= claim.tolerance
    return Finding(REPRODUCED if same else NOT_REPRODUCED, f"{len(people)} participants are named")


@_with_data
def speaker_independent(claim: Claim, data: Licensed) -> Finding:
    """No participant is in two partitions."""
    sets = [set(data.corpus.partition(name)["participant"]) for name in PARTITIONS]
    if any("" in names for names in sets):
        return Finding(UNDERSPECIFIED, "the tables as distributed do not say who is in which clip")
    shared = sum(map(len, sets)) - len(set.union(*sets))
    return Finding(NOT_REPRODUCED if shared else REPRODUCED, f"{shared} participants are in more than one partition")


@_with_data
def frame_rates(claim: Claim, data: Licensed) -> Finding:
    """Videos have more than one frame rate."""
    rates = data.rates
    if len(rates) < 2:
        return Finding(NEEDS_DATA, f"{len(rates)} videos could be read")
    words = f"{rates.min():.1f} to {rates.max():.1f} frames a second on the average, in {len(rates)} files"
    return Finding(REPRODUCED if np.ptp(rates) > claim.tolerance else NOT_REPRODUCED, words)


CHECKS: dict[str, Any] = {check.__name__: check for check in (row, better, partition, participants,
                                                              speaker_independent, frame_rates)}
