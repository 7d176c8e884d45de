"""The rehearsal: studies on simulated features, and one on the puppet; each part is a table on disk.

    emibook rehearse --out FOLDER                       every part, reduced: all clips, 64 features, 75 steps
    emibook rehearse --out FOLDER --size full           the recipes at the paper's full width: for a GPU
    emibook rehearse --out FOLDER --parts choices       one part
    emibook rehearse --out FOLDER --size tiny           every part in minutes, to try it; its numbers mean nothing

``book/results/`` keeps the tables of the first command, and ``rehearsal.json`` with the settings, date, machine and
duration of each.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

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
from emibook.studies.crop_comparison import CropStudy
from emibook.studies.recipe_recovery import PAPER_RECIPE, TEN_TIMES
from emibook.studies.settings import plain
from emibook.studies.simulation.calibration import LEVELS, ROUNDS
from emibook.studies.simulation.features import BETWEEN_PERSON_SD, CROSSING
from emibook.studies.simulation.simulate import CorpusPlan, simulate
from emibook.studies.simulation.sizes import AVERAGES, PAPER_CLIPS, SIZES, TINY, Size, size_named
from emibook.studies.specification_curve import CurveStudy
from emibook.studies.table3_from_table2 import PAIRS, Table3Study, table2_simulation
from emibook.studies.uncertainty import OptimismStudy
from emibook.training.loop import Recipe

SETTINGS = "rehearsal.json"


@dataclass(frozen=True)
class RecoveryStudy:
    """The conditions of ``recipe_recovery`` at one size."""

    size: Size


@dataclass(frozen=True)
class TablesStudy:
    """Both tables on a simulated set of which ridge regression attains the paper's Table 2."""

    averages: Size = AVERAGES
    variant: Variant = TEN_TIMES
    seeds: int = 5
    seed: int = 0
    recipe: Recipe | None = None
    """The paper's, unless given."""


@dataclass(frozen=True)
class WidthsStudy:
    """Widths of intervals, for each value of ``Simulation.between_person_sd``."""

    clips: tuple[int, int, int] = PAPER_CLIPS
    crossing: float = CROSSING
    between_person_sd: tuple[float, ...] = (0.0, BETWEEN_PERSON_SD)
    repeats: int = 60
    samples: int = 10


@dataclass(frozen=True)
class DifferencesStudy:
    """Differences between rows, see ``uncertainty.differences``."""

    clips: tuple[int, int, int] = PAPER_CLIPS
    crossing: float = CROSSING
    between_person_sd: float = BETWEEN_PERSON_SD
    repeats: int = 60


@dataclass(frozen=True)
class Part:
    """A table of the rehearsal, made by ``make(out, study, progress)``; trainings and features are kept under ``out``.

    ``study``: a dataclass of settings; one that has a ``size`` gets that of the rehearsal. ``tiny``: the fields that
    the size ``tiny`` changes. ``constants``: what else decides the table, recorded with the settings.
    """

    name: str
    description: str
    make: Callable[[Path, Any, bool], pandas.DataFrame]
    study: Any
    tiny: Mapping[str, object] = field(default_factory=dict)
    constants: Mapping[str, object] = field(default_factory=dict)

    @property
    def sized(self) -> bool:
        """Whether the study depends on the size itself, and not only on whether it is ``tiny``."""
        return any(option.name == "size" for option in fields(self.study))

    def at(self, size: Size) -> Any:
        """The study at this size."""
        changes = dict(self.tiny) if size.name == TINY else {}
        return replace(self.study, **changes, **({"size": size} if self.sized else {}))

    def settings(self, size: Size) -> dict:
        """The settings as ``rehearsal.json`` records them; nested options at their default are left out."""
        study = self.at(size)
        chosen = {option.name: getattr(study, option.name) for option in fields(study) if option.name != "size"}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        about = plain(size) if self.sized else {"name": size.name, "depends": "only on whether it is tiny"}
        return {**about, **plain(chosen, defaults=False), **plain(self.constants, defaults=False)}


def _recovery(out: Path, study: RecoveryStudy, progress: bool) -> pandas.DataFrame:
    return recipe_recovery.table(recipe_recovery.conditions(study.size), study.size, out, progress=progress)


def _table3(out: Path, study: Table3Study, progress: bool) -> pandas.DataFrame:
    return table3_from_table2.table3(out, study, progress=progress)


def _tables(out: Path, study: TablesStudy, progress: bool) -> pandas.DataFrame:
    """Both tables, one under the other."""
    folder = out / "tables" / study.averages.name  # another size is another simulation
    root, work = folder / "corpus", folder / "work"
    plan = CorpusPlan(size=study.averages, patterns="mean", calibration="attained", seed=study.seed)
    simulate(root, work, plan, progress=progress)
    tables = paper_tables.tables(open_corpus(root), work, seeds=study.seeds, recipe=study.recipe or PAPER_RECIPE,
                                 variant=study.variant, resources=Resources(progress=progress))  # fmt: skip
    return pandas.concat([table.assign(table=number) for number, table in zip((2, 3), tables, strict=True)])


def _choices(out: Path, study: CurveStudy, progress: bool) -> pandas.DataFrame:
    return specification_curve.curve(out / "choices" / "corpus", out / "choices", study, progress=progress)


def _widths(out: Path, study: WidthsStudy, progress: bool) -> pandas.DataFrame:
    """With participants whose slopes are the same, and with such as differ as in CREMA-D."""
    rows = [(name,) for name in LEVELS] + [row.branches for row in PAIRS]
    tables = []
    for sd in study.between_person_sd:
        simulation = table2_simulation(study.crossing, study.clips, between_person_sd=sd)
        table = uncertainty.widths(simulation, rows, study.repeats, study.samples)
        tables.append(table.reset_index().assign(between_person_sd=sd))
    return pandas.concat(tables, ignore_index=True)


def _differences(out: Path, study: DifferencesStudy, progress: bool) -> pandas.DataFrame:
    return uncertainty.differences(study.crossing, study.between_person_sd, study.repeats, study.clips)


def _optimism(out: Path, study: OptimismStudy, progress: bool) -> pandas.DataFrame:
    return uncertainty.epoch_optimism(out, study, progress=progress)


def _crops(out: Path, study: CropStudy, progress: bool) -> pandas.DataFrame:
    return crop_comparison.compare(out / "crops" / "corpus", out / "crops", study, progress=progress)


FEW_CLIPS = (3, 600, 0)
TINY_AVERAGES = Size("tiny averages", (300, 200, 20), 4, 0.5, 8)
REPLICATIONS = {"levels": LEVELS, "first_seed": uncertainty.FIRST_SEED}
PARTS = {
    part.name: part
    for part in (
        Part("recovery", "share of the attainable correlation that a recipe reaches", _recovery,
             RecoveryStudy(SIZES["reduced"])),
        Part("table3", "Table 3 from branches with Table 2's correlations", _table3, Table3Study(),
             {"crossings": (CROSSING,), "clips": 3000, "averages": replace(TINY_AVERAGES, clips=(300, 200, 0)),
              "recipe": replace(table3_from_table2.RECIPE, epochs=1), "trained_rounds": 1},
             {"levels": LEVELS, "rounds": ROUNDS}),
        Part("tables", "both tables of a simulated set on which ridge regression attains Table 2", _tables,
             TablesStudy(),
             {"averages": TINY_AVERAGES, "seeds": 2, "recipe": replace(PAPER_RECIPE, name="tiny", batch=64),
              "variant": Variant("tiny", recipe={"epochs": 2})}),
        Part("widths", "how uncertain a table's value is", _widths, WidthsStudy(),
             {"clips": FEW_CLIPS, "repeats": 6, "samples": 2}, {**REPLICATIONS, "draws": uncertainty.DRAWS}),
        Part("differences", "which differences in the tables are larger than chance makes them", _differences,
             DifferencesStudy(), {"clips": FEW_CLIPS, "repeats": 6}, REPLICATIONS),
        Part("optimism", "what choosing the epoch on the reported clips adds", _optimism,
             OptimismStudy(SIZES["reduced"]),
             {"train_clips": 120, "recipe": replace(uncertainty.RECIPE, epochs=3), "seeds": (0, 1)},
             {"level": uncertainty.LEVEL, "patterns": uncertainty.PATTERN, "draws": uncertainty.DRAWS}),
        Part("choices", "the specification curve", _choices, CurveStudy(),
             {"clips": (40, 30, 0), "combinations": 1,
              "recipe": replace(specification_curve.RECIPE, batch=16, epochs=1)},
             {"levels": specification_curve.LEVELS, "widths": specification_curve.WIDTHS,
              "steps": specification_curve.USED_STEPS}),
        Part("crops", "a face warped or boxed, on the puppet", _crops,
             CropStudy(weights={"resnet18": "builtin", "aus": "builtin"}),
             {"clips": 24, "visual": ("resnet18",), "weights": {"resnet18": "untrained"}, "epochs": 2, "seeds": 1},
             {"sound": crop_comparison.SOUND}),
    )
}  # fmt: skip


def rehearse(
    out: Path | str, *, size: Size | str = "reduced", parts: Sequence[str] | None = None, progress: bool = True
) -> dict[str, pandas.DataFrame]:
    """Make each of ``parts``, by default all, as ``out/rehearsal_<part>.csv``; ``rehearsal.json`` has their settings.

    Finished trainings are not repeated, and an interrupted rehearsal resumes.

    Raises:
        InputError: an unknown part or size.
    """
    size = size_named(size)
    names = list(dict.fromkeys(parts or PARTS))
    if unknown := [name for name in names if name not in PARTS]:
        raise InputError(f"no part {unknown[0]!r}; there are {', '.join(PARTS)}")
    out = Path(out)
    tables = {}
    for name in names:
        started = time.process_time()
        tables[name] = PARTS[name].make(out, PARTS[name].at(size), progress)
        path = out / f"rehearsal_{name}.csv"
        write_text(path, tables[name].round(6).to_csv(index=False))
        seconds = time.process_time() - started
        if "seconds" in tables[name]:  # of trainings, some of which may have been finished earlier
            seconds = max(seconds, tables[name]["seconds"].sum())
        _record(out, PARTS[name], size, float(seconds))
        if progress:
            print(f"{name}: {len(tables[name])} rows in {seconds:.0f} s, {path}", file=sys.stderr)
    return tables


def _record(out: Path, part: Part, size: Size, seconds: float) -> None:
    """Add a part to ``rehearsal.json``."""
    path = out / SETTINGS
    recorded = json.loads(path.read_text()) if path.is_file() else {}
    recorded[part.name] = {
        "what": part.description,
        "command": f"emibook rehearse --out FOLDER --size {size.name} --parts {part.name}",
        "size": part.settings(size),
        "seconds": round(seconds, 1),
        "made": time.strftime("%Y-%m-%d"),
        "machine": machine().partition(";")[0],  # its versions are below
        "threads": torch.get_num_threads(),
        "versions": {"emibook": __version__, "python": platform.python_version(), "torch": torch.__version__,
                     "numpy": np.__version__},
    }  # fmt: skip
    write_text(path, json.dumps(recorded, indent=1) + "\n")
