"""The puppet corpus: drawn people mimic seed videos, in real video files laid out like Hume-Vidmimic2.

The way of a clip: a participant and a seed video give what is felt (``casting``, ``labels``), the participant shows it
(``acting``), the puppet is drawn and its voice made (``puppet``, ``voice``), and a camera writes a file (``filming``).
What a method reaches on these drawings says nothing about people.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import uniform_filter1d

from emibook import InputError, compute
from emibook.corpus import hume_vidmimic2
from emibook.puppet import acting
from emibook.puppet.acting import EXPRESSIONS, MANNERS, Performer
from emibook.puppet.casting import CLOCK, STREAMS, TRAP_SECONDS, TRAPS, ClipPlan, plan
from emibook.puppet.filming import film, record
from emibook.puppet.renderer import UNIT_NAMES, UNITS, Identity, Pose, Puppet, Scene
from emibook.puppet.voice import RATE, speak

__all__ = [
    "EXPRESSIONS", "MANNERS", "TRAPS", "TRAP_SECONDS", "ClipPlan", "cast", "make_corpus", "plan", "random_stills"
]

VERSION = 2
"""Changes with every change of what is drawn: a corpus is not gone on with by another version."""
DEFAULT_CLIPS = 240
"""As many as two cores draw in a little over a minute."""
ROOM = 0.0015
"""Root mean square of the noise that every microphone hears besides the voice."""


def cast(item: ClipPlan) -> tuple[Performer, np.random.Generator]:
    """Who acts in the clip, and the random numbers that its acting and drawing go by."""
    performer = Performer.random(np.random.default_rng([item.seed, STREAMS["participant"], item.participant]))
    return performer, np.random.default_rng([item.seed, STREAMS["clip"], int(item.clip)])


@lru_cache(maxsize=4)
def _puppet(seed: int, participant: int) -> Puppet:
    rng = np.random.default_rng([seed, STREAMS["participant"], participant])
    Performer.random(rng)  # the looks are what is drawn next
    return Puppet(Identity.random(rng), Scene.random(rng))


def _make_clip(item: ClipPlan, *, root: Path) -> None:
    """Act, draw, speak and write one clip; its truth is written last and says that the clip is done."""
    performer, rng = cast(item)
    puppet = _puppet(item.seed, item.participant)
    manner = acting.manner_of(performer, np.array(item.felt), rng)
    sound = _sound(item, manner, rng)
    loudness = np.sqrt(uniform_filter1d(sound.astype(float) ** 2, RATE // 12))[:: RATE // acting.RATE]
    loudness = np.clip(loudness / (3 * manner.energy), 0, 1)
    performance = acting.perform(performer, np.array(item.felt), item.seconds, loudness, rng)
    times = _times(item, rng)
    seen = np.full(len(times), item.trap != "no_face")
    if item.trap == "half_face":
        seen = times < item.seconds / 2
    pictures = _pictures(puppet, performance, times, seen, _passer_by(item, rng), rng)
    film(
        root / item.video,
        pictures,
        times,
        sound=None if item.trap == "no_sound" else sound,
        sound_rate=RATE,
        rate=1000 if item.trap == "absurd_rate" else CLOCK,
        container={"absurd_rate": "matroska", "webm": "webm"}.get(item.trap, "mp4"),
    )
    if item.partition != "test" and item.trap != "no_sound":
        record(root / "audio" / f"{item.clip}.mp3", sound, RATE)
    # A picture shows from the frame of the clock that is nearest to its time.
    first = np.round(times * CLOCK).astype(int)
    rows = []
    for frame in range(first[-1] + 1):
        time = frame / CLOCK
        face = int(seen[np.searchsorted(first, frame, side="right") - 1])
        units = performance.at(time)[0] if face else np.zeros(len(UNITS))
        rows.append([frame, f"{time:.6f}", *(f"{unit:.3f}" for unit in units), face])
    _write_rows(
        root / "truth" / f"{item.clip}.csv", ["frame", "time", *(f"{name}_r" for name in UNIT_NAMES), "face"], rows
    )


def _sound(item: ClipPlan, manner: acting.Manner, rng: np.random.Generator) -> np.ndarray:
    voice = speak(item.seconds, manner, rng=rng)
    room = ROOM * uniform_filter1d(rng.standard_normal(len(voice)), 3) * np.sqrt(3)
    return np.zeros_like(voice) if item.trap == "silence" else np.clip(voice + room, -1, 1).astype(np.float32)


def _times(item: ClipPlan, rng: np.random.Generator) -> np.ndarray:
    """When the camera takes its pictures, seconds from the first."""
    if item.trap == "variable_rate":
        gaps = rng.choice([0.018, 0.033, 0.040, 0.067, 0.110], int(item.seconds * 40), p=[0.15, 0.4, 0.2, 0.15, 0.1])
        times = np.concatenate([[0.0], np.cumsum(gaps)])
        return times[times < item.seconds]
    return np.arange(round(item.seconds * CLOCK)) / CLOCK


def _passer_by(item: ClipPlan, rng: np.random.Generator) -> Puppet | None:
    if item.trap != "passer_by":
        return None
    scene = Scene(seed=int(rng.integers(2**31)), x=0.5, y=0.33, scale=0.09, noise=0.0)
    return Puppet(Identity.random(rng), scene)


def _pictures(
    puppet: Puppet,
    performance: acting.Performance,
    times: np.ndarray,
    seen: np.ndarray,
    passer_by: Puppet | None,
    rng: np.random.Generator,
) -> Iterator[np.ndarray]:
    direction = rng.choice([-1.0, 1.0])
    for time, visible in zip(times, seen, strict=True):
        units, pose = performance.at(time)
        backdrop = puppet.backdrop
        if passer_by is not None:
            walk = direction * (16 * time / max(times[-1], 0.1) - 8)
            backdrop = passer_by.draw(np.zeros(len(UNITS)), pose=Pose(walk=float(walk)), backdrop=backdrop)
        if visible:
            yield puppet.draw(units, pose=pose, noise_rng=rng, backdrop=backdrop)
        else:
            yield puppet.grain(backdrop, rng)


def _write_rows(path: Path, header: list[str], rows: list[list]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    _write_text(path, text.getvalue())


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _claim(root: Path, marks: dict) -> None:
    """Make ``root`` this corpus's own, or find that it already is; anything else there is left alone."""
    mark = root / "puppet.json"
    if mark.is_file():
        try:
            found = json.loads(mark.read_text(encoding="utf-8"))
        except ValueError:
            found = None
        if found != marks:
            told = ", ".join(f"{key} {found.get(key)}" for key in marks) if isinstance(found, dict) else "unreadable"
            wanted = ", ".join(f"{key} {value}" for key, value in marks.items())
            raise InputError(f"{mark}: belongs to another corpus ({told}; asked for {wanted}); give another folder")
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root}: holds something that is not a puppet corpus; give a new or an empty folder")
    for folder in ("raw", "audio", "test_data/raw", "truth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    if not mark.is_file():
        _write_text(mark, json.dumps(marks, indent=1) + "\n")


def make_corpus(
    root: Path | str, *, clips: int = DEFAULT_CLIPS, seed: int = 0, workers: int | None = None, progress: bool = True
) -> Path:
    """Write a puppet corpus under ``root`` in the layout of Hume-Vidmimic2, and return that folder.

    Known extras are ``puppet.json`` (what it was made from), ``participants.csv`` (``clip,participant,seed_video``) and
    ``truth/``: ``<clip>.csv`` with the action units 0..5 of every frame of the 30 fps clock, ``labels.csv`` with the
    labels of all clips, test too, and ``clips.csv`` with what each clip was made from: the shares felt, the number of
    raters, the manner of speaking and the trap it is, if any.

    Called again on the same folder it goes on where it was stopped. The same seed gives the same bytes on any number
    of ``workers``. Raises ``InputError`` where ``root`` holds anything else, or a corpus of another seed or size.
    """
    root = Path(root)
    items = plan(clips, seed)
    _claim(root, {"name": "puppet", "seed": seed, "clips": clips, "version": VERSION})
    missing = [item for item in items if not (root / "truth" / f"{item.clip}.csv").is_file()]
    missing.sort(key=lambda item: item.participant)  # a worker then seldom draws a portrait twice
    for item, result in compute.run(
        partial(_make_clip, root=root), missing, label="draw clips",
        resources=compute.Resources(workers=workers, progress=progress),
    ):
        if isinstance(result, Exception):
            raise RuntimeError(f"clip {item.clip} could not be drawn ({item.trap or 'plain'})") from result
    _write_tables(root, items)
    return root


def _write_tables(root: Path, items: list[ClipPlan]) -> None:
    emotions = list(hume_vidmimic2.EMOTIONS)
    table = pd.DataFrame(
        [[item.clip, item.partition, *item.labels] for item in items], columns=["clip", "partition", *emotions]
    )
    hume_vidmimic2.write_split(root / "truth" / "labels.csv", table)
    people = [[item.clip, f"p{item.participant:03d}", f"s{item.seed_video:03d}"] for item in items]
    _write_rows(root / "participants.csv", ["clip", "participant", "seed_video"], people)
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
    """Stills of one person who is in no corpus: picture, units ``(17,)`` 0..5, emotions ``(6,)`` 0..1.

    Two thirds pose one emotion or two, with units of their own added; the rest combine units freely and pose none.
    Identities come from a stream of random numbers that no corpus draws from.
    """
    rng = np.random.default_rng([int(rng.integers(2**62)), STREAMS["still"]])
    puppet = Puppet(Identity.random(rng), Scene.random(rng))
    for _ in range(count):
        units, emotions = _pose(rng)
        yield puppet.draw(units, pose=Pose.random(rng), noise_rng=rng), units, emotions


def _pose(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    emotions = np.zeros(len(EXPRESSIONS))
    units = np.clip(rng.normal(-0.1, 0.35, len(UNITS)), 0, None)
    if rng.uniform() < 0.67:
        posed = rng.choice(len(emotions), 1 if rng.uniform() < 0.7 else 2, replace=False)
        emotions[posed] = rng.uniform(0.15, 1.0, len(posed))
        units += emotions @ EXPRESSIONS * rng.lognormal(0, 0.2, len(UNITS))
        chosen = rng.choice(len(UNITS), rng.integers(0, 3), replace=False)
    else:
        chosen = rng.choice(len(UNITS), rng.integers(1, 6), replace=False)
    units[chosen] += rng.uniform(0, 5, len(chosen))
    return np.clip(units, 0, 5), emotions
