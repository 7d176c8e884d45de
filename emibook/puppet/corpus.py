"""The puppet corpus: drawn people mimic seed videos, in real video files in the layout of Hume-Vidmimic2.

Each clip has a participant and a seed video, which give its emotions (``casting``, ``labels``). They determine action
units and manner of speaking (``acting``), from which pictures (``renderer``) and sound (``voice``) are made and encoded
(``filming``). Results on this corpus say nothing about people.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter1d

from emibook import InputError, compute, files
from emibook.corpus import hume_vidmimic2
from emibook.preprocess import media
from emibook.puppet import acting
from emibook.puppet.acting import EXPRESSIONS, MANNERS, Performer
from emibook.puppet.casting import STREAMS, TRAP_SECONDS, TRAPS, ClipPlan, plan
from emibook.puppet.filming import film, record
from emibook.puppet.renderer import UNIT_NAMES, UNITS, Identity, Pose, Puppet, Scene
from emibook.puppet.voice import speak

__all__ = [
    "EXPRESSIONS", "MANNERS", "TRAPS", "TRAP_SECONDS", "ClipPlan", "cast", "make_corpus", "plan", "random_stills"
]

VERSION = 2
"""Changes whenever pictures, sound or labels change: a corpus is not resumed by another version."""
DEFAULT_CLIPS = 240
"""As many as two processor cores render in a little over a minute."""
ROOM_NOISE = 0.0015
"""Root mean square of the noise that is added to every voice, as a share of full scale."""
FOLDERS = ("raw", "audio", "test_data/raw", "truth")


def cast(item: ClipPlan) -> tuple[Performer, np.random.Generator]:
    """The participant of a clip, and the source of the clip's random numbers."""
    performer = Performer.random(np.random.default_rng([item.seed, STREAMS["participant"], item.participant]))
    return performer, np.random.default_rng([item.seed, STREAMS["clip"], int(item.clip)])


@lru_cache(maxsize=4)
def _puppet(seed: int, participant: int) -> Puppet:
    rng = np.random.default_rng([seed, STREAMS["participant"], participant])
    Performer.random(rng)  # the identity uses the random numbers that follow
    return Puppet(Identity.random(rng), Scene.random(rng))


def _write_clip(item: ClipPlan, *, root: Path) -> None:
    """Render and write one clip. Its table in ``truth`` is written last and marks the clip as complete."""
    performer, rng = cast(item)
    puppet = _puppet(item.seed, item.participant)
    manner = acting.manner_of(performer, np.array(item.felt), rng)
    sound = _sound(item, manner, rng)
    loudness = np.sqrt(uniform_filter1d(sound.astype(float) ** 2, media.SAMPLE_RATE // 12))
    loudness = loudness[:: media.SAMPLE_RATE // acting.MOTION_RATE]
    loudness = np.clip(loudness / (3 * manner.energy), 0, 1)
    performance = acting.perform(performer, np.array(item.felt), item.seconds, loudness, rng)
    times = _times(item, rng)
    visible = np.full(len(times), item.trap != "no_face")
    if item.trap == "half_face":
        visible = times < item.seconds / 2
    pictures = _pictures(puppet, performance, times, visible, _passer_by(item, rng), rng)
    film(
        root / item.video,
        pictures,
        times,
        sound=None if item.trap == "no_sound" else sound,
        rate=1000 if item.trap == "absurd_rate" else media.FRAME_RATE,
        container={"absurd_rate": "matroska", "webm": "webm"}.get(item.trap, "mp4"),
    )
    if item.partition != "test" and item.trap != "no_sound":
        record(root / "audio" / f"{item.clip}.mp3", sound)
    # A picture is shown from the frame of the clock that is nearest to its time.
    first = np.round(times * media.FRAME_RATE).astype(int)
    rows = []
    for frame in range(first[-1] + 1):
        time = frame / media.FRAME_RATE
        face = int(visible[np.searchsorted(first, frame, side="right") - 1])
        units = performance.at(time)[0] if face else np.zeros(len(UNITS))
        rows.append([frame, f"{time:.6f}", *(f"{unit:.3f}" for unit in units), face])
    _write_rows(
        root / "truth" / f"{item.clip}.csv", ["frame", "time", *(f"{name}_r" for name in UNIT_NAMES), "face"], rows
    )


def _sound(item: ClipPlan, manner: acting.Manner, rng: np.random.Generator) -> np.ndarray:
    voice = speak(item.seconds, manner, rng=rng)
    room = ROOM_NOISE * uniform_filter1d(rng.standard_normal(len(voice)), 3) * np.sqrt(3)
    return np.zeros_like(voice) if item.trap == "silence" else np.clip(voice + room, -1, 1).astype(np.float32)


def _times(item: ClipPlan, rng: np.random.Generator) -> np.ndarray:
    """Times of the pictures, in seconds from the first."""
    if item.trap == "variable_rate":
        gaps = rng.choice([0.018, 0.033, 0.040, 0.067, 0.110], int(item.seconds * 40), p=[0.15, 0.4, 0.2, 0.15, 0.1])
        times = np.concatenate([[0.0], np.cumsum(gaps)])
        return times[times < item.seconds]
    return np.arange(round(item.seconds * media.FRAME_RATE)) / media.FRAME_RATE


def _passer_by(item: ClipPlan, rng: np.random.Generator) -> Puppet | None:
    if item.trap != "passer_by":
        return None
    scene = Scene(seed=int(rng.integers(2**31)), x=0.5, y=0.33, scale=0.09, noise=0.0)
    return Puppet(Identity.random(rng), scene)


def _pictures(
    puppet: Puppet,
    performance: acting.Performance,
    times: np.ndarray,
    visible: np.ndarray,
    passer_by: Puppet | None,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    direction = rng.choice([-1.0, 1.0])
    for time, has_face in zip(times, visible, strict=True):
        units, pose = performance.at(time)
        backdrop = puppet.backdrop
        if passer_by is not None:
            walk = direction * (16 * time / max(times[-1], 0.1) - 8)
            backdrop = passer_by.draw(np.zeros(len(UNITS)), pose=Pose(walk=float(walk)), backdrop=backdrop)
        if has_face:
            yield puppet.draw(units, pose=pose, noise_rng=rng, backdrop=backdrop)
        else:
            yield puppet.add_noise(backdrop, rng)


def _write_rows(path: Path, header: list[str], rows: list[list]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def _claim(root: Path, settings: dict) -> None:
    """Create ``root`` with its settings, or check that it has the same. A folder of anything else is not changed."""
    path = root / "puppet.json"
    if path.is_file():
        try:
            present = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            present = None
        if present != settings:
            own = (", ".join(f"{key} {present.get(key)}" for key in settings) if isinstance(present, dict)
                   else "unreadable")
            requested = ", ".join(f"{key} {value}" for key, value in settings.items())
            raise InputError(f"{path}: belongs to another corpus ({own}; requested {requested}); give another folder")
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root}: holds something that is not a puppet corpus; give a new or an empty folder")
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        files.write_text(path, json.dumps(settings, indent=1) + "\n")


def make_corpus(
    root: Path | str, *, clips: int = DEFAULT_CLIPS, seed: int = 0, workers: int | None = None, progress: bool = True
) -> Path:
    """Write a puppet corpus under ``root`` in the layout of Hume-Vidmimic2. Called again, it resumes.

    It also has ``puppet.json`` (its settings), ``participants.csv`` (``clip,participant,seed_video``) and ``truth/``:
    ``<clip>.csv`` with the action units 0..5 of every frame of the 30 fps clock, ``labels.csv`` with the labels of all
    clips including test, and ``clips.csv`` with the felt emotions, the number of raters, the manner of speaking and
    the trap (recording fault), if any, of each clip.

    Args:
        root: a new or empty folder, or one of an unfinished corpus with the same settings.
        clips: how many, 20 to 20,000.
        seed: the same seed gives the same bytes on any number of workers.
        workers: processes; by default as many as there are processor cores.
        progress: whether to show a progress bar.

    Returns:
        ``root``.

    Raises:
        InputError: ``root`` holds anything else, or a corpus with other settings.
    """
    root = Path(root)
    items = plan(clips, seed)
    _claim(root, {"name": "puppet", "seed": seed, "clips": clips, "version": VERSION})
    with files.lock(root, progress=progress):
        _write_clips(root, items, workers=workers, progress=progress)
        _write_tables(root, items)
    return root


def _write_clips(root: Path, items: list[ClipPlan], *, workers: int | None, progress: bool) -> None:
    """Write the clips that are missing, then delete what writers that were killed have left."""
    missing = [item for item in items if not (root / "truth" / f"{item.clip}.csv").is_file()]
    missing.sort(key=lambda item: item.participant)  # so that a worker seldom draws a portrait twice
    for item, result in compute.run(
        partial(_write_clip, root=root), missing, label="draw clips",
        resources=compute.Resources(workers=workers, progress=progress),
    ):
        if isinstance(result, Exception):
            raise RuntimeError(f"clip {item.clip} could not be drawn ({item.trap or 'plain'})") from result
    for folder in FOLDERS:
        for path in (root / folder).iterdir():
            if re.fullmatch(r"\..+\.[0-9]+", path.name):  # a temporary name of ``files.replacing``
                path.unlink(missing_ok=True)


def _write_tables(root: Path, items: list[ClipPlan]) -> None:
    emotions = list(hume_vidmimic2.EMOTIONS)
    table = pd.DataFrame(
        [[item.clip, item.partition, *item.labels] for item in items], columns=["clip", "partition", *emotions]
    )
    hume_vidmimic2.write_split(root / "truth" / "labels.csv", table)
    participants = [[item.clip, f"p{item.participant:03d}", f"s{item.seed_video:03d}"] for item in items]
    _write_rows(root / "participants.csv", ["clip", "participant", "seed_video"], participants)
    manners = {}
    for item in items:
        performer, rng = cast(item)
        manners[item.clip] = asdict(acting.manner_of(performer, np.array(item.felt), rng))
    header = ["clip", "partition", "trap", "raters", *(f"felt {emotion}" for emotion in emotions)]
    header += list(next(iter(manners.values())))
    rows = [
        [item.clip, item.partition, item.trap, item.raters, *(f"{felt:.4f}" for felt in item.felt)]
        + [f"{value:.5g}" for value in manners[item.clip].values()]
        for item in items
    ]
    _write_rows(root / "truth" / "clips.csv", header, rows)
    for partition, name in reversed(hume_vidmimic2.SPLITS.items()):
        hume_vidmimic2.write_split(root / name, table[table["partition"] == partition])


def random_stills(rng: np.random.Generator, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Stills of one random person who is in no corpus.

    Two thirds show one emotion or two, with random units added; the others show random units only. The random numbers
    are independent of those of any corpus.

    Yields:
        Picture (height, width, 3) uint8 RGB, units (17,) 0..5, emotions (6,) 0..1.
    """
    rng = np.random.default_rng([int(rng.integers(2**62)), STREAMS["still"]])
    puppet = Puppet(Identity.random(rng), Scene.random(rng))
    for _ in range(count):
        units, emotions = _random_expression(rng)
        yield puppet.draw(units, pose=Pose.random(rng), noise_rng=rng), units, emotions


def _random_expression(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    emotions = np.zeros(len(EXPRESSIONS))
    units = np.clip(rng.normal(-0.1, 0.35, len(UNITS)), 0, None)
    if rng.uniform() < 0.67:
        shown = rng.choice(len(emotions), 1 if rng.uniform() < 0.7 else 2, replace=False)
        emotions[shown] = rng.uniform(0.15, 1.0, len(shown))
        units += emotions @ EXPRESSIONS * rng.lognormal(0, 0.2, len(UNITS))
        chosen = rng.choice(len(UNITS), rng.integers(0, 3), replace=False)
    else:
        chosen = rng.choice(len(UNITS), rng.integers(1, 6), replace=False)
    units[chosen] += rng.uniform(0, 5, len(chosen))
    return np.clip(units, 0, 5), emotions
