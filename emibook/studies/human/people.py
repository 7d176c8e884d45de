"""Human raters in place of encoders: how well those who only heard or only saw a clip predict those who had both.

Everything comes from CREMA-D's votes. Two panels are fused by averaging, as two branches are, and compared at equal
numbers of raters, because twice as many raters have half the rater noise. ``rater_panels`` has the formulas.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas

from emibook import InputError
from emibook.corpus import RATINGS, Corpus, crema_d_votes
from emibook.corpus.crema_d_votes import EMOTIONS, Votes
from emibook.evaluation import bootstrap_interval, weighted_pearson
from emibook.files import write_text
from emibook.fusion import late_fusion
from emibook.metrics import pearson
from emibook.studies.human.actor_accuracy import accuracy
from emibook.studies.human.label_ceiling import INTERVAL, from_counts, inference_bias
from emibook.studies.human.rater_panels import (
    PANEL,
    ActorSums,
    Panel,
    best_splits,
    best_weights,
    correlation,
    sampled_panel,
)

DRAWS = 2000
INFINITE = np.inf
PREFIX = "people"
ABOUT = "people.json"

PANELS = (
    Panel("voice", 0, None, 0.0),
    Panel("face", None, 0, 1.0),
    Panel("average", None, None, 0.5),
    Panel("voice, 10 raters", 0, 10),
    Panel("face, 10 raters", 10, 0),
    Panel("5 face + 5 voice", 5, 5),
    Panel("7 face + 3 voice", 7, 3),
    Panel("face, 20 raters", 20, 0),
    Panel("10 face + 10 voice", 10, 10),
    Panel("voice, noise-free", 0, INFINITE, 0.0),
    Panel("face, noise-free", INFINITE, 0, 1.0),
    Panel("average, noise-free", INFINITE, INFINITE, 0.5),
    Panel("voice, noise-free on both sides", 0, INFINITE, 0.0, True),
    Panel("face, noise-free on both sides", INFINITE, 0, 1.0, True),
    Panel("average, noise-free on both sides", INFINITE, INFINITE, 0.5, True),
)
FITTED, FITTED_SPLIT = "best weights, fitted on other actors", "best 10 raters, chosen on other actors"
DIFFERENCES = (
    ("average", "face"), ("5 face + 5 voice", "face, 10 raters"), ("7 face + 3 voice", "face, 10 raters"),
    (FITTED_SPLIT, "face, 10 raters"), ("10 face + 10 voice", "face, 20 raters"),
    ("average, noise-free", "face, noise-free"), (FITTED, "average"), (FITTED, "face"),
)  # fmt: skip
TOTALS = (2, 4, 6, 8, 10, 12, 16, 20, 30, 40, 60, 100)
"""Raters in all, for panels that only see and for panels of which half only hear."""


def results(
    votes: Votes, actors: pandas.DataFrame, *, seed: int = 0, draws: int = DRAWS
) -> dict[str, pandas.DataFrame]:
    """All tables, by the name of their file without ``people_``; correlations with 95 % intervals over actors.

    Args:
        actors: by id, as ``crema_d_votes.read_actors`` gives them.
        draws: of the cluster bootstrap over actors.

    Raises:
        InputError: an actor of the votes who is not among ``actors``.
    """
    rng = np.random.default_rng(seed)
    sums = ActorSums(votes)
    count = len(sums.actors)
    weights = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), size=draws)])

    def bootstrap(moments: np.ndarray) -> np.ndarray:
        return correlation(np.einsum("da,mae->mde", weights, moments))  # (draw, emotion); the first is all clips

    moments = {panel.name: panel.moments(sums) for panel in PANELS}
    face_weights, splits = best_weights(sums), best_splits(sums)
    moments[FITTED] = sums.moments(face_weights, None, None)
    moments[FITTED_SPLIT] = sums.moments(splits / PANEL, splits, PANEL - splits)
    rho = {name: bootstrap(of_panel) for name, of_panel in moments.items()}
    ten = {str(faces): bootstrap(sums.moments(faces / PANEL, faces, PANEL - faces)) for faces in range(PANEL + 1)}
    table = _rows(rho, "predictors")
    by_clip = clip_intervals(votes, {"voice": 0.0, "face": 1.0, "average": 0.5}, rng)
    table = table.join(by_clip)
    return {
        "correlations": table,
        "differences": _rows({f"{one} - {other}": rho[one] - rho[other] for one, other in DIFFERENCES}, "difference"),
        "ten": _rows(ten, "face_raters"),
        "totals": _totals(sums, bootstrap),
        "fusion": fusion(votes, sums, face_weights, splits, rng),
        "ceiling": _ceilings(votes, seed),
        "inference": inference_bias(votes),
        "accuracy": accuracy(votes, actors, rng, draws),
    }


def _rows(rho: Mapping[str, np.ndarray], index: str) -> pandas.DataFrame:
    """One row per panel, from (draw, emotion) whose first row is all clips: each emotion, their mean, its interval."""
    rows = {}
    for name, values in rho.items():
        means = values.mean(axis=1)
        low, high = np.quantile(means[1:], INTERVAL)
        rows[name] = dict(zip(EMOTIONS, values[0], strict=True)) | {"mean": means[0], "low": low, "high": high}
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis(index)


def _totals(sums: ActorSums, bootstrap: Callable[[np.ndarray], np.ndarray]) -> pandas.DataFrame:
    """By the number of raters in all: mean correlation of ``face`` raters alone, of ``half`` face and half voice
    raters, their ``difference`` and its interval."""
    rows = {}
    for total in TOTALS:
        face = bootstrap(sums.moments(1.0, total, 0)).mean(axis=1)
        half = bootstrap(sums.moments(0.5, total / 2, total / 2)).mean(axis=1)
        low, high = np.quantile((half - face)[1:], INTERVAL)
        rows[total] = {"face": face[0], "half": half[0], "difference": (half - face)[0], "low": low, "high": high}
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("raters")


def clip_intervals(
    votes: Votes, face_weights: Mapping[str, float], rng: np.random.Generator, draws: int = 500
) -> pandas.DataFrame:
    """The interval of a bootstrap over clips, too narrow because clips of one actor resemble each other."""
    voice, face, both = votes.fractions
    clips = len(both)
    predictions = np.stack([weight * face + (1 - weight) * voice for weight in face_weights.values()])
    weights = rng.multinomial(clips, np.full(clips, 1 / clips), size=draws)
    rho = weighted_pearson(both, predictions, weights, np.arange(clips)).mean(axis=2)  # (draw, predictor)
    low, high = np.quantile(rho, INTERVAL, axis=0)
    return pandas.DataFrame({"low_by_clip": low, "high_by_clip": high}, index=list(face_weights))


def fusion(
    votes: Votes, sums: ActorSums, face_weights: np.ndarray, splits: np.ndarray, rng: np.random.Generator
) -> pandas.DataFrame:
    """The average of both panels by the fusion formula and as measured, and how their errors correlate, by emotion.

    Columns: ``r_face, r_voice, between`` correlations and ``s_face, s_voice`` standard deviations, of which
    ``formula`` is computed; ``measured``, of all raters. ``ten_formula``, the same from the moments of five and five
    raters, and ``ten_measured``, from raters really sampled. ``errors``: the correlation of f - b and v - b;
    ``errors_noise_free``: the same without rater noise. The noise of b is in both errors and raises the first.
    ``face_weight``: the best weight of the face raters, and ``face_raters``, the best number of them among ten; both
    chosen on the other actors, mean over actors.
    """
    total = {name: sums[name].sum(axis=0) / len(votes.clips) for name in
             ("ff", "vv", "bb", "fv", "fb", "vb", "noise_f", "noise_v", "noise_b", "single_f", "single_v")}
    s_face, s_voice, s_both = (np.sqrt(total[name]) for name in ("ff", "vv", "bb"))
    face, voice = total["fb"] / s_face / s_both, total["vb"] / s_voice / s_both
    between = total["fv"] / s_face / s_voice

    def formula(r1: np.ndarray, r2: np.ndarray, r12: np.ndarray, s1: np.ndarray, s2: np.ndarray) -> np.ndarray:
        return (s1 * r1 + s2 * r2) / np.sqrt(s1**2 + s2**2 + 2 * s1 * s2 * r12)

    five = [np.sqrt(total[2 * x] - total[f"noise_{x}"] + total[f"single_{x}"] / 5) for x in "fv"]
    fewer = (face * s_face / five[0], voice * s_voice / five[1], between * s_face * s_voice / five[0] / five[1], *five)
    average = sums.moments(0.5, None, None).sum(axis=1)
    error = {"f": total["ff"] + total["bb"] - 2 * total["fb"], "v": total["vv"] + total["bb"] - 2 * total["vb"]}
    shared = total["fv"] - total["fb"] - total["vb"] + total["bb"]
    noise_free = {x: error[x] - total[f"noise_{x}"] - total["noise_b"] for x in "fv"}
    remains = (noise_free["f"] > 0) & (noise_free["v"] > 0)  # else all of the error is noise
    product = np.where(remains, noise_free["f"] * noise_free["v"], np.nan)
    table = pandas.DataFrame({
        "r_face": face, "r_voice": voice, "between": between, "s_face": s_face, "s_voice": s_voice,
        "formula": formula(face, voice, between, s_face, s_voice), "measured": correlation(average),
        "ten_formula": formula(*fewer), "ten_measured": sampled_panel(votes, 5, 5, rng),
        "errors": shared / np.sqrt(error["f"] * error["v"]),
        "errors_noise_free": (shared - total["noise_b"]) / np.sqrt(product),
        "face_weight": face_weights.mean(axis=0), "face_raters": splits.mean(axis=0),
    }, index=pandas.Index(EMOTIONS, name="emotion"))
    table.loc["mean"] = table.mean()
    return table


def _ceilings(votes: Votes, seed: int) -> pandas.DataFrame:
    """``Ceiling.table`` of each of ``RATINGS``, one under the other."""
    tables = []
    for index, rating in enumerate(RATINGS):
        result = from_counts(rating, EMOTIONS, votes.counts[index], list(votes.actors), seed=seed)
        tables.append(result.table.reset_index().assign(ratings=rating))
    return pandas.concat(tables).set_index(["ratings", "target"])


RATER_ROWS = {"V": "people who saw", "A": "people who heard"}


def rows(corpus: Corpus) -> dict[str, list[dict]]:
    """Rows for Tables 2 and 3, by the name of their file: raters with one modality as predictors, on ``valid``.

    One row per modality, and one of both fused by averaging; none without ``Corpus.unimodal_ratings``. The columns are
    those of ``paper_tables.tables``; ``recipe`` is empty, because nothing was trained.
    """
    inside = (corpus.clips["partition"] == "valid").to_numpy()
    predictions = {modality: predicted[inside] for modality, predicted in corpus.unimodal_ratings.items()}
    truth = corpus.clips.loc[inside, list(corpus.targets)].to_numpy(float)
    participants = list(corpus.clips.loc[inside, "participant"])

    def row(modality: str, prediction: np.ndarray) -> dict:
        interval = bootstrap_interval(truth, [prediction], participants, names=corpus.targets)
        by_target = pearson(truth, prediction, names=corpus.targets)
        return {
            "features": " & ".join(RATER_ROWS[part] for part in modality.split("+")), "modality": modality,
            "paper": None, "mean": interval.mean, "low": interval.low, "high": interval.high, "seeds": 1,
            "weights": "people", "recipe": "", "corpus": corpus.name, "note": corpus.note, "clips": len(truth),
            "missing": 0, "interval_over": interval.over, "dropped_draws": interval.dropped,
            **{f"pearson {target}": value for target, value in zip(corpus.targets, by_target, strict=True)},
            "ensemble": interval.mean, "by_seed": f"{interval.mean:.4f}",
        }  # fmt: skip

    alone = [row(modality, predictions[modality]) for modality in RATER_ROWS if modality in predictions]
    both = [row("V+A", late_fusion(*predictions.values()))] if len(predictions) == len(RATER_ROWS) else []
    return {"table2.csv": alone, "table3.csv": both}


def from_root(root: Path | str, *, seed: int = 0) -> dict[str, pandas.DataFrame]:
    """``results`` of the votes under ``root``."""
    return results(crema_d_votes.read(root), crema_d_votes.read_actors(root), seed=seed)


def write(tables: Mapping[str, pandas.DataFrame], folder: Path | str) -> list[Path]:
    """Keep the tables as ``people_<name>.csv``, and in ``people.json`` their command, source and SHA-256."""
    folder = Path(folder)
    paths, digests = [], {}
    for name, table in tables.items():
        paths.append(folder / f"{PREFIX}_{name}.csv")
        text = table.to_csv(index=list(table.index.names) != [None], float_format="%.5f")
        digests[paths[-1].name] = hashlib.sha256(text.encode()).hexdigest()
        write_text(paths[-1], text)
    about = {"command": "emibook people FOLDER --fetch --out book/results", "sha256": crema_d_votes.SHA256,
             "source": crema_d_votes.SOURCE, "licence": "Open Database License 1.0", "tables": digests}
    write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n")
    return [*paths, folder / ABOUT]


INDEX = {"correlations": 1, "differences": 1, "ten": 1, "totals": 1, "fusion": 1, "ceiling": 2, "inference": 1,
         "accuracy": 0}
"""The tables, and how many of their first columns name the rows."""


def read(folder: Path | str) -> dict[str, pandas.DataFrame]:
    """The tables that ``write`` kept. Raises ``InputError`` for a missing file."""
    tables = {}
    for name, width in INDEX.items():
        path = Path(folder) / f"{PREFIX}_{name}.csv"
        if not path.is_file():
            raise InputError(f"{path}: no such file; make it with emibook people FOLDER --fetch --out {folder}")
        table = pandas.read_csv(path, keep_default_na=False, na_values=[""])
        tables[name] = table.set_index(list(table.columns[:width])) if width else table.fillna({"verdict": ""})
    return tables
