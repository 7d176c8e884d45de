"""The puppet: a drawn portrait that moves by facial action units.

A person is drawn once, at about twice the resolution of the picture. For each frame the folds of the active units are
added to the skin, eyes and mouth are drawn into it, and one warp moves the skin with the muscles and the head and
scales it to the size of the picture.

It is a drawing: results on it say nothing about people.
"""

from __future__ import annotations

import cv2
import numpy as np

from emibook.puppet.eyes_and_mouth import Eye, Mouth
from emibook.puppet.glasses import DEPTH, draw_glasses
from emibook.puppet.looks import Identity, Pose, Scene
from emibook.puppet.muscles import GRID, UNIT_NAMES, UNITS, draw_folds, pull_fields
from emibook.puppet.portrait import draw_background, draw_portrait
from emibook.puppet.relief import FACE, ORIGIN, TEXTURE, UNIT, smoothstep

__all__ = ["UNITS", "UNIT_NAMES", "Identity", "Pose", "Puppet", "Scene"]

CELL = 8
"""Pixels of the picture between two points of the warp."""
NECK = 1.75
"""The height about which the head rolls, in face units below the eyes."""


class Puppet:
    """One person in one scene; ``draw`` renders a frame."""

    def __init__(self, identity: Identity, scene: Scene, width: int = 320, height: int = 240) -> None:
        self.identity, self.scene, self.width, self.height = identity, scene, width, height
        portrait = draw_portrait(identity, scene)
        self.backdrop = draw_background(scene, width, height)
        self._portrait = portrait.color
        self._texture = portrait.color.copy()
        self._folds = draw_folds(identity, scene, portrait)
        self._pulls = pull_fields()
        self._flat = self._pulls.reshape(len(UNITS), -1)
        depth = cv2.GaussianBlur(portrait.relief, (0, 0), 0.05 * UNIT)[GRID // 2 :: GRID, GRID // 2 :: GRID]
        self._depth = depth[: self._pulls.shape[1], : self._pulls.shape[2]]
        self._eyes = [Eye(identity, scene, portrait, side) for side in (-1, 1)]
        self._mouth = Mouth(identity, scene, portrait)
        self._glasses = draw_glasses(identity, scene)
        columns = (np.arange(-1, width // CELL + 2, dtype=np.float32) + 0.5) * CELL - 0.5
        rows = (np.arange(-1, height // CELL + 2, dtype=np.float32) + 0.5) * CELL - 0.5
        self._cells = np.meshgrid(columns, rows)
        noise = np.random.default_rng(scene.seed).standard_normal((height + 64, width + 64, 3), np.float32)
        luma = noise[..., :1] + 0.45 * noise
        self._noise = np.round(cv2.GaussianBlur(luma, (0, 0), 0.6) * 1.35 * scene.noise).astype(np.int16)

    def draw(
        self,
        units: np.ndarray,
        *,
        pose: Pose | None = None,
        noise_rng: np.random.Generator | None = None,
        backdrop: np.ndarray | None = None,
    ) -> np.ndarray:
        """Render one frame.

        Args:
            units: (17,) intensities 0..5 in the order of ``UNITS``.
            pose: of the head; without it the head is at rest.
            noise_rng: chooses the sensor noise; without it there is none.
            backdrop: (height, width, 3) uint8 RGB, a picture to draw over instead of the scene's background.

        Returns:
            (height, width, 3) uint8 RGB.

        Raises:
            ValueError: ``units`` has another shape.
        """
        units = np.clip(np.asarray(units, np.float32), 0, 5)
        if units.shape != (len(UNITS),):
            raise ValueError(f"units have shape {units.shape}, expected ({len(UNITS)},)")
        pose = pose or Pose()
        texture = self._texture
        texture[FACE] = self._portrait[FACE]
        for index, fold in self._folds.items():
            if units[index] > 0.05:
                skin, share = texture[fold.box], float(units[index]) / 5
                cv2.subtract(skin, cv2.convertScaleAbs(fold.darker, alpha=share), skin)
                cv2.add(skin, cv2.convertScaleAbs(fold.lighter, alpha=share), skin)
        for eye in self._eyes:
            eye.draw(texture, units, pose)
        self._mouth.draw(texture, units)
        head = self._head(pose)
        picture = self._composite(self.backdrop if backdrop is None else backdrop, self._source(head, units, pose))
        if self._glasses is not None:
            self._add_glasses(picture, head, pose)
        return self.add_noise(picture, noise_rng)

    def add_noise(self, picture: np.ndarray, noise_rng: np.random.Generator | None) -> np.ndarray:
        """The picture with sensor noise; without ``noise_rng`` the picture itself."""
        if noise_rng is None:
            return picture
        row, column = noise_rng.integers(0, 64, 2)
        noise = self._noise[row : row + self.height, column : column + self.width]
        return cv2.add(picture, noise, dtype=cv2.CV_8U)

    def _head(self, pose: Pose) -> np.ndarray:
        """(row, column, 2) the texture's column and row at each cell of the picture, for a head facing the camera."""
        columns, rows = self._cells
        size = self.scene.scale * self.height
        x = (columns - self.scene.x * self.width) / size - pose.walk
        y = (rows - self.scene.y * self.height) / size
        # The shoulders follow the head by a third.
        share = 0.3 + 0.7 * smoothstep(2.3, 1.5, y)
        cos, sin = np.cos(pose.roll) / pose.scale, np.sin(pose.roll) / pose.scale
        moved_x, moved_y = x - pose.x, y - pose.y - NECK
        x = x + share * (cos * moved_x + sin * moved_y - x)
        y = y + share * (cos * moved_y - sin * moved_x + NECK - y)
        return np.dstack([(x + ORIGIN[0]) * UNIT - 0.5, (y + ORIGIN[1]) * UNIT - 0.5]).astype(np.float32)

    def _source(self, head: np.ndarray, units: np.ndarray, pose: Pose) -> np.ndarray:
        """(height, width, 2) the texture's column and row at each pixel of the picture."""
        field = (units / 5 @ self._flat).reshape(self._pulls.shape[1:])
        # A turn shifts protruding parts of the face relative to those further back.
        field[..., 0] += UNIT * float(np.sin(pose.yaw)) * self._depth
        field[..., 1] += UNIT * float(np.sin(pose.pitch)) * self._depth
        pulled = cv2.remap(field, head / GRID, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        return self._upsample(head - pulled)

    def _upsample(self, cells: np.ndarray) -> np.ndarray:
        """Interpolate (row, column, 2) at the cells to (height, width, 2) at the picture's pixels."""
        upsampled = cv2.resize(cells, None, fx=CELL, fy=CELL, interpolation=cv2.INTER_LINEAR)
        return upsampled[CELL : CELL + self.height, CELL : CELL + self.width]

    def _add_glasses(self, picture: np.ndarray, head: np.ndarray, pose: Pose) -> None:
        (rows, columns), layer = self._glasses
        turn = UNIT * DEPTH * np.sin([pose.yaw, pose.pitch])
        source = self._upsample(head - (turn + [columns.start, rows.start]).astype(np.float32))
        inside = (source[..., 1] > -1) & (source[..., 1] < layer.shape[0])
        rows = np.flatnonzero(inside.any(1))
        if not len(rows):
            return
        band = slice(rows[0], rows[-1] + 1)
        glasses = cv2.remap(layer, source[band], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
        blended = picture[band].astype(np.float32) * (1 - glasses[..., 3:].astype(np.float32) / 255) + glasses[..., :3]
        picture[band] = np.clip(blended + 0.5, 0, 255)

    def _composite(self, backdrop: np.ndarray, source: np.ndarray) -> np.ndarray:
        figure = cv2.remap(self._texture, source, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.extractChannel(figure, 3).astype(np.float32) * (1 / 255)
        alpha[(source[..., 0] < 1) | (source[..., 0] > TEXTURE[0] - 2)] = 0
        return cv2.blendLinear(cv2.cvtColor(figure, cv2.COLOR_RGBA2RGB), backdrop, alpha, 1 - alpha)
