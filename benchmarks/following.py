"""What following a face changes in the end: features and validation correlation, beside the cascade on every frame.

Takes ROOT and a WORK in which its faces are followed and its built-in encoders are fitted (after ``make book``:
``work/builtin/corpus work/builtin``). Makes a second work folder with ``--exhaustive`` and the same encoders, and
prints two tables: the cosine between a face's features from either crop, as they are and with the mean of all faces
taken off; and the mean Pearson correlation on the validation partition of branches trained on either, with the same
seeds, recipe and interval (95 %, over participants) as the book's Table 2.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np

from emibook.compute import Resources
from emibook.corpus import Corpus, open_corpus
from emibook.doctor import machine
from emibook.evaluation import bootstrap_interval
from emibook.experiments import paper_tables
from emibook.experiments.runs import Run
from emibook.features import extract, store
from emibook.preprocess import preprocess

SETS, SEEDS = ("resnet18", "aus"), 3


def cosines(corpus: Corpus, works: list[Path], name: str) -> tuple[np.ndarray, np.ndarray]:
    """(face,) the cosines of the rows of faces that both have; and with the mean of all faces taken off."""
    pairs = []
    for clip in corpus.clips["clip"]:
        one, other = (store.load(store.clip_path(store.feature_folder(work, name), clip)) for work in works)
        _, mine, theirs = np.intersect1d(one.times.round(4), other.times.round(4), return_indices=True)
        pairs.append((one.values[mine], other.values[theirs]))
    some, others = (np.concatenate(each) for each in zip(*pairs, strict=True))
    mean = others.mean(axis=0)
    return tuple((a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
                 for a, b in ((some, others), (some - mean, others - mean)))


def correlation(corpus: Corpus, work: Path, branch: str) -> str:
    """Mean over seeds and targets with its interval, of the validation partition."""
    valid = corpus.partition("valid")
    runs = [Run.open(paper_tables.train(corpus, work, branch, seed,
                                        resources=Resources(progress=False))) for seed in range(SEEDS)]
    predictions = [run.predictions("valid", valid["clip"])[0] for run in runs]
    interval = bootstrap_interval(valid[list(corpus.targets)].to_numpy(float), predictions, list(valid["participant"]),
                                  names=corpus.targets)
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("work", type=Path)
    given = parser.parse_args()
    corpus = open_corpus(given.root)
    print(f"{machine()}\n{corpus.name}: {corpus.note}" if corpus.note else machine())
    with tempfile.TemporaryDirectory() as temporary:
        works = [given.work, Path(temporary)]
        shutil.copytree(given.work / "encoders", works[1] / "encoders")
        preprocess(corpus, works[0])
        preprocess(corpus, works[1], exhaustive=True)
        for work in works:
            extract(corpus, work, SETS)
        print(f"{'features':<14} {'faces':>7} {'cosine: median':>15} {'5 %':>7} {'centred: median':>16} {'5 %':>7}")
        for name in SETS:
            plain, centred = cosines(corpus, works, name)
            print(f"{name:<14} {len(plain):>7,} {np.median(plain):>15.4f} {np.quantile(plain, 0.05):>7.4f} "
                  f"{np.median(centred):>16.4f} {np.quantile(centred, 0.05):>7.4f}")
        print(f"\n{'branch':<14} {'followed':>24} {'every frame searched':>24}")
        for branch in (*SETS, "+".join(SETS)):
            print(f"{branch:<14} " + " ".join(f"{correlation(corpus, work, branch):>24}" for work in works), flush=True)
