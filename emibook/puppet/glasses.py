"""Glasses of a drawn person: one layer that moves with the head and not with the muscles."""

from __future__ import annotations

import cv2
import numpy as np

from emibook.puppet.looks import Identity, Scene
from emibook.puppet.relief import UNIT, grid, smoothstep, window

REACH = (-1.15, -0.34, 1.15, 0.42)
"""The box that holds any glasses, in face units."""
STANDS_OFF = 0.72
"""How far before the middle of the head the frame sits, in face units: near the bridge of the nose."""


def draw_glasses(identity: Identity, scene: Scene) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """Rows and columns of the texture, and RGBA uint8 with its colour already multiplied by its opacity.

    None for somebody who wears none. Lenses are clear but for a soft streak of the light; the frame throws a faint
    shadow.
    """
    worn = identity.glasses
    if worn is None:
        return None
    place = window(*REACH)
    x, y = (axis[place] for axis in grid())
    side, up = np.sign(scene.light[0]), 0.03
    middle = identity.eye_distance + 0.02
    level = (np.abs((np.abs(x) - middle) / worn.width) ** worn.roundness
             + np.abs((y - up) / worn.height) ** worn.roundness) ** (1 / worn.roundness)
    away = (level - 1) * min(worn.width, worn.height)  # about the distance from the rim, in face units
    rim = _line(away, worn.thickness)
    inner = middle - worn.width
    bridge = _line(y - up + 0.06 - 0.05 * (1 - (x / inner) ** 2), worn.thickness) * (np.abs(x) < inner)
    arm = _line(y - up + 0.05, 0.8 * worn.thickness) * (np.abs(x) > middle + worn.width)
    arm = arm * smoothstep(identity.width + 0.01, identity.width - 0.03, np.abs(x))
    frame = np.maximum(np.maximum(rim, bridge), arm)
    shadow = 0.20 * cv2.GaussianBlur(np.roll(frame, (round(0.035 * UNIT), int(-2 * side)), (0, 1)), (0, 0), 2.0)
    across = (np.abs(x) - middle) * np.sign(x) * side / worn.width + 0.8 * (y - up) / worn.height
    lens = (level < 1) * (0.03 + worn.shine * np.exp(-0.5 * ((across - 0.35) / 0.22) ** 2))
    color = np.zeros((*x.shape, 3), np.float32)
    alpha = shadow.astype(np.float32)
    gloss = 0.85 + 0.5 * np.exp(-0.5 * ((y - up + 0.7 * worn.height) / 0.06) ** 2)
    for mask, laid in ((lens, np.full(3, 225.0)), (frame * 0.96, gloss[..., None] * np.array(worn.color))):
        color = color * (1 - mask[..., None]) + mask[..., None] * laid * scene.tint
        alpha = alpha * (1 - mask) + mask
    return place, np.dstack([np.clip(color, 0, 255), 255 * alpha]).astype(np.uint8)


def _line(distance: np.ndarray, width: float) -> np.ndarray:
    """Mask 0..1 of a line of that width around where ``distance`` is 0, both in face units."""
    return np.clip((0.5 * width - np.abs(distance)) * UNIT + 0.5, 0, 1)
