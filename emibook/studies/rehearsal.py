"""The rehearsal: what is measured on simulated features, and one thing on the puppet; each part a table on disk.

    emibook rehearse --out FOLDER                       every part, reduced: all clips, 64 features, 75 steps
    emibook rehearse --out FOLDER --size full           the recipes at the paper's full width: for a GPU
    emibook rehearse --out FOLDER --parts choices       one part
    emibook rehearse --out FOLDER --size tiny           every part so small that it says nothing: to try it

``book/results/`` keeps the tables that the first of them made, and ``rehearsal.json``: with what settings, when, where,
how long.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import pandas
import torch

from emibook import InputError, __version__
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.doctor import machine
from emibook.experiments import paper_tables
from emibook.experiments.variants import Variant
from emibook.files import write_text
from emibook.studies import crop_comparison, recipe_recovery, specification_curve, table3_from_table2, uncertainty
from emibook.studies.recipe_recovery import PAPER_SEQUENCE, PAPERS_CLIPS, SIZES, TEN_TIMES, Size
from emibook.studies.simulation.corpus import write_corpus, write_features
from emibook.studies.simulation.features import CROSSING, LEGIBLE
from emibook.studies.table3_from_table2 import AVERAGES, LEVELS, PAIRS, papers
from emibook.training.loop import Recipe

SETTINGS = "rehearsal.json"
TINY = "tiny"
REPEATS = 60
WEAKER_SOUND = 0.2
OFFICIAL = {"official_vit": "vit", "official_wav2vec2": "wav2vec2"}
SIMULATED = {**LEVELS, "mfcc": WEAKER_SOUND, **{official: LEVELS[name] for official, name in OFFICIAL.items()}}
"""What ``simulate`` can draw, and the attainable correlation; the official sets are the other reading of two rows."""
DRAWN = (*LEVELS, "mfcc")
CALIBRATED = ("attainable", "attained")


@dataclass(frozen=True)
class Part:
    """A table of the rehearsal: ``make(out, progress, **settings)``; what takes long is kept under ``out``.

    ``settings`` are the same at every size but ``tiny``, which changes them as its name says. ``constants``: what else
    decides the table, noted with them. Where ``sized``, ``make`` gets the ``size`` too.
    """

    name: str
    what: str
    make: Callable[..., pandas.DataFrame]
    settings: Mapping[str, object] = field(default_factory=dict)
    tiny: Mapping[str, object] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)
    sized: bool = False

    def at(self, size: Size) -> dict:
        """What ``make`` is given at this size."""
        chosen = {**self.settings, **(self.tiny if size.name == TINY else {})}
        return chosen | ({"size": size} if self.sized else {})

    def noted(self, size: Size) -> dict:
        """What ``rehearsal.json`` says of it: all that ``at`` gives, the size in its parts, and the constants."""
        given = self.at(size)
        given.pop("size", None)
        known = asdict(size) if self.sized else {"name": size.name, "depends": "only on whether it is tiny"}
        return json.loads(json.dumps({**known, **given, **self.constants}, default=_told))


def _told(settings: Size | Recipe) -> dict:
    """What of them is set: options at their default say nothing, and new ones come."""
    return {each.name: getattr(settings, each.name) for each in fields(settings)
            if getattr(settings, each.name) != each.default}  # fmt: skip


def _recovery(out: Path, progress: bool, size: Size) -> pandas.DataFrame:
    return recipe_recovery.table(recipe_recovery.cases(size), size, out, progress=progress)


def _table3(out: Path, progress: bool, **settings: object) -> pandas.DataFrame:
    return table3_from_table2.table3(out, progress=progress, **settings)


def _tables(
    out: Path, progress: bool, averages: Size, variant: Variant, seeds: int, seed: int, recipe: Recipe = PAPER_SEQUENCE
) -> pandas.DataFrame:
    """Both tables, one under the other, of features of which ridge regression attains the paper's Table 2."""
    folder = out / "tables" / averages.name  # another size is another simulation
    root, work = folder / "corpus", folder / "work"
    simulate(root, work, size=averages, patterns="mean", calibrated="attained", seed=seed, progress=progress)
    made = paper_tables.tables(open_corpus(root), work, seeds=seeds, recipe=recipe,
                               variant=variant, resources=Resources(progress=progress))
    return pandas.concat([each.assign(table=number) for number, each in zip((2, 3), made, strict=True)])


def _choices(out: Path, progress: bool, **settings: object) -> pandas.DataFrame:
    return specification_curve.curve(out / "choices" / "corpus", out / "choices", progress=progress, **settings)


def _widths(
    out: Path, progress: bool, clips: tuple, crossing: float, legible: Sequence[float], repeats: int, samples: int
) -> pandas.DataFrame:
    """Both with participants who are alike in legibility and with such who differ as in CREMA-D."""
    rows = [(name,) for name in LEVELS] + [row.branches for row in PAIRS]
    found = []
    for spread in legible:
        table = uncertainty.widths(papers(crossing, clips, legible=spread), rows, repeats, samples)
        found.append(table.reset_index().assign(legible=spread))
    return pandas.concat(found, ignore_index=True)


def _differences(out: Path, progress: bool, **settings: object) -> pandas.DataFrame:
    return uncertainty.differences(**settings)


def _optimism(out: Path, progress: bool, **settings: object) -> pandas.DataFrame:
    return uncertainty.of_choosing_the_epoch(out, progress=progress, **settings)


def _crops(out: Path, progress: bool, **settings: object) -> pandas.DataFrame:
    return crop_comparison.compare(out / "crops" / "corpus", out / "crops", progress=progress, **settings)


FEW = (3, 600, 0)
ANEW = {"levels": LEVELS, "first_seed": uncertainty.FIRST_SEED}
PARTS = {
    part.name: part
    for part in (
        Part("recovery", "how much of what can be reached a recipe reaches", _recovery, sized=True),
        Part("table3", "Table 3 from branches with Table 2's correlations", _table3,
             {"crossings": (0.0, CROSSING, 0.12), "clips": 60_000, "averages": AVERAGES,
              "recipe": table3_from_table2.RECIPE, "trained_rounds": table3_from_table2.TRAINED_ROUNDS, "seed": 0},
             {"crossings": (CROSSING,), "clips": 3000, "averages": Size("tiny averages", (300, 200, 0), 4, 0.5, 8),
              "recipe": replace(table3_from_table2.RECIPE, epochs=1), "trained_rounds": 1},
             {"levels": LEVELS, "rounds": table3_from_table2.ROUNDS}),
        Part("tables", "both tables of a simulated set on which ridge regression attains Table 2", _tables,
             {"averages": AVERAGES, "variant": TEN_TIMES, "seeds": 5, "seed": 0},
             {"averages": Size("tiny averages", (300, 200, 20), 4, 0.5, 8), "seeds": 2,
              "recipe": replace(PAPER_SEQUENCE, name="tiny", batch=64), "variant": Variant("tiny",
                                                                                           recipe={"epochs": 2})}),
        Part("widths", "how far a table's value may be off", _widths,
             {"clips": PAPERS_CLIPS, "crossing": CROSSING, "legible": (0.0, LEGIBLE), "repeats": REPEATS,
              "samples": 10},
             {"clips": FEW, "repeats": 6, "samples": 2}, {**ANEW, "draws": uncertainty.DRAWS}),
        Part("differences", "which differences in the tables are larger than chance makes them", _differences,
             {"clips": PAPERS_CLIPS, "crossing": CROSSING, "legible": LEGIBLE, "repeats": REPEATS},
             {"clips": FEW, "repeats": 6}, ANEW),
        Part("optimism", "what choosing the epoch on the reported clips adds", _optimism,
             {"train_clips": 2000, "recipe": uncertainty.RECIPE, "seeds": uncertainty.SEEDS},
             {"train_clips": 120, "recipe": replace(uncertainty.RECIPE, epochs=3), "seeds": (0, 1)},
             {"level": uncertainty.LEVEL, "patterns": uncertainty.PATTERN, "draws": uncertainty.DRAWS}, sized=True),
        Part("choices", "the specification curve", _choices,
             {"clips": specification_curve.CLIPS, "combinations": 12, "recipe": specification_curve.RECIPE, "seed": 0},
             {"clips": (40, 30, 0), "combinations": 1,
              "recipe": replace(specification_curve.RECIPE, batch=16, epochs=1)},
             {"levels": specification_curve.LEVELS, "widths": specification_curve.WIDTHS,
              "steps": specification_curve.SHORTENED}),
        Part("crops", "a face warped or boxed, on the puppet", _crops,
             {"clips": 240, "visual": crop_comparison.VISUAL, "weights": {"resnet18": "builtin",
                                                                          "aus": "builtin"}, "seeds": 3,
              "seed": 0},
             {"clips": 24, "visual": ("resnet18",), "weights": {"resnet18": "untrained"}, "epochs": 2, "seeds": 1},
             {"sound": crop_comparison.SOUND}),
    )
}  # fmt: skip


def rehearse(
    out: Path | str, *, size: Size | str = "reduced", parts: Sequence[str] | None = None, progress: bool = True
) -> dict[str, pandas.DataFrame]:
    """Make each of ``parts``, all unless given; ``out/rehearsal_<part>.csv`` holds it, ``rehearsal.json`` says how.

    Finished trainings are not repeated, and a stopped rehearsal goes on where it stopped.

    Raises:
        InputError: a part or a size that there is not.
    """
    size = _size(size)
    names = list(dict.fromkeys(parts or PARTS))
    if unknown := [name for name in names if name not in PARTS]:
        raise InputError(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    out = Path(out)
    found = {}
    for name in names:
        started = time.process_time()
        found[name] = PARTS[name].make(out, progress, **PARTS[name].at(size))
        path = out / f"rehearsal_{name}.csv"
        write_text(path, found[name].round(6).to_csv(index=False))
        seconds = time.process_time() - started
        if "seconds" in found[name]:  # of trainings, some of which may have been made earlier
            seconds = max(seconds, found[name]["seconds"].sum())
        _note(out, PARTS[name], size, float(seconds))
        if progress:
            print(f"{name}: {len(found[name])} rows in {seconds:.0f} s, {path}", file=sys.stderr)
    return found


def _size(size: Size | str) -> Size:
    if isinstance(size, str) and size not in SIZES:
        raise InputError(f"no size {size!r}; there are {', '.join(SIZES)}")
    return SIZES[size] if isinstance(size, str) else size


def simulate(
    root: Path | str,
    work: Path | str,
    *,
    features: Sequence[str] = DRAWN,
    size: Size | str = "reduced",
    patterns: str = "mixed",
    calibrated: str = "attainable",
    stronger: float = 1.0,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Draw a corpus without media and its ``features``, on which ``experiments.tables`` runs as on any other.

    Attainable correlations are Table 2's times ``stronger``; ``mfcc``, which the paper has not, stands for a weaker
    sound. With ``calibrated`` as ``attained`` they are raised until ridge regression on time averages scores Table 2's
    on the validation clips (``agreement.raised``), for signals that lie in the mean. Without ``features`` they are
    what the tables' rows need; the official sets are for rows that name them.
    Raises ``InputError`` for a feature set without a level, or where ``root`` holds something else.
    """
    size = _size(size)
    if calibrated not in CALIBRATED:
        raise InputError(f"no calibration {calibrated!r}; there are {' and '.join(CALIBRATED)}")
    if calibrated == "attained" and patterns != "mean":
        raise InputError(f"attained correlations are those of averages over time, which do not see all of the patterns "
                         f"{patterns}; take the patterns mean, or attainable correlations")
    if unknown := [name for name in features if name not in SIMULATED]:
        raise InputError(f"no simulated features {unknown[0]!r}; there are {', '.join(SIMULATED)}")
    # Always the plan of all sets, so that others can be added to a corpus later.
    levels = dict(SIMULATED)
    if calibrated == "attained":
        averages = replace(AVERAGES, clips=size.clips, width=size.width)
        levels |= table3_from_table2.raised(table3_from_table2.by_ridge, CROSSING, averages, seed)[0]
        levels |= {official: levels[name] for official, name in OFFICIAL.items()}
    plan = size.plan({name: level * stronger for name, level in levels.items()}, patterns, seed)
    write_corpus(plan, root)
    write_features(plan, work, features, progress=progress)
    return Path(root)


def _note(out: Path, part: Part, size: Size, seconds: float) -> None:
    """Add a part to ``rehearsal.json``."""
    path = out / SETTINGS
    noted = json.loads(path.read_text()) if path.is_file() else {}
    noted[part.name] = {
        "what": part.what,
        "command": f"emibook rehearse --out FOLDER --size {size.name} --parts {part.name}",
        "size": part.noted(size),
        "seconds": round(seconds, 1),
        "made": time.strftime("%Y-%m-%d"),
        "machine": machine().partition(";")[0],  # its versions stand below
        "threads": torch.get_num_threads(),
        "versions": {"emibook": __version__, "python": platform.python_version(), "torch": torch.__version__,
                     "numpy": np.__version__},
    }  # fmt: skip
    write_text(path, json.dumps(noted, indent=1) + "\n")
