"""The part of a drawn person that need not be drawn again: skin, hair, body and background, lit once."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from emibook.corpus.hair import hair_before, hair_behind
from emibook.corpus.looks import Identity, Scene
from emibook.corpus.relief import (
    FACE,
    REDNESS_OF_SHADOW,
    UNIT,
    grid,
    head_relief,
    mound,
    noise,
    outline,
    pair,
    skin_light,
    smoothstep,
    soft_inside,
)


@dataclass(frozen=True)
class Portrait:
    """What ``draw_portrait`` made; all arrays ``(row, column, ...)`` of the texture."""

    color: np.ndarray
    """RGBA uint8; the eyes and the mouth are skin here."""
    relief: np.ndarray
    """Height towards the camera, in face units."""
    shade: np.ndarray
    """(row, column, 3) light on the skin, 1 for full."""


def _skin(identity: Identity, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(row, column, 3) colour of the skin of the face under white light."""
    redness = 0.55 * pair(x, y, 0.55, 0.45, 0.25, 0.2) + 0.5 * mound(x, y, 0, identity.nose_length, 0.16, 0.12)
    redness = redness + 0.25 * mound(x, y, 0, identity.chin - 0.15, 0.25, 0.12)
    redness *= 0.8 - 0.4 * identity.skin
    color = identity.skin_color.astype(np.float32) * (
        1 + redness[..., None] * np.array([0.05, -0.09, -0.08], np.float32)
    )
    around_eyes = pair(x, y, identity.eye_distance, 0.04, 0.24, 0.13)
    color *= 1 - around_eyes[..., None] * np.array([0.09, 0.12, 0.08], np.float32)
    color *= 1 + 0.012 * noise(rng, x.shape, 3)[..., None] + 0.016 * noise(rng, x.shape, 12)[..., None]
    if identity.freckles:
        spots = np.clip(noise(rng, x.shape, 1.3) - 1.1, 0, 0.6) * np.exp(-0.5 * ((y - 0.33) / 0.22) ** 2)
        color *= 1 - identity.freckles * spots[..., None] * np.array([0.25, 0.4, 0.5], np.float32)
    if identity.beard:
        hairy = smoothstep(0.5, 0.95, y + 0.55 * smoothstep(0.55, 1.0, np.abs(x)))
        hairy *= 1 - 0.85 * mound(x, y, 0, identity.mouth_y, 0.30, 0.10)
        hairy *= 1 - pair(x, y, 0.50, 0.55, 0.2, 0.22)
        grain = np.clip(0.85 + 0.22 * noise(rng, x.shape, 1.5), 0, 1)
        share = (identity.beard * 0.9 * hairy * grain)[..., None]
        color = color * (1 - share) + share * np.array(identity.hair_color, np.float32)
    return _brows(identity, rng, x, y, color)


def _brows(identity: Identity, rng: np.random.Generator, x: np.ndarray, y: np.ndarray, color: np.ndarray) -> np.ndarray:
    # From the inner end (t = 0) to the outer (t = 1), thick first, rising to two thirds, then falling.
    inner, outer = identity.eye_distance - 0.26, identity.eye_distance + 0.30
    t = (np.abs(x) - inner) / (outer - inner)
    middle = -identity.brow_height + 0.018 - identity.brow_arch * np.sin(np.pi * np.clip(t, 0, 1) ** 1.25) * 1.3
    middle += 0.05 * np.clip(t - 0.6, 0, None)
    half = identity.brow_thickness * (1 - 0.72 * np.clip(t, 0, 1) ** 1.8)
    inside = smoothstep(1.25, 0.55, np.abs(y - middle) / half)
    inside *= smoothstep(-0.05, 0.08, t) * smoothstep(1.03, 0.9, t)
    strands = noise(rng, (x.shape[0], x.shape[1]), 1.2)
    share = np.clip(inside * (0.86 + 0.13 * strands), 0, 0.97)[..., None]
    dark = np.array(identity.hair_color, np.float32) * (0.55 if max(identity.hair_color) > 110 else 0.85)
    return color * (1 - share) + share * dark


def _put(layer: np.ndarray, mask: np.ndarray, color: np.ndarray, alpha: np.ndarray) -> None:
    """Lay ``color`` over ``layer`` where ``mask``; both change in place."""
    layer += mask[..., None] * (color - layer)
    np.maximum(alpha, mask, out=alpha)


def draw_portrait(identity: Identity, scene: Scene) -> Portrait:
    """Draw everything of a person but eyes and mouth, in the scene's light."""
    rng = np.random.default_rng(identity.seed)
    x, y = grid()
    tint = scene.tint.astype(np.float32)
    skin = identity.skin_color.astype(np.float32)
    layer = np.empty((*x.shape, 3), np.float32)
    layer[:] = np.array(identity.hair_color, np.float32) * 0.8
    alpha = np.zeros(x.shape, np.float32)

    for mask, color in hair_behind(identity, scene, rng):
        _put(layer, mask, color * tint, alpha)
    lx = scene.light[0]
    neck_level = np.abs(x) / (identity.neck + 0.10 * smoothstep(1.5, 2.2, y) ** 2 + 0.5 * smoothstep(1.85, 2.4, y))
    neck_mask = soft_inside(neck_level) * smoothstep(0.2, 0.4, y)
    across = np.clip(x / identity.neck, -1, 1)
    neck_light = (0.80 + 0.26 * lx * across) * np.sqrt(np.clip(1.04 - 0.45 * across**2, 0, None))
    cast = smoothstep(identity.chin + 0.52, identity.chin - 0.05, y + 0.10 * x * np.sign(lx))
    neck_light = neck_light * (1 - 0.42 * cast)
    sinew = np.exp(-0.5 * ((np.abs(x) - 0.16 - 0.22 * (2.1 - y)) / 0.05) ** 2)
    neck_light *= 1 - 0.10 * sinew * smoothstep(1.6, 2.0, y)
    _put(layer, neck_mask, np.clip(neck_light, 0.05, None)[..., None] ** REDNESS_OF_SHADOW * skin * tint, alpha)

    slope = 1.78 + 0.36 * smoothstep(0.5, 1.35, np.abs(x)) + 0.55 * np.clip(np.abs(x) - 0.9, 0, None) ** 2 * 0.55
    top = slope + 4 * np.clip(np.abs(x) - identity.shoulders + 0.25, 0, None) ** 2
    collar = (x / (identity.neck + 0.22)) ** 2 + ((y - 1.72) / (identity.neckline + 0.18)) ** 2
    cloth_mask = np.clip((y - top) * UNIT / 1.3 + 0.5, 0, 1) * (1 - soft_inside(collar))
    folds = noise(rng, (x.shape[0], x.shape[1]), 16) * 0.02 + noise(rng, (x.shape[0], x.shape[1]), 40) * 0.03
    cloth_light = 0.92 + 0.30 * lx * x / identity.shoulders - 0.16 * (x / identity.shoulders) ** 4 + folds
    cloth_light -= 0.13 * np.exp(-0.5 * ((np.sqrt(collar) - 1.10) / 0.04) ** 2)
    cloth_light -= 0.22 * smoothstep(2.5, 1.9, y) * np.exp(-0.5 * (x / 0.8) ** 2)
    cloth = cloth_light[..., None] * np.array(identity.cloth, np.float32) * tint
    _put(layer, cloth_mask, cloth.astype(np.float32), alpha)

    for side in (-1, 1):
        ear = ((x - side * identity.width * 0.985) / 0.13) ** 2 + ((y - 0.16 - side * 0.0) / 0.27) ** 2
        ear_light = (0.78 + 0.22 * side * lx - 0.25 * np.exp(-0.5 * ((ear - 0.35) / 0.18) ** 2))[..., None]
        _put(layer, soft_inside(ear), ear_light**REDNESS_OF_SHADOW * skin * [1.02, 0.93, 0.9] * tint, alpha)

    fx, fy = x[FACE], y[FACE]
    relief = np.zeros(x.shape, np.float32)
    relief[FACE] = head_relief(identity, fx, fy)
    shade = np.ones((*x.shape, 3), np.float32)
    face_light = skin_light(relief[FACE], scene)
    tip, wide = identity.nose_length, identity.nose_width
    nostrils = pair(fx, fy, 0.095 * wide, tip + 0.085, 0.030 * wide, 0.018)
    wings = pair(fx, fy, 0.235 * wide, tip + 0.04, 0.018, 0.055)
    below = mound(fx, fy, -0.10 * np.sign(lx) * abs(lx), tip + 0.165, 0.16 * wide, 0.045)
    under_lip = mound(fx, fy, 0, identity.mouth_y + identity.lower_lip + 0.075, 0.17, 0.035)
    dark = 0.60 * nostrils + 0.17 * wings + 0.20 * below + 0.16 * under_lip
    brow_shadow = pair(fx, fy, identity.eye_distance - 0.14, -0.12, 0.15, 0.06)
    dark += 0.16 * brow_shadow
    face_light *= 1 - np.clip(dark, 0, 0.8)[..., None] * np.array([0.92, 1.0, 1.0], np.float32)
    hair = hair_before(identity, scene, rng)
    hair_shadow = np.zeros(x.shape, np.float32)
    for mask, _ in hair:
        moved = np.roll(mask, (7, int(-5 * np.sign(lx))), (0, 1))
        hair_shadow = np.maximum(hair_shadow, cv2.GaussianBlur(moved, (0, 0), 5))
    face_light *= 1 - 0.30 * hair_shadow[FACE][..., None]
    shade[FACE] = face_light
    face_mask = np.zeros(x.shape, np.float32)
    face_mask[FACE] = soft_inside(outline(identity, fx, fy))
    face = np.zeros_like(layer)
    face[FACE] = _skin(identity, rng, fx, fy) * face_light * tint
    _put(layer, face_mask, face, alpha)
    for mask, color in hair:
        _put(layer, mask, color * tint, alpha)

    color = np.dstack([np.clip(layer, 0, 255), alpha * 255]).astype(np.uint8)
    depth = relief.copy()
    depth[FACE] = np.maximum(relief[FACE], 0.0)
    return Portrait(color=color, relief=depth, shade=shade)


def draw_background(scene: Scene, width: int, height: int) -> np.ndarray:
    """(height, width, 3) uint8: a wall with a few things out of focus."""
    rng = np.random.default_rng(scene.seed)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32) / height
    across = columns / columns.max() - 0.5
    light = 0.95 - 0.35 * scene.light[0] * across * -1 - 0.12 * rows
    picture = light[..., None] * np.array(scene.wall, np.float32)
    for _ in range(rng.integers(1, 6)):
        x0, y0 = rng.uniform(-0.15, 0.95) * width, rng.uniform(-0.2, 0.7) * height
        x1, y1 = x0 + rng.uniform(0.06, 0.35) * width, y0 + rng.uniform(0.15, 0.9) * height
        thing = np.zeros((height, width), np.float32)
        cv2.rectangle(thing, (int(x0), int(y0)), (int(x1), int(y1)), 1.0, -1)
        thing = cv2.GaussianBlur(thing, (0, 0), rng.uniform(1.5, 6) * height / 240)[..., None]
        color = np.array(scene.wall, np.float32) * rng.uniform(0.6, 1.3) + rng.normal(0, 9, 3)
        picture += thing * 0.8 * (color * light[..., None] - picture)
    picture *= scene.tint.astype(np.float32)
    return np.clip(picture, 4, 250).astype(np.uint8)
