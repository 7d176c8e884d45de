"""One event at 1.0 s, a blink and a click, is at 1.0 s in every feature set, whatever the container does with time.

Whole clips go through preprocessing: pictures at six rates and at no rate, sound that starts late, a video that does
not start at zero. The tolerance is one step of the clock, 1/30 s.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from video_files import write_clip

from emibook.features import EXTRACTORS
from emibook.features.action_units import DESCRIPTION, NAMES, UNITS
from emibook.features.weights import Weights, file_fingerprint
from emibook.preprocess import clip, read_audio, read_faces
from emibook.preprocess.detector import Detections, Detector
from emibook.puppet.renderer import Identity, Puppet, Scene
from emibook.sequences.timeline import on_clock

EVENT, STEP, CLOSED = 1.0, 1 / 30, 0.3  # seconds
SOUND_STARTS = Fraction(1, 2)
RATES = {"15": Fraction(15), "24": Fraction(24), "25": Fraction(25), "29.97": Fraction(30000, 1001), "30": Fraction(30),
         "60": Fraction(60), "variable": None}
SEARCHED = ("variable",)  # the whole detector; on the others a face is where it was found there
VISUAL = [name for name, extractor in EXTRACTORS.items() if extractor.modality == "V" and
          extractor.sources != ("official",)]
SOUND = [name for name, extractor in EXTRACTORS.items() if extractor.modality == "A" and extractor.rate and
         extractor.sources != ("official",)]


@dataclass(frozen=True)
class Filmed:
    """What preprocessing makes of a clip, and its sound with the click cut out."""

    faces: tuple[np.ndarray, np.ndarray, np.ndarray]
    sound: np.ndarray
    quiet: np.ndarray


class FixedDetector(Detector):
    """A detector that knows where the face is."""

    def __init__(self, faces: Detections) -> None:
        self.faces, self.batch = faces, 1

    def detect(self, images, *, scale: float = 1.0):
        return [self.faces] * len(images)

    def search(self, image, smallest, within=None):
        return self.faces

    def refine(self, image, boxes, *, around: bool = False):
        return self.faces


def picture_times(rate: Fraction | None) -> list[Fraction]:
    """Seconds of each picture; without a rate 40 to 140 ms apart, one of them at the event, and not from zero on."""
    if rate is not None:
        return [number / rate for number in range(int(2 * rate))]
    apart = np.random.default_rng(0).integers(4, 15, 40)
    times = [Fraction(int(at), 100) for at in np.concatenate([[0], np.cumsum(apart)]) if at < 200]
    return sorted({*times, Fraction(1)})


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> dict[str, Filmed]:
    folder = tmp_path_factory.mktemp("films")
    puppet = Puppet(Identity.random(np.random.default_rng(3)), Scene.random(np.random.default_rng(3)))
    shut = np.zeros(len(UNITS))
    shut[UNITS.index(45)] = 5
    awake, asleep = puppet.draw(np.zeros(len(UNITS))), puppet.draw(shut)
    noise = np.random.default_rng(1).normal(0, 1e-3, 66150).astype(np.float32)
    patch, films = pytest.MonkeyPatch(), {}
    known = Detector().detect([awake])[0]
    assert len(known) == 1
    for name, rate in RATES.items():
        # The one without a rate has its first picture at a quarter of a second, and so everything else later too.
        late = Fraction(1, 4) if rate is None else Fraction(0)
        times = picture_times(rate)
        images = [asleep if EVENT <= at < EVENT + CLOSED else awake for at in times]
        click = noise.copy()
        at = round(float(Fraction(EVENT) + late - SOUND_STARTS) * 44100)
        click[at : at + 44] += 0.9
        path = write_clip(folder / f"{name}.mp4", images, [time + late for time in times], rate=rate or 25, sound=click,
                          sound_rate=44100, sound_start=SOUND_STARTS)
        with patch.context() as patched:
            if name not in SEARCHED:
                patched.setattr(clip, "_detector", lambda exhaustive: FixedDetector(known))
            row = clip.preprocess_clip(name, path, None, folder)
        assert row["status"] == "ok", row
        faces, sound = read_faces(folder, name), read_audio(folder, name)
        quiet, cut = sound.copy(), slice(round(0.94 * 16000), round(1.06 * 16000))  # what the codec made of it, too
        quiet[cut] = sound[round(0.7 * 16000) :][: cut.stop - cut.start]
        films[name] = Filmed(faces, sound, quiet)
    return films


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict[str, object]:
    """Each with random weights, small ones where there are such, or with its formula."""
    folder = tmp_path_factory.mktemp("encoders")
    slopes = np.random.default_rng(0).normal(0, 0.01, (DESCRIPTION, len(NAMES))).astype(np.float32)
    save_file({"slopes": slopes, "offsets": np.full(len(NAMES), 0.4, np.float32)}, folder / "aus.safetensors")
    made = {}
    for name in (*VISUAL, *SOUND):
        kind = next(kind for kind in ("small", "untrained", "formula", "builtin") if kind in EXTRACTORS[name].sources)
        weights = Weights(kind)
        if kind == "builtin":
            weights = Weights(kind, "aus.safetensors", file_fingerprint(folder / "aus.safetensors"))
        made[name] = EXTRACTORS[name].class_of(kind)(weights, folder)
    return made


def onset(values: np.ndarray, times: np.ndarray) -> float:
    """The time of the first row that is nearer to what differs most from the first row than to that."""
    away = np.linalg.norm(values - values[0], axis=1)
    return float(times[np.flatnonzero(away > 0.5 * away.max())[0]])


def first_beyond_noise(values: np.ndarray, times: np.ndarray) -> float:
    """The time of the first row that is farther from the rows well before the event than these are from each other.

    Random weights also answer to a codec's noise and to a crop that moves by a pixel, and how much depends on the
    processor. The margin of a quarter lies between these, at most 1, and the blink, at least 1.5 over several seeds.
    """
    before = times < EVENT - 0.1
    away = np.linalg.norm(values - values[before].mean(axis=0), axis=1)
    return float(times[np.flatnonzero(away > 1.25 * away[before].max())[0]])


@pytest.mark.parametrize("rate", RATES)
def test_the_blink_is_in_the_crops_when_it_was_filmed(films, rate):
    images, times, _ = films[rate].faces
    assert len(images) > 55 and np.allclose(np.diff(times), STEP, atol=1e-5)
    eyes = images[:, 38:52, [*range(32, 49), *range(64, 81)]].mean(axis=(1, 2))  # a lid is as bright as skin
    assert abs(onset(eyes, times) - EVENT) < STEP
    shut = np.linalg.norm(eyes - eyes[0], axis=1)
    shut = times[shut > 0.5 * shut.max()]
    assert abs(shut[0] - EVENT) < STEP and shut[-1] == pytest.approx(EVENT + CLOSED, abs=0.15)


@pytest.mark.parametrize("name", VISUAL)
def test_the_blink_is_in_every_set_of_the_face(films, encoders, name):
    for rate in SEARCHED if name != "aus" else RATES:
        images, times, landmarks = films[rate].faces
        near = (times > EVENT - 0.45) & (times < EVENT + 0.2)
        sequence = encoders[name](images[near], times[near], landmarks[near])
        assert abs(first_beyond_noise(sequence.values, sequence.times) - EVENT) < STEP, rate


@pytest.mark.parametrize("rate", RATES)
def test_the_click_is_in_the_sound_when_it_was_heard(films, rate):
    assert abs(np.abs(films[rate].sound).argmax() / 16000 - EVENT) < 0.003
    assert np.abs(films[rate].sound[: round(0.2 * 16000)]).max() == 0  # before the sound began


def moved(encoder, film: Filmed) -> tuple[np.ndarray, np.ndarray]:
    """(row, column) by how much the click changes each feature, each column's largest change 1; and the rows' times."""
    if hasattr(encoder, "window_rows"):  # wav2vec 2.0's Transformer smears time by design: what goes into it
        with torch.no_grad():
            heard = [encoder.model.feature_extractor(torch.from_numpy(each / np.float32(3e4))[None])[0].numpy().T
                     for each in (film.sound, film.quiet)]
        times = encoder(film.sound).times
    elif hasattr(encoder, "pictures"):  # a network that looks at a second as a whole: what it looks at
        heard = [encoder.pictures(each)[:, ::4, ::4].reshape(-1, 56 * 56 * 3).astype(float)
                 for each in (film.sound, film.quiet)]
        times = encoder(film.sound).times
    else:
        heard, times = [encoder(each).values for each in (film.sound, film.quiet)], encoder(film.sound).times
    rows = min(len(each) for each in heard)
    change = np.abs(heard[0][:rows] - heard[1][:rows])
    largest = change.max(axis=0)
    return change[:, largest > 0] / largest[largest > 0], times[:rows]


def middle(change: np.ndarray, times: np.ndarray) -> float:
    """The time before which half of the change lies, of what is more than a tenth of the largest."""
    weights = np.where(change > 0.1 * change.max(), change, 0)
    return float(np.interp(0.5, (np.cumsum(weights) - weights / 2) / weights.sum(), times))


@pytest.mark.parametrize("name", SOUND)
def test_the_click_is_in_every_set_of_the_sound(films, encoders, name):
    for rate in ("variable",) if name != "mfcc" else RATES:
        change, times = moved(encoders[name], films[rate])
        total = change.sum(axis=1)
        assert abs(middle(total, times) - EVENT) < STEP, rate
        # And once it is brought onto the steps that a model reads, each at its middle.
        steps = on_clock(total[:, None].astype(np.float32), times, 30, 300)[:, 0]
        assert abs(middle(steps, (np.arange(len(steps)) + 0.5) * STEP) - EVENT) < STEP, rate


def test_nothing_is_left_out():
    assert {"resnet18", "vit", "facenet", "manet", "aus"} <= set(VISUAL)
    assert set(SOUND) == {"wav2vec2", "wav2vec2_outputs", "wav2vec2_base", "mfcc", "egemaps", "deepspectrum"}
