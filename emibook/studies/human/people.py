"""People as encoders: how well those who only heard a clip, and those who only saw it, predict those who had both.

Everything comes from CREMA-D's votes. Two groups are fused by averaging, as two branches are, and compared at equal
numbers of raters, because twice the raters is half the luck; ``panels`` has the machinery, and this module its tables.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas

from emibook import InputError
from emibook.corpus import RATINGS, Corpus, crema_d_votes
from emibook.corpus.crema_d_votes import EMOTIONS, Votes
from emibook.evaluation import bootstrap_interval, weighted_pearson
from emibook.fusion import late_fusion
from emibook.metrics import pearson
from emibook.studies.human.actor_accuracy import accuracy
from emibook.studies.human.label_ceiling import INTERVAL, from_counts, inference_bias
from emibook.studies.human.rater_panels import (
    TEN,
    Group,
    Sums,
    best_shares,
    best_splits,
    correlation,
    drawn_raters,
    share_of,
)

DRAWS = 2000
INFINITE = np.inf
PREFIX = "people"
ABOUT = "people.json"

GROUPS = (
    Group("voice", 0, None, 0.0),
    Group("face", None, 0, 1.0),
    Group("average", None, None, 0.5),
    Group("voice, 10 raters", 0, 10),
    Group("face, 10 raters", 10, 0),
    Group("5 face + 5 voice", 5, 5),
    Group("7 face + 3 voice", 7, 3),
    Group("face, 20 raters", 20, 0),
    Group("10 face + 10 voice", 10, 10),
    Group("voice, no luck", 0, INFINITE, 0.0),
    Group("face, no luck", INFINITE, 0, 1.0),
    Group("average, no luck", INFINITE, INFINITE, 0.5),
    Group("voice, no luck on either side", 0, INFINITE, 0.0, True),
    Group("face, no luck on either side", INFINITE, 0, 1.0, True),
    Group("average, no luck on either side", INFINITE, INFINITE, 0.5, True),
)
FITTED, FITTED_SPLIT = "best weights, fitted on other actors", "best 10 raters, chosen on other actors"
DIFFERENCES = (
    ("average", "face"), ("5 face + 5 voice", "face, 10 raters"), ("7 face + 3 voice", "face, 10 raters"),
    (FITTED_SPLIT, "face, 10 raters"), ("10 face + 10 voice", "face, 20 raters"),
    ("average, no luck", "face, no luck"), (FITTED, "average"), (FITTED, "face"),
)  # fmt: skip
TOTALS = (2, 4, 6, 8, 10, 12, 16, 20, 30, 40, 60, 100)
"""Raters in all, for those who all see beside those of whom half hear."""


def results(
    found: Votes, actors: pandas.DataFrame, *, seed: int = 0, draws: int = DRAWS
) -> dict[str, pandas.DataFrame]:
    """All tables of people, by the name of their file without ``people_``; correlations with 95 % intervals by actor.

    ``actors`` as ``votes.read_actors`` gives them. Raises ``InputError`` where one of the actors is not among them.
    """
    rng = np.random.default_rng(seed)
    sums = Sums(found)
    count = len(sums.actors)
    weights = np.concatenate([np.ones((1, count)), rng.multinomial(count, np.full(count, 1 / count), size=draws)])

    def drawn(blend: np.ndarray) -> np.ndarray:
        return correlation(np.einsum("da,mae->mde", weights, blend))  # (draw, emotion); the first is all clips

    blends = {group.name: sums.blend(share_of(group), group.faces, group.voices, group.exact) for group in GROUPS}
    shares, splits = best_shares(sums), best_splits(sums)
    blends[FITTED] = sums.blend(shares, None, None)
    blends[FITTED_SPLIT] = sums.blend(splits / TEN, splits, TEN - splits)
    rho = {name: drawn(blend) for name, blend in blends.items()}
    ten = {str(faces): drawn(sums.blend(faces / TEN, faces, TEN - faces)) for faces in range(TEN + 1)}
    table = _rows(rho, "predictors")
    by_clip = clip_intervals(found, {"voice": 0.0, "face": 1.0, "average": 0.5}, rng)
    table = table.join(by_clip)
    return {
        "correlations": table,
        "differences": _rows({f"{one} - {other}": rho[one] - rho[other] for one, other in DIFFERENCES}, "difference"),
        "ten": _rows(ten, "faces"),
        "totals": _totals(sums, drawn),
        "fusion": fusion(found, sums, shares, splits, rng),
        "ceiling": _ceilings(found, seed),
        "inference": inference_bias(found),
        "accuracy": accuracy(found, actors, rng, draws),
    }


def _rows(rho: Mapping[str, np.ndarray], index: str) -> pandas.DataFrame:
    """A row each: the emotions' values, their mean, and its interval, from (draw, emotion) whose first row is all."""
    rows = {}
    for name, values in rho.items():
        means = values.mean(axis=1)
        low, high = np.quantile(means[1:], INTERVAL)
        rows[name] = dict(zip(EMOTIONS, values[0], strict=True)) | {"mean": means[0], "low": low, "high": high}
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis(index)


def _totals(sums: Sums, drawn: Callable[[np.ndarray], np.ndarray]) -> pandas.DataFrame:
    """By how many raters there are in all: mean correlation of ``face`` alone, of ``half`` and half, their
    ``difference`` and its interval."""
    rows = {}
    for total in TOTALS:
        face = drawn(sums.blend(1.0, total, 0)).mean(axis=1)
        half = drawn(sums.blend(0.5, total / 2, total / 2)).mean(axis=1)
        low, high = np.quantile((half - face)[1:], INTERVAL)
        rows[total] = {"face": face[0], "half": half[0], "difference": (half - face)[0], "low": low, "high": high}
    return pandas.DataFrame.from_dict(rows, orient="index").rename_axis("raters")


def clip_intervals(
    found: Votes, shares: Mapping[str, float], rng: np.random.Generator, draws: int = 500
) -> pandas.DataFrame:
    """The interval that clips would give, if those of one actor were no more alike than others: too narrow."""
    voice, face, both = found.fractions
    clips = len(both)
    predictions = np.stack([share * face + (1 - share) * voice for share in shares.values()])
    weights = rng.multinomial(clips, np.full(clips, 1 / clips), size=draws)
    rho = weighted_pearson(both, predictions, weights, np.arange(clips)).mean(axis=2)  # (draw, predictor)
    low, high = np.quantile(rho, INTERVAL, axis=0)
    return pandas.DataFrame({"low_by_clip": low, "high_by_clip": high}, index=list(shares))


def fusion(
    found: Votes, sums: Sums, shares: np.ndarray, splits: np.ndarray, rng: np.random.Generator
) -> pandas.DataFrame:
    """What the fusion formula says of each emotion's average, and what is measured; how the errors go together.

    ``r_face, r_voice, between, s_face, s_voice`` and ``formula``, ``measured``: of all raters; ``ten_formula``, from
    the moments, and ``ten_measured``, from raters really drawn: of five and five. ``errors``: the correlation of f - b
    and v - b; ``errors_no_luck``: the same without luck, which b's own luck, being in both, had raised. ``share``: the
    best weight of those who saw; ``faces``: the best number of ten raters to see, both means over the actors left out.
    """
    total = {name: sums[name].sum(axis=0) / len(found.clips) for name in
             ("ff", "vv", "bb", "fv", "fb", "vb", "luck_f", "luck_v", "luck_b", "one_f", "one_v")}
    s_face, s_voice, s_both = (np.sqrt(total[name]) for name in ("ff", "vv", "bb"))
    face, voice = total["fb"] / s_face / s_both, total["vb"] / s_voice / s_both
    between = total["fv"] / s_face / s_voice

    def formula(r1: np.ndarray, r2: np.ndarray, r12: np.ndarray, s1: np.ndarray, s2: np.ndarray) -> np.ndarray:
        return (s1 * r1 + s2 * r2) / np.sqrt(s1**2 + s2**2 + 2 * s1 * s2 * r12)

    five = [np.sqrt(total[2 * x] - total[f"luck_{x}"] + total[f"one_{x}"] / 5) for x in "fv"]
    fewer = (face * s_face / five[0], voice * s_voice / five[1], between * s_face * s_voice / five[0] / five[1], *five)
    average = sums.blend(0.5, None, None).sum(axis=1)
    error = {"f": total["ff"] + total["bb"] - 2 * total["fb"], "v": total["vv"] + total["bb"] - 2 * total["vb"]}
    shared = total["fv"] - total["fb"] - total["vb"] + total["bb"]
    quiet = {x: error[x] - total[f"luck_{x}"] - total["luck_b"] for x in "fv"}
    there = (quiet["f"] > 0) & (quiet["v"] > 0)  # else there is no error but luck
    table = pandas.DataFrame({
        "r_face": face, "r_voice": voice, "between": between, "s_face": s_face, "s_voice": s_voice,
        "formula": formula(face, voice, between, s_face, s_voice), "measured": correlation(average),
        "ten_formula": formula(*fewer), "ten_measured": drawn_raters(found, 5, 5, rng),
        "errors": shared / np.sqrt(error["f"] * error["v"]),
        "errors_no_luck": (shared - total["luck_b"]) / np.sqrt(np.where(there, quiet["f"] * quiet["v"], np.nan)),
        "share": shares.mean(axis=0), "faces": splits.mean(axis=0),
    }, index=pandas.Index(EMOTIONS, name="emotion"))
    table.loc["mean"] = table.mean()
    return table


def _ceilings(found: Votes, seed: int) -> pandas.DataFrame:
    """``ceiling.Ceiling.table`` of each of ``RATINGS``, one under the other."""
    tables = []
    for place, had in enumerate(RATINGS):
        one = from_counts(had, EMOTIONS, found.counts[place], list(found.actors), seed=seed)
        tables.append(one.table.reset_index().assign(ratings=had))
    return pandas.concat(tables).set_index(["ratings", "target"])


WHO = {"V": "people who saw", "A": "people who heard"}


def rows(corpus: Corpus) -> dict[str, list[dict]]:
    """Rows for Tables 2 and 3, by the name of their file: what people with less of a clip reach on ``valid``.

    Of each modality, and fused by averaging; none where nobody was asked (``Corpus.people``). The columns are those of
    ``paper_tables.tables``; ``recipe`` is empty, because nobody was trained.
    """
    inside = (corpus.clips["partition"] == "valid").to_numpy()
    told = {modality: predicted[inside] for modality, predicted in corpus.people.items()}
    truth = corpus.clips.loc[inside, list(corpus.targets)].to_numpy(float)
    participants = list(corpus.clips.loc[inside, "participant"])

    def row(modality: str, prediction: np.ndarray) -> dict:
        interval = bootstrap_interval(truth, [prediction], participants, names=corpus.targets)
        by_target = pearson(truth, prediction, names=corpus.targets)
        return {
            "features": " & ".join(WHO[part] for part in modality.split("+")), "modality": modality, "paper": None,
            "mean": interval.mean, "low": interval.low, "high": interval.high, "seeds": 1, "weights": "people",
            "recipe": "", "corpus": corpus.name, "note": corpus.note, "clips": len(truth), "missing": 0,
            "interval_over": interval.over, "dropped_draws": interval.dropped,
            **{f"pearson {target}": value for target, value in zip(corpus.targets, by_target, strict=True)},
            "ensemble": interval.mean, "by_seed": f"{interval.mean:.4f}",
        }  # fmt: skip

    alone = [row(modality, told[modality]) for modality in WHO if modality in told]
    both = [row("V+A", late_fusion(*told.values()))] if len(told) == len(WHO) else []
    return {"table2.csv": alone, "table3.csv": both}


def from_root(root: Path | str, *, seed: int = 0) -> dict[str, pandas.DataFrame]:
    """``results`` of the votes under ``root``."""
    return results(crema_d_votes.read(root), crema_d_votes.read_actors(root), seed=seed)


def write(found: Mapping[str, pandas.DataFrame], folder: Path | str) -> list[Path]:
    """Keep the tables as ``people_<name>.csv``, and in ``people.json`` the command and the data that make them."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths, digests = [], {}
    for name, table in found.items():
        paths.append(folder / f"{PREFIX}_{name}.csv")
        text = table.to_csv(index=list(table.index.names) != [None], float_format="%.5f")
        digests[paths[-1].name] = hashlib.sha256(text.encode()).hexdigest()
        _replace(paths[-1], text)
    about = {"command": "emibook people FOLDER --fetch --out book/results", "sha256": crema_d_votes.SHA256,
             "source": crema_d_votes.SOURCE, "licence": "Open Database License 1.0", "tables": digests}
    _replace(folder / ABOUT, json.dumps(about, indent=1) + "\n")
    return [*paths, folder / ABOUT]


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


INDEX = {"correlations": 1, "differences": 1, "ten": 1, "totals": 1, "fusion": 1, "ceiling": 2, "inference": 1,
         "accuracy": 0}
"""The tables, and how many of their first columns name the rows."""


def read(folder: Path | str) -> dict[str, pandas.DataFrame]:
    """The tables that ``write`` kept."""
    found = {}
    for name, width in INDEX.items():
        path = Path(folder) / f"{PREFIX}_{name}.csv"
        if not path.is_file():
            raise InputError(f"{path}: no such file; make it with emibook people FOLDER --fetch --out {folder}")
        table = pandas.read_csv(path, keep_default_na=False, na_values=[""])
        found[name] = table.set_index(list(table.columns[:width])) if width else table.fillna({"verdict": ""})
    return found
