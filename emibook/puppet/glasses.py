"""Glasses of a drawn person: a layer that moves with the head but not with the muscles."""

from __future__ import annotations

import cv2
import numpy as np

from emibook.puppet.looks import Identity, Scene
from emibook.puppet.relief import UNIT, grid, smoothstep, window

EXTENT = (-1.15, -0.34, 1.15, 0.42)
"""A box that contains any glasses: left, top, right, bottom in face units."""
DEPTH = 0.72
"""Distance of the frame before the middle of the head, in face units: near the bridge of the nose."""


def draw_glasses(identity: Identity, scene: Scene) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """The layer of the glasses, or None for a person without glasses.

    Lenses are clear except for a soft streak of light; the frame casts a faint shadow.

    Returns:
        Rows and columns of the texture, and (row, column, 4) uint8 RGBA with the colour premultiplied by the opacity.
    """
    glasses = identity.glasses
    if glasses is None:
        return None
    box = window(*EXTENT)
    x, y = (axis[box] for axis in grid())
    side, up = np.sign(scene.light[0]), 0.03
    middle = identity.eye_distance + 0.02
    level = (np.abs((np.abs(x) - middle) / glasses.width) ** glasses.roundness
             + np.abs((y - up) / glasses.height) ** glasses.roundness) ** (1 / glasses.roundness)
    distance = (level - 1) * min(glasses.width, glasses.height)  # about the distance from the rim, in face units
    rim = _line(distance, glasses.thickness)
    inner = middle - glasses.width
    bridge = _line(y - up + 0.06 - 0.05 * (1 - (x / inner) ** 2), glasses.thickness) * (np.abs(x) < inner)
    arm = _line(y - up + 0.05, 0.8 * glasses.thickness) * (np.abs(x) > middle + glasses.width)
    arm = arm * smoothstep(identity.width + 0.01, identity.width - 0.03, np.abs(x))
    frame = np.maximum(np.maximum(rim, bridge), arm)
    shadow = 0.20 * cv2.GaussianBlur(np.roll(frame, (round(0.035 * UNIT), int(-2 * side)), (0, 1)), (0, 0), 2.0)
    across = (np.abs(x) - middle) * np.sign(x) * side / glasses.width + 0.8 * (y - up) / glasses.height
    lens = (level < 1) * (0.03 + glasses.shine * np.exp(-0.5 * ((across - 0.35) / 0.22) ** 2))
    color = np.zeros((*x.shape, 3), np.float32)
    alpha = shadow.astype(np.float32)
    gloss = 0.85 + 0.5 * np.exp(-0.5 * ((y - up + 0.7 * glasses.height) / 0.06) ** 2)
    for mask, layer in ((lens, np.full(3, 225.0)), (frame * 0.96, gloss[..., None] * np.array(glasses.color))):
        color = color * (1 - mask[..., None]) + mask[..., None] * layer * scene.tint
        alpha = alpha * (1 - mask) + mask
    return box, np.dstack([np.clip(color, 0, 255), 255 * alpha]).astype(np.uint8)


def _line(distance: np.ndarray, width: float) -> np.ndarray:
    """Mask 0..1 of a line of ``width`` where ``distance`` is 0, both in face units."""
    return np.clip((0.5 * width - np.abs(distance)) * UNIT + 0.5, 0, 1)
