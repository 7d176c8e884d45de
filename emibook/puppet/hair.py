"""Hair of a drawn person: masks and colours of the hair behind and in front of the face."""

from __future__ import annotations

import cv2
import numpy as np

from emibook.puppet.looks import Identity, Scene
from emibook.puppet.relief import UNIT, grid, mound, noise, outline, smoothstep, soft_inside, window

HAIR = window(-1.65, -1.9, 1.65, 2.5)
"""The part of the texture that may hold hair: all layers have its size."""

Layers = list[tuple[np.ndarray, np.ndarray]]
"""Pairs of a mask ``(row, column)`` 0..1 and a colour ``(row, column, 3)`` under white light."""

BEHIND = {"long": (0.20, 2.35), "bob": (0.20, 1.25), "curly": (0.34, 0.75), "fringe": (0.16, 1.7)}
"""Of the hair behind the head: thickness and lowest y, in face units."""
FRONT = {
    "short": (-0.86, 0.95, 0.10), "parted": (-0.80, 0.95, 0.16), "fringe": (-0.42, 0.90, 0.14),
    "long": (-0.88, 1.5, 0.14), "bob": (-0.80, 1.35, 0.16), "curly": (-0.72, 0.85, 0.28),
    "bun": (-0.90, 0.75, 0.07), "cropped": (-0.98, 0.85, 0.03),
}  # fmt: skip
"""Of the hair over the skull: y of the hairline, its drop at the temples, thickness; in face units."""


def _strands(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, part: float, curl: float) -> np.ndarray:
    """Streaks that run from the parting, standard deviation about 1."""
    angle = np.arctan2(x - part, y + 1.5)
    radius = np.sqrt((x - part) ** 2 + (y + 1.5) ** 2)
    table = rng.standard_normal((64, 1024), np.float32)
    table = cv2.GaussianBlur(table, (0, 0), sigmaX=2.0, sigmaY=1.5 if curl else 6.0)
    table /= table.std()
    columns = (angle + np.pi) / (2 * np.pi) * 1023
    rows = np.mod(radius * (26 if curl else 14), 63)
    return cv2.remap(table, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR)


def _color(identity: Identity, scene: Scene, strands: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    lx, ly, _ = scene.light
    sheen = mound(x, y, 0.55 * lx, -1.02 + 0.25 * ly, 0.55, 0.16)
    light = 0.80 + 0.22 * lx * np.clip(x, -1.3, 1.3) - 0.13 * np.clip(y, -1.5, 2.0) + 0.13 * strands
    light += sheen * (0.22 + 0.16 * strands)
    color = np.clip(light, 0.18, 1.7)[..., None] * np.array(identity.hair_color, np.float32)
    return color + 14 * np.clip(sheen, 0, 1)[..., None]


def hair_behind(identity: Identity, scene: Scene, rng: np.random.Generator) -> Layers:
    """The hair behind head, neck and shoulders."""
    x, y = (axis[HAIR] for axis in grid())
    layers: Layers = []
    if identity.style == "bun":
        knot = (x / 0.42) ** 2 + ((y + 1.45) / 0.34) ** 2
        layers.append((soft_inside(knot), _color(identity, scene, _strands(rng, x, y, 0.0, 1.0), x, y)))
    if identity.style in BEHIND:
        grow, end = BEHIND[identity.style]
        strands = _strands(rng, x, y, 0.0, identity.style == "curly")
        level = outline(identity, x, np.where(y > 0, 0, y), grow)
        if identity.style == "curly":
            level = (np.abs(x) / (identity.width + grow)) ** 2 + ((y + 0.35) / 1.3) ** 2 + 0.07 * noise(rng, x.shape, 9)
        falling = soft_inside(level) * smoothstep(end + 0.12, end - 0.10, y + 0.05 * strands)
        layers.append((falling.astype(np.float32), 0.72 * _color(identity, scene, strands, x, y)))
    return layers


def hair_in_front(identity: Identity, scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mask and colour of the hair over the skull and the forehead."""
    x, y = (axis[HAIR] for axis in grid())
    line, drop, grow = FRONT[identity.style]
    side = 1.0 if identity.seed % 2 else -1.0
    part = 0.35 * side if identity.style in ("parted", "long") else 0.0
    curl = identity.style == "curly"
    strands = _strands(rng, x, y, part, curl)
    level = outline(identity, x, y, grow)
    if curl:
        level = level + 0.05 * noise(rng, x.shape, 8)
    ragged = 0.018 * strands + (0.05 * noise(rng, x.shape, 7) if curl else 0)
    hairline = line + drop * smoothstep(0.55, 1.0, np.abs(x) / identity.width) + ragged
    hairline = hairline + 0.10 * (x / 0.8) ** 2 * (np.abs(x) < 1.2)
    if identity.style == "parted":
        hairline = hairline + 0.22 * smoothstep(part, part - 1.0 * side, x) - 0.05
    if identity.style == "fringe":
        hairline = hairline + 0.05 * strands * smoothstep(0.8, 0.2, np.abs(x)) - 0.04 * np.abs(x)
    mask = soft_inside(level) * np.clip((hairline - y) * UNIT / 5 + 0.5, 0, 1)
    if identity.style in ("long", "bob"):
        # Locks on both sides of the face.
        end = 2.2 if identity.style == "long" else 1.15
        lock = np.abs(np.abs(x) - identity.width - 0.03 - 0.05 * y) / (0.15 + 0.03 * y)
        locks = soft_inside(lock) * smoothstep(end + 0.1, end - 0.15, y + 0.05 * strands) * smoothstep(-0.6, -0.3, y)
        mask = np.maximum(mask, locks)
    if identity.style == "cropped":
        mask = mask * (0.62 + 0.08 * np.clip(strands, -1, 1)) * smoothstep(0.0, 0.25, hairline - y + 0.02)
    return mask.astype(np.float32), _color(identity, scene, strands, x, y)
