"""Tables 2 and 3 of the paper on any corpus: from its clips to runs, scores and files.

Source: paper section 4.3, Tables 2 and 3. Their rows are in ``paper_rows``, recipes and variants in ``recipes``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas

from emibook import InputError
from emibook.compute import Resources
from emibook.corpus import Corpus
from emibook.experiments.batch import trained_runs
from emibook.experiments.paper_rows import Row, chosen_rows, has_official
from emibook.experiments.recipes import variant_for
from emibook.experiments.runs import Run
from emibook.experiments.scoring import fusion_alternatives, score
from emibook.experiments.training_run import Experiment
from emibook.experiments.variants import BASE, Variant
from emibook.files import write_text
from emibook.training.loop import Recipe

TABLES = ("table2.csv", "table3.csv")


def train(
    corpus: Corpus,
    work: Path | str,
    features: str,
    seed: int = 0,
    recipe: Recipe | str | None = None,
    variant: Variant | str | None = None,
    resources: Resources = Resources(),  # noqa: B008 (frozen)
) -> Path:
    """Train one branch with one seed; the folder of its run, ``WORK/runs/<id>`` (``runs`` says what is in it).

    Clips that are not preprocessed or lack features are processed first. A finished run is not repeated.

    Args:
        features: a feature set, several of one modality joined by ``+``, or a row of ``TABLE2`` as ``vit (baseline)``.
        recipe: a name in ``RECIPES`` or one of your own; by default ``small`` below 1,000 training clips, else
            ``paper``.
        variant: a name in ``ABLATIONS``, ``LR_SCALED`` or ``IMPROVEMENTS``, several joined by ``+``, ``improved``
            (all of ``IMPROVEMENTS``), or one of your own.

    Raises:
        InputError: fewer than three clips or no labels in a partition, a label that never varies, features, a recipe, a
            variant or a device that do not exist.
    """
    experiment = Experiment.of(corpus, work, recipe, variant)
    return trained_runs(experiment, [features], [seed], resources)[features, seed].folder


def tables(
    corpus: Corpus,
    work: Path | str,
    *,
    seeds: int = 3,
    rows: Sequence[str] | None = None,
    recipe: Recipe | str | None = None,
    variant: Variant | str | None = None,
    reference_rows: Mapping[str, Sequence[dict]] | None = None,
    resources: Resources = Resources(),  # noqa: B008 (frozen)
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """Tables 2 and 3 on ``corpus``: makes what is missing, then writes ``WORK/tables/table2.csv`` and ``table3.csv``.

    Columns: ``features, modality``; ``paper``, the paper's value, empty for rows that it has not; ``mean`` over seeds
    and targets; ``low, high``, its interval (95 %, ``evaluation.bootstrap_interval``); ``seeds``; ``weights``, what the
    encoders' numbers are; ``recipe``; ``corpus``; ``note``; ``clips``, validation clips, all of which count;
    ``missing``, those among them that are empty in a modality of the row (in a fused row they are predicted by the
    other branch); ``interval_over``; ``dropped_draws``; each target's correlation, mean over seeds; ``cross_fitted``,
    the mean where learning rate and epoch were chosen on participants that were not scored (``scoring.cross_fitted``);
    ``ensemble``, of the predictions averaged over the seeds, as ``predict.submit`` does; ``difference`` from the row
    ``against`` with its interval (``evaluation.paired_difference``); ``by_seed``, each seed's mean. All but
    ``cross_fitted`` is of the validation partition on which the epoch was chosen as well.

    ``fusion.csv`` beside them holds for each row of Table 3 the alternatives to the average, with weights that were
    fitted on other participants than they are scored on (``scoring.fusion_alternatives``).

    Args:
        rows: feature sets, see ``chosen_rows``; by default the paper's rows and ours.
        variant: with one the tables go to ``WORK/tables/<variant>``.
        reference_rows: further rows by the name of their file, as people's own predictions.

    Raises:
        InputError: as ``train``.
    """
    if seeds < 1:
        raise InputError(f"{seeds} seeds asked for; give 1 or more")
    experiment = Experiment.of(corpus, work, recipe, variant)
    chosen = dict(zip(TABLES, chosen_rows(rows, official=has_official(corpus)), strict=True))
    every_row = [row for table in chosen.values() for row in table]
    branches = list(dict.fromkeys(branch for row in every_row for branch in row.branches))
    runs = trained_runs(experiment, branches, range(seeds), resources)
    runs_of = {row.features: [[runs[branch, seed] for branch in row.branches] for seed in range(seeds)]
               for row in every_row}
    folder = tables_folder(work, variant)
    written = {name: _write_table(folder / name, table, runs_of, corpus, (reference_rows or {}).get(name, ()))
               for name, table in chosen.items()}
    fused = [{"features": row.features, **line} for row in chosen["table3.csv"]
             for line in fusion_alternatives(runs_of[row.features], corpus)]
    write_text(folder / "fusion.csv", pandas.DataFrame(fused).to_csv(index=False))
    return written["table2.csv"], written["table3.csv"]


def _write_table(
    path: Path, rows: Sequence[Row], runs_of: Mapping[str, list[list[Run]]], corpus: Corpus,
    reference_rows: Sequence[dict],
) -> pandas.DataFrame:
    """Score the rows and write them as a CSV file, a page and a picture."""
    from emibook.figures import write_rows  # matplotlib, which the worker processes need not load

    lines = []
    for row in rows:
        against = row.against if row.against in runs_of else None
        scored = score(runs_of[row.features], runs_of.get(against), corpus)
        lines.append({"features": row.features, "modality": row.modality, "paper": row.paper, **scored,
                      "against": against})
    table = pandas.DataFrame([*lines, *reference_rows] if lines else [])
    write_text(path, table.to_csv(index=False))
    if lines:
        write_rows(table, path.parent, path.stem, paper=beside_paper(corpus))
    return table


def tables_folder(work: Path | str, variant: Variant | str | None = None) -> Path:
    """Where ``tables`` writes: ``WORK/tables``, and for a variant a folder of its own in it."""
    variant = variant_for(variant)
    return Path(work) / "tables" / ("" if variant == BASE else variant.name)


def beside_paper(corpus: Corpus) -> bool:
    """Whether the paper's values may stand beside results on ``corpus``: on the paper's own, and on no other."""
    return corpus.name == "hume-vidmimic2" and not corpus.note
