"""What each action unit does to the skin: where it pulls, and the folds it makes.

Units are those of the Facial Action Coding System (Ekman and Friesen) that OpenFace measures as intensities 0..5.
A pull is a sum of Gaussian hills of displacement; a fold is a groove or a hill in the head's relief. Both are told at
intensity 5 and taken as linear below. Lengths are in face units (``looks``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from emibook.features.action_units import UNITS
from emibook.puppet.looks import Identity, Scene
from emibook.puppet.portrait import Portrait
from emibook.puppet.relief import FACE, ORIGIN, TEXTURE, UNIT, grid, mound, noise, pair, skin_light, smoothstep

UNIT_NAMES = tuple(f"AU{unit:02d}" for unit in UNITS)
INDEX = {unit: place for place, unit in enumerate(UNITS)}

PULLS: dict[int, tuple[tuple[float, float, float, float, float, float], ...]] = {
    1: ((0.17, -0.44, 0.16, 0.20, -0.01, -0.17),),
    2: ((0.62, -0.46, 0.19, 0.20, 0.02, -0.15),),
    4: ((0.22, -0.24, 0.22, 0.14, -0.07, 0.11), (0.62, -0.26, 0.20, 0.12, -0.03, 0.04)),
    6: ((0.52, 0.40, 0.24, 0.18, -0.01, -0.12), (0.78, 0.10, 0.12, 0.16, -0.05, -0.03)),
    7: ((0.45, 0.14, 0.22, 0.07, 0.0, -0.025),),
    9: ((0.13, 0.46, 0.17, 0.17, 0.03, -0.12), (0.16, -0.22, 0.14, 0.12, -0.02, 0.07)),
    10: ((0.24, 0.70, 0.16, 0.12, 0.02, -0.08), (0.40, 0.50, 0.16, 0.12, 0.0, -0.03)),
    12: ((0.52, 0.68, 0.22, 0.20, 0.05, -0.09),),
    14: ((0.54, 0.92, 0.15, 0.16, -0.075, 0.0),),
    15: ((0.42, 1.08, 0.18, 0.15, 0.02, 0.05),),
    17: ((0.0, 1.24, 0.30, 0.14, 0.0, -0.12),),
    20: ((0.56, 0.98, 0.20, 0.20, 0.09, 0.02),),
    23: ((0.40, 0.94, 0.18, 0.16, -0.05, 0.0),),
}
"""Unit -> hills of displacement on the right half (x, y, width, height, pull outwards, pull downwards); both halves
mirror each other."""

JAW_DROP = 0.30
"""How far AU26 at intensity 5 lowers the chin."""

GRID = 6
"""Pixels of the texture between two points of a field of displacement."""


@cache
def pull_fields() -> np.ndarray:
    """(unit, row, column, 2) displacement of the skin in pixels of the texture at intensity 5."""
    columns = (np.arange(TEXTURE[0] // GRID, dtype=np.float32) * GRID + 0.5) / UNIT - ORIGIN[0]
    rows = (np.arange(TEXTURE[1] // GRID, dtype=np.float32) * GRID + 0.5) / UNIT - ORIGIN[1]
    x, y = np.meshgrid(columns, rows)
    fields = np.zeros((len(UNITS), *x.shape, 2), np.float32)
    for unit, hills in PULLS.items():
        for cx, cy, sx, sy, out, down in hills:
            right, left = mound(x, y, cx, cy, sx, sy), mound(x, y, -cx, cy, sx, sy)
            fields[INDEX[unit], ..., 0] += out * (right - left)
            fields[INDEX[unit], ..., 1] += down * (np.maximum(right, left) if cx < 0.1 else right + left)
    # Brows slide over the bone above the eye and leave the eye itself where it is.
    for unit, above in ((1, -0.37), (2, -0.37), (4, -0.22)):
        fields[INDEX[unit]] *= smoothstep(-0.06, above, y)[..., None]
    hinge = np.exp(-((x / 0.95) ** 4)) * smoothstep(0.92, 1.45, y) * smoothstep(2.35, 1.55, y)
    fields[INDEX[26], ..., 1] = JAW_DROP * hinge
    return fields * UNIT


def _groove(points: list[tuple[float, float]], width: float, both: bool = True) -> np.ndarray:
    """A line pressed into the face's relief, 1 deep; on both halves unless told otherwise."""
    rows, columns = FACE
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    line = np.zeros(shape, np.float32)
    for side in (1, -1) if both else (1,):
        pixels = [
            ((side * x + ORIGIN[0]) * UNIT - columns.start, (y + ORIGIN[1]) * UNIT - rows.start) for x, y in points
        ]
        cv2.polylines(line, [np.round(np.array(pixels) * 16).astype(np.int32)], False, 1.0, 2, cv2.LINE_AA, 4)
    line = cv2.GaussianBlur(line, (0, 0), width * UNIT)
    return line / (line.max() + 1e-6)


def folds(unit: int, identity: Identity, x: np.ndarray, y: np.ndarray) -> np.ndarray | None:
    """Change of the face's relief at intensity 5, or none where the unit folds nothing."""
    eye, tip, mouth = identity.eye_distance, identity.nose_length, identity.mouth_y
    corner, brow = identity.mouth_width, -identity.brow_height
    if unit == 1:
        lines = sum(_groove([(0, h), (0.16, h + 0.012), (0.34, h + 0.04)], 0.018) for h in (-0.50, -0.60, -0.70))
        return -0.020 * lines
    if unit == 2:
        lines = sum(_groove([(0.36, h), (0.56, h - 0.03), (0.76, h + 0.05)], 0.018) for h in (-0.48, -0.57, -0.66))
        return -0.018 * lines
    if unit == 4:
        furrows = _groove([(0.075, brow - 0.10), (0.06, brow + 0.02), (0.085, brow + 0.12)], 0.016)
        return (
            -0.040 * furrows + 0.03 * mound(x, y, 0, brow, 0.05, 0.1) + 0.03 * pair(x, y, 0.2, brow + 0.07, 0.14, 0.05)
        )
    if unit == 5:
        return -0.02 * pair(x, y, eye, -0.15, 0.18, 0.03)
    if unit == 6:
        feet = sum(_groove([(eye + 0.27, 0.02 + k * 0.035), (eye + 0.40, 0.02 + k * 0.11)], 0.014) for k in (-1, 0, 1))
        bag = _groove([(eye - 0.18, 0.10), (eye, 0.155), (eye + 0.22, 0.10)], 0.018)
        return -0.032 * feet - 0.038 * bag + 0.075 * pair(x, y, 0.52, 0.33, 0.2, 0.12)
    if unit == 7:
        lid = _groove([(eye - 0.18, 0.085), (eye, 0.115), (eye + 0.2, 0.075)], 0.015)
        return -0.022 * lid + 0.02 * pair(x, y, eye, 0.06, 0.15, 0.025)
    if unit == 9:
        bridge = sum(_groove([(0.05, h), (0.13, h + 0.06)], 0.018) for h in (0.02, 0.12, 0.22))
        across = sum(_groove([(-0.07, h), (0.07, h)], 0.014, both=False) for h in (-0.08, -0.01))
        return -0.034 * bridge - 0.036 * across - 0.036 * _groove([(0.20, tip - 0.08), (0.28, tip + 0.06)], 0.018)
    if unit == 10:
        fold = _groove([(0.20, tip - 0.04), (0.31, tip + 0.12), (0.40, tip + 0.24)], 0.018)
        return -0.040 * fold + 0.02 * pair(x, y, 0.22, mouth - 0.16, 0.08, 0.06)
    if unit == 12:
        fold = _groove(
            [(0.25, tip + 0.02), (0.40, tip + 0.16), (corner + 0.15, mouth - 0.10), (corner + 0.16, mouth + 0.01)],
            0.022,
        )
        return -0.038 * fold + 0.06 * pair(x, y, 0.56, 0.52, 0.2, 0.15)
    if unit == 14:
        dent = pair(x, y, corner + 0.085, mouth - 0.01, 0.034, 0.065)
        rim = _groove([(corner + 0.13, mouth - 0.14), (corner + 0.17, mouth), (corner + 0.13, mouth + 0.12)], 0.016)
        return -0.12 * dent - 0.036 * rim + 0.045 * pair(x, y, corner + 0.24, mouth - 0.02, 0.08, 0.12)
    if unit == 15:
        line = _groove(
            [(corner + 0.02, mouth + 0.07), (corner + 0.06, mouth + 0.18), (corner + 0.05, mouth + 0.26)], 0.020
        )
        return -0.030 * line + 0.03 * pair(x, y, corner + 0.0, mouth + 0.18, 0.07, 0.08)
    if unit == 17:
        crease = _groove([(0, mouth + 0.225), (0.12, mouth + 0.24), (0.22, mouth + 0.30)], 0.018)
        pits = np.clip(noise(np.random.default_rng(identity.seed + 17), x.shape, 3.5), -1.5, 1.5)
        ball = mound(x, y, 0, identity.chin - 0.17, 0.17, 0.10)
        return -0.052 * crease + ball * (0.05 + 0.022 * pits)
    if unit == 20:
        lines = sum(
            _groove([(corner + d, mouth - 0.10), (corner + d + 0.02, mouth + 0.14)], 0.015) for d in (0.16, 0.24)
        )
        return -0.030 * lines - 0.02 * mound(x, y, 0, identity.chin - 0.1, 0.3, 0.12)
    if unit == 23:
        lines = sum(_groove([(d, mouth - 0.17), (d * 0.9, mouth - 0.09)], 0.010) for d in (0.05, 0.13, 0.21))
        ring = _groove([(0, mouth + 0.15), (0.2, mouth + 0.13), (0.32, mouth + 0.02), (0.24, mouth - 0.12)], 0.022)
        return -0.011 * lines + 0.03 * ring
    return None


@dataclass(frozen=True)
class Fold:
    """Light and shadow that a unit at intensity 5 adds to the texture inside ``place`` (rows, columns)."""

    place: tuple[slice, slice]
    lighter: np.ndarray
    darker: np.ndarray


def draw_folds(identity: Identity, scene: Scene, portrait: Portrait) -> dict[int, Fold]:
    """The folds of every unit that has any, keyed by its place in ``UNITS``."""
    x, y = (axis[FACE] for axis in grid())
    relief = portrait.relief[FACE]
    color = portrait.color[FACE][..., :3].astype(np.float32)
    drawn = {}
    for unit in UNITS:
        change = folds(unit, identity, x, y)
        if change is None:
            continue
        bent = np.argwhere(np.abs(change) > 0.0015)
        (top, left), (bottom, right) = np.maximum(bent.min(0) - 3, 0), np.minimum(bent.max(0) + 4, change.shape)
        box = slice(int(top), int(bottom)), slice(int(left), int(right))
        before = skin_light(relief[box], scene)
        after = skin_light(relief[box] + identity.creases * change[box].astype(np.float32), scene)
        # Grooves also lie in their own shadow, whichever way the light falls.
        after = after * (1 + 4.0 * identity.creases * np.minimum(change[box], 0)[..., None])
        difference = color[box] * (after / before - 1)
        place = tuple(slice(a.start + b.start, a.start + b.stop) for a, b in zip(FACE, box, strict=True))
        padded = np.dstack([difference, np.zeros(difference.shape[:2])])
        drawn[INDEX[unit]] = Fold(
            place, np.clip(padded, 0, 255).astype(np.uint8), np.clip(-padded, 0, 255).astype(np.uint8)
        )
    return drawn
