"""A row of a table from its runs: mean, interval, difference from another row, and the cross-fitted estimate.

Source: paper section 4.2, equation (8); section 3.5 for fused rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from emibook.corpus import Corpus
from emibook.evaluation import bootstrap_interval, halves, paired_difference
from emibook.experiments.runs import Run
from emibook.fusion import FUSION_ALTERNATIVES, cross_fitted_fusion, late_fusion
from emibook.metrics import pearson


def score(runs: Sequence[Sequence[Run]], against: Sequence[Sequence[Run]] | None, corpus: Corpus) -> dict:
    """The columns of a row behind its name, from its runs (seed, branch): fused seed by seed, clips matched by ids.

    ``against``: the runs of the row that it is compared with, as many seeds; None where there is none.
    """
    valid = corpus.partition("valid")
    truth, participants = valid[list(corpus.targets)].to_numpy(float), list(valid["participant"])
    fused = [fuse(branches, valid["clip"]) for branches in runs]
    interval = bootstrap_interval(truth, fused, participants, names=corpus.targets)
    by_target = np.mean([pearson(truth, prediction, names=corpus.targets) for prediction in fused], axis=0)
    present = [run.predictions("valid", valid["clip"])[1] for run in runs[0]]
    row = {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "seeds": len(runs),
        "weights": " & ".join(run.metrics["weights"] for run in runs[0]),
        "recipe": runs[0][0].config["recipe"]["name"],
        "corpus": corpus.name,
        "note": corpus.note,
        "clips": len(valid),
        "missing": int((~np.all(present, axis=0)).sum()),
        "interval_over": interval.over,
        "dropped_draws": interval.dropped,
        **{f"pearson {target}": value for target, value in zip(corpus.targets, by_target, strict=True)},
        "cross_fitted": float(np.mean([cross_fitted(branches, corpus) for branches in runs])),
        "ensemble": float(pearson(truth, np.mean(fused, axis=0), names=corpus.targets).mean()),
        "difference": np.nan,
        "difference_low": np.nan,
        "difference_high": np.nan,
    }
    if against is not None:
        other = [fuse(branches, valid["clip"]) for branches in against]
        gain = paired_difference(truth, fused, other, participants, names=corpus.targets)
        row |= {"difference": gain.mean, "difference_low": gain.low, "difference_high": gain.high}
    seeds = [float(np.mean(pearson(truth, prediction, names=corpus.targets))) for prediction in fused]
    return row | {"by_seed": " ".join(f"{value:.4f}" for value in seeds)}


def fuse(branches: Sequence[Run], clips: Sequence[str]) -> np.ndarray:
    """(clip, target): one seed's predictions of the validation clips, averaged over its branches."""
    predicted, present = zip(*(run.predictions("valid", clips) for run in branches), strict=True)
    return late_fusion(*predicted, present=present)


def cross_fitted(branches: Sequence[Run], corpus: Corpus) -> float:
    """The mean correlation where learning rate and epoch were chosen on half of the validation participants, one seed.

    Each half is scored by the choice that saw the other, and the two correlations are averaged. They are never
    pooled: two trainings differ in level and scale, which one correlation over both would count as error.
    NaN where a half is too small to have a correlation.
    """
    valid = corpus.partition("valid")
    truth = valid[list(corpus.targets)].to_numpy(float)
    unseen = [run.unseen(valid["clip"]) for run in branches]
    present = [run.predictions("valid", valid["clip"])[1] for run in branches]
    fused = late_fusion(*(predicted for predicted, _ in unseen), present=present)
    half = unseen[0][1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.mean([pearson(truth[half == number], fused[half == number]).mean() for number in (0, 1)]))


def fusion_alternatives(runs: Sequence[Sequence[Run]], corpus: Corpus) -> list[dict]:
    """Alternatives to the average, one row each: its mean correlation, and the difference from the average.

    Weights are fitted on one half of the validation participants and scored on the other, both ways; the average is
    scored in the same way. Of branches whose learning rate and epoch were chosen on all of them, as in the row itself.
    """
    valid = corpus.partition("valid")
    truth, participants = valid[list(corpus.targets)].to_numpy(float), list(valid["participant"])
    half, rows = halves(participants), []
    predictions = [list(zip(*(run.predictions("valid", valid["clip"]) for run in branches),
                            strict=True)) for branches in runs]
    average = [late_fusion(*predicted, present=present) for predicted, present in predictions]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for name in FUSION_ALTERNATIVES:
            fused = [cross_fitted_fusion(name, *predicted, truth=truth, half=half, present=present)
                     for predicted, present in predictions]
            gain = paired_difference(truth, fused, average, participants, half=half)
            scores = [pearson(truth[half == number], seed[half == number]).mean() for seed in fused
                      for number in (0, 1)]
            mean = float(np.mean(scores))
            rows.append({"fusion": name, "mean": mean, "average": mean - gain.mean, "difference": gain.mean,
                         "difference_low": gain.low, "difference_high": gain.high, "seeds": len(runs),
                         "interval_over": gain.over})
    return rows
