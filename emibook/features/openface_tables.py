"""Action units from a folder of tables, ``<clip>.csv`` each, that OpenFace or py-feat wrote before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emibook import InputError
from emibook.features.action_units import NAMES
from emibook.features.au_alignment import (
    alignment_summary,
    onto_track,
    seconds_by_count,
    success_counts,
    success_share,
)
from emibook.features.au_tables import Table, columns_of, read_table
from emibook.features.base import Clip
from emibook.features.store import FeatureSequence
from emibook.features.weights import Weights, keep_description, read_description
from emibook.preprocess.media import FRAME_RATE

LENGTH_TOLERANCE = 0.1, 0.2  # share and seconds by which a table's last timestamp may miss the clip's length


def describe_tables(folder: Path, encoders: Path) -> Weights:
    """The weights of a folder of tables. Raises ``InputError`` where they are of several kinds."""
    folder, kinds = folder.resolve(), {}
    for path in sorted(folder.glob("*.csv")):
        kinds.setdefault(columns_of(path), path)
    if not kinds:
        raise InputError(f"aus: {folder} holds no .csv; expected OpenFace's or py-feat's tables, <clip>.csv each")
    if len(kinds) > 1:
        (_, one), (_, other) = list(kinds.items())[:2]
        raise InputError(f"aus: {one} and {other.name} have different action units; tables of one kind go together")
    [(program, columns)] = kinds
    about = {"tables": str(folder), "program": program, "columns": columns}
    return keep_description("aus", "openface-tables" if program == "OpenFace" else "py-feat-tables", about, encoders)


class ActionUnitTables:
    """34 columns per tracked face from the clip's table; a clip without one has no rows.

    Rows are joined by the table's timestamps. Where these do not span the clip, because they were computed from a wrong
    frame rate of the container, the pictures are counted in the video itself.
    """

    name, version, width = "aus", "1", len(NAMES)
    reads_clip = of_the_corpus = True

    def __init__(self, weights: Weights, folder: Path, device: str = "cpu") -> None:
        about = read_description(weights, folder)
        self.folder, self.columns, self.label = Path(about["tables"]), tuple(about["columns"]), weights.label

    def input_file(self, clip: Clip) -> Path:
        """The file whose change makes the clip's features out of date."""
        return self.folder / f"{clip.id}.csv"

    def __call__(self, clip: Clip) -> FeatureSequence:
        path = self.input_file(clip)
        times, values, facts = np.zeros(0), np.zeros((0, self.width), np.float32), {"tables": 0}
        if clip.failed:
            facts = {}
        elif path.is_file():
            table = read_table(path)
            if table.columns != self.columns:
                raise InputError(f"{path} has other action units than the folder had; give the folder again with "
                                 "--weights")
            seconds, counted = self._seconds(table, clip)
            times, values, facts = onto_track(table, seconds, clip)
            facts |= {"tables": 1, "counted": int(counted), "missing_columns": len(NAMES) - len(self.columns),
                      **success_counts(table, "table")}
        return FeatureSequence(values, times, NAMES, self.name, self.label, self.version, facts)

    @staticmethod
    def _seconds(table: Table, clip: Clip) -> tuple[np.ndarray, bool]:
        """The time of each row's picture (row,), and whether it was counted in the video."""
        seconds = table.seconds
        reach = 0.0 if seconds is None else float(seconds.max(initial=0)) + 1 / FRAME_RATE
        share, most = LENGTH_TOLERANCE
        if len(table) and (seconds is None or abs(reach - clip.seconds) > share * clip.seconds + most):
            try:
                return seconds_by_count(table, clip), True
            except InputError:
                if seconds is None:
                    raise
        return np.zeros(0) if seconds is None else seconds, False

    @staticmethod
    def summary(facts: Sequence[dict[str, float]]) -> str:
        """A line about all clips."""
        with_table = [clip for clip in facts if clip.get("tables")]
        parts = [f"{len(with_table)} of {len(facts)} clips have a table"]
        if with_table:
            parts.append(f"with a measurement in {success_share(with_table, 'table') or 'none'} of the pictures")
            if missing := int(with_table[0]["missing_columns"]):
                parts.append(f"the tables lack {missing} of the {len(NAMES)} columns, which are 0 in every row")
            if counted := sum(int(clip["counted"]) for clip in with_table):
                parts.append(f"in {counted} there are no timestamps that span the clip, so the video's pictures were "
                             "counted")
        return "; ".join([*parts, *alignment_summary(with_table)])
