"""The relief of a drawn head and the light on it.

A relief ``z(x, y)`` is shaded by its normals. The same relief with a muscle's folds added gives their light and shadow
(``muscles``). Lengths are in face units (``looks``).
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from emibook.puppet.looks import Identity, Scene

UNIT = 96
"""Pixels of the texture per face unit: about twice the resolution of the picture."""
ORIGIN = (3.0, 1.9)
"""Face units from the texture's left and upper edge to the point between the eyes."""
TEXTURE = (6 * UNIT, 5 * UNIT)
"""Width and height of the texture in pixels."""
REDNESS_OF_SHADOW = np.array([0.86, 1.0, 1.08], np.float32)
"""Exponents per channel: light that passed through skin is red, so shadows on skin keep more red than blue."""


@cache
def grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y of the texture's pixels, in face units."""
    columns = (np.arange(TEXTURE[0], dtype=np.float32) + 0.5) / UNIT - ORIGIN[0]
    rows = (np.arange(TEXTURE[1], dtype=np.float32) + 0.5) / UNIT - ORIGIN[1]
    x, y = np.meshgrid(columns, rows)
    return x, y


def window(x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
    """Rows and columns of the texture inside a box in face units."""
    rows = slice(max(0, round((y0 + ORIGIN[1]) * UNIT)), min(TEXTURE[1], round((y1 + ORIGIN[1]) * UNIT)))
    columns = slice(max(0, round((x0 + ORIGIN[0]) * UNIT)), min(TEXTURE[0], round((x1 + ORIGIN[0]) * UNIT)))
    return rows, columns


FACE = window(-1.2, -1.4, 1.2, 1.75)
"""The part of the texture with the face and its folds."""


def smoothstep(low: float, high: float, value: np.ndarray) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between; falling where ``high`` is less than ``low``."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def mound(x: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """A Gaussian hill of height 1."""
    return np.exp(-0.5 * (((x - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))


def pair(x: np.ndarray, y: np.ndarray, cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
    """The same hill (``mound``) on both sides of the face."""
    return mound(np.abs(x), y, cx, cy, sx, sy)


def outline(identity: Identity, x: np.ndarray, y: np.ndarray, grow: float = 0.0) -> np.ndarray:
    """Level of the head's outline widened by ``grow`` face units: below 1 inside, 1 on it."""
    half_height = np.where(y < 0, 1.28 + grow, identity.chin + grow)
    half_width = (identity.width + grow) * (1 - identity.taper * smoothstep(0.2, 1.5, y))
    n = 2.2 + (identity.squareness - 2.2) * smoothstep(-0.5, 0.5, y)
    return (np.abs(x) / half_width) ** n + (np.abs(y) / half_height) ** n


def _slopes(heights: np.ndarray) -> list[np.ndarray]:
    """Derivatives of ``heights`` ``(row, column)`` per pixel, downwards and to the right."""
    heights = heights.astype(np.float32, copy=False)
    return [cv2.Sobel(heights, cv2.CV_32F, *axes, ksize=1, scale=0.5, borderType=cv2.BORDER_REPLICATE)
            for axes in ((0, 1), (1, 0))]


def soft_inside(level: np.ndarray, width_pixels: float = 1.2) -> np.ndarray:
    """Mask 0..1 of ``level < 1`` with an edge of ``width_pixels``."""
    down, right = _slopes(level)
    slope = np.sqrt(right**2 + down**2) + 1e-6
    return np.clip((1 - level) / (slope * width_pixels) + 0.5, 0, 1)


def head_relief(identity: Identity, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(row, column) height of the head towards the camera, in face units."""
    level = outline(identity, x, y)
    z = 0.82 * np.sqrt(np.clip(1 - level**1.35, 0, None))
    tip, tall, wide = identity.nose_length, identity.nose_height, identity.nose_width
    along = np.clip((y + 0.12) / (tip + 0.12), 0, 1)
    ridge = np.exp(-0.5 * (x / ((0.075 + 0.035 * along) * wide)) ** 2) * (0.03 + 0.20 * along**1.3)
    under = smoothstep(tip + 0.19, tip - 0.02, y)
    z += tall * under * smoothstep(-0.22, 0.05, y) * ridge
    z += tall * 0.11 * mound(x, y, 0, tip - 0.01, 0.10 * wide, 0.085)
    z += tall * 0.085 * pair(x, y, 0.155 * wide, tip + 0.035, 0.06 * wide, 0.06)
    z -= 0.115 * pair(x, y, identity.eye_distance - 0.04, -0.06, 0.24, 0.13)
    z += 0.055 * pair(x, y, identity.eye_distance, 0.0, 0.15, 0.085)
    z += 0.05 * pair(x, y, 0.36, -identity.brow_height + 0.02, 0.28, 0.075)
    z += 0.075 * pair(x, y, 0.56, 0.36, 0.22, 0.17)
    z -= 0.03 * pair(x, y, 0.62, 0.85, 0.18, 0.22)
    z += 0.055 * mound(x, y, 0, identity.mouth_y, 0.34, 0.19)
    z -= 0.02 * mound(x, y, 0, (tip + identity.mouth_y) / 2 + 0.02, 0.035, 0.08)
    z -= 0.045 * mound(x, y, 0, identity.mouth_y + 0.22, 0.19, 0.05)
    z += 0.075 * mound(x, y, 0, identity.chin - 0.16, 0.2, 0.11)
    return z.astype(np.float32)


def light_on(relief: np.ndarray, scene: Scene, gloss: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Diffuse light and gloss (Blinn-Phong) on a relief, ``(row, column)`` each, 1 for full light."""
    down, right = (UNIT * slope for slope in _slopes(relief))
    length = 1 / np.sqrt(1 + down**2 + right**2)
    lx, ly, lz = scene.light
    facing = (lz - lx * right - ly * down) * length
    wrapped = np.clip((facing + 0.25) / 1.25, 0, 1.05)
    light = scene.ambient * (0.75 + 0.25 * length) + (1.12 - scene.ambient) * wrapped
    if not gloss:
        return light, np.zeros_like(light)
    half = np.array([lx, ly, lz + 1])
    hx, hy, hz = half / np.linalg.norm(half)
    return light, gloss * np.clip((hz - hx * right - hy * down) * length, 0, 1) ** 28


def skin_light(relief: np.ndarray, scene: Scene) -> np.ndarray:
    """(row, column, 3) light on skin with that ``relief``."""
    light, gloss = light_on(relief, scene, gloss=0.10)
    return np.clip(light, 0.02, None)[..., None] ** REDNESS_OF_SHADOW + gloss[..., None]


def noise(rng: np.random.Generator, shape: tuple[int, int], blur: float) -> np.ndarray:
    """Smooth noise of standard deviation 1."""
    small = max(1, int(blur / 2))
    coarse = rng.standard_normal((shape[0] // small + 2, shape[1] // small + 2), np.float32)
    coarse = cv2.GaussianBlur(coarse, (0, 0), blur / small)
    out = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return out / (out.std() + 1e-6)
