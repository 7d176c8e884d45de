"""CREMA-D's tables in their format, simulated or cut from the real ones, and media of its kinds."""

from __future__ import annotations

import csv
import os
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from emibook.corpus.crema_d_votes import LETTERS
from emibook.puppet.acting import EXPRESSIONS
from emibook.puppet.renderer import Identity, Puppet, Scene
from emibook.puppet.voice import Manner, speak

BESIDE = Path(__file__).parents[2] / "shared" / "crema_d"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n"
EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
RESPONSES = ("Emo", "Anger", "Disgust", "Fear", "Happy", "Neutral", "Sad")
HEADER = ["", *LETTERS, "fileName", "numResponses", "agreement", "emoVote",
          *(f"mean{name}Resp" for name in RESPONSES), "medianEmoResp",
          *(f"mean{name}RespNorm" for name in RESPONSES), "medianEmoRespNorm"]


def real() -> Path | None:
    """A folder with the real tables: a clone named by EMIBOOK_CREMA_D, or those beside the project."""
    named = os.environ.get("EMIBOOK_CREMA_D")
    folder = Path(named) if named else BESIDE
    return folder if named or folder.is_dir() else None


ABSENT = "CREMA-D's tables are not at hand: set EMIBOOK_CREMA_D to a clone"


def simulated_votes(clips: list[str], seed: int = 0, raters: int = 10) -> np.ndarray:
    """(ratings, clip, emotion) votes: the intended emotion has most with both modalities, least with the voice."""
    rng = np.random.default_rng(seed)
    counts = np.zeros((3, len(clips), 6), int)
    for index, clip in enumerate(clips):
        intended = np.eye(6)[EMOTIONS.index(clip.split("_")[2])]
        own = rng.dirichlet(np.full(6, 0.5))
        for modality, share in enumerate((0.35, 0.55, 0.65)):
            chances = share * intended + (1 - share) * (0.5 * own + 0.5 * rng.dirichlet(np.full(6, 0.7)))
            counts[modality, index] = rng.multinomial(raters - rng.integers(3), chances)
    return counts


def write_votes(path: Path, clips: list[str], counts: np.ndarray) -> Path:
    """A table of votes with the data set's columns, quotes and row numbers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        rows = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
        rows.writerow(HEADER)
        for modality in range(3):
            for index, clip in enumerate(clips):
                votes = counts[modality, index].tolist()
                total = sum(votes)
                number = 100_000 * (modality + 1) + index + 1
                rows.writerow([f"{number}", *votes, clip, total, max(votes) / max(total, 1), "A", *[50.0] * 16])
    return path


def cut_votes(path: Path, clips: list[str]) -> Path:
    """The real table of votes, its rows of ``clips`` only, unchanged."""
    source = real() / "tabulatedVotes.csv"
    if not source.is_file():
        source = real() / "processedResults" / "tabulatedVotes.csv"
    lines = source.read_text().splitlines()
    kept = [line for line in lines[1:] if line.split(",")[7].strip('"') in clips]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([lines[0], *kept]) + "\n")
    return path


def write_actors(path: Path, actors: list[str]) -> Path:
    """A table of actors in the data set's format."""
    rows = [f'{actor},{20 + index},"{("Male", "Female")[index % 2]}","Caucasian","Not Hispanic"'
            for index, actor in enumerate(actors)]
    path.write_text('"ActorID","Age","Sex","Race","Ethnicity"\n' + "\n".join(rows) + "\n")
    return path


def write_sentences(path: Path, clips: list[str]) -> Path:
    """The list of clips in the data set's format."""
    rows = [f'{index + 1},"{clip}"' for index, clip in enumerate(clips)]
    path.write_text('"Stimulus_Number","Filename"\n' + "\n".join(rows) + "\n")
    return path


def write_pointer(path: Path, size: int) -> Path:
    """A pointer of Git LFS instead of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(POINTER.format("0" * 64, size))
    return path


class _Pipe:
    """What can be written to and not gone back in."""

    def __init__(self, file) -> None:
        self.write = file.write


def write_flash(
    path: Path, pictures: list[np.ndarray], sound: np.ndarray | None, rate: Fraction = Fraction(30000, 1001),
    codec: str = "flv1", sound_codec: str = "libmp3lame", seekable: bool = True,
) -> Path:
    """Flash video as CREMA-D's: Sorenson's H.263 with MP3 at 44.1 kHz, or no sound.

    Where it is not ``seekable`` as it is written, the file tells no duration.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file, av.open(file if seekable else _Pipe(file), "w", format="flv") as out:
        video = out.add_stream(codec, rate=rate)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt, video.bit_rate = "yuv420p", 900_000
        voice = None if sound is None else out.add_stream(sound_codec, rate=44_100, layout="mono")
        for picture in pictures:
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(video.encode())
        if voice is not None:
            block = av.AudioFrame.from_ndarray(np.asarray(sound, np.float32)[None], format="fltp", layout="mono")
            block.rate, block.pts = 44_100, 0
            resampler = av.AudioResampler(format=voice.codec_context.format, layout="mono", rate=44_100,
                                          frame_size=voice.codec_context.frame_size or None)
            for part in [*resampler.resample(block), *resampler.resample(None)]:
                out.mux(voice.encode(part))
            out.mux(voice.encode())
    return path


def write_wave(path: Path, sound: np.ndarray, rate: int = 16_000) -> Path:
    """16-bit PCM, as the data set's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def imitation(root: Path, clips: list[str], counts: np.ndarray, seconds: float = 0.3, seed: int = 0) -> Path:
    """A ROOT in CREMA-D's layout with media of its kinds, from the puppet.

    It has the known faults: an error picture and silence, a video without sound, one without a duration. A .wav differs
    from the sound of its .flv, so that tests see which of them was used.
    """
    write_votes(root / "processedResults" / "tabulatedVotes.csv", clips, counts)
    write_sentences(root / "SentenceFilenames.csv", clips)
    actors = sorted({clip[:4] for clip in clips})
    write_actors(root / "VideoDemographics.csv", actors)
    puppets = {}
    for index, actor in enumerate(actors):
        rng = np.random.default_rng([seed, index])
        puppets[actor] = Puppet(Identity.random(rng), Scene.random(rng), 240, 180)
    for index, clip in enumerate(clips):
        rng = np.random.default_rng([seed, 1, index])
        felt = counts[2, index] / counts[2, index].sum()
        units = felt @ EXPRESSIONS
        number = max(2, round(seconds * 30000 / 1001))
        pictures = [puppets[clip[:4]].draw(units * share, noise_rng=rng) for share in np.linspace(0.3, 1, number)]
        manner = Manner(pitch_hz=150 + 120 * felt[3], energy=0.04 + 0.06 * felt[0], tempo=4)
        sound = speak(seconds, manner, rng=rng, rate=44_100)
        heard = speak(seconds, manner, rng=rng)
        if clip == "1076_MTI_SAD_XX":
            pictures, sound, heard = [np.full((180, 240, 3), 90, np.uint8)] * 3, None, np.zeros_like(heard)
        elif clip == "1076_MTI_NEU_XX":
            pictures, sound = pictures[:3], None
        write_flash(root / "VideoFlash" / f"{clip}.flv", pictures, sound, seekable=clip != "1064_TIE_SAD_XX")
        write_wave(root / "AudioWAV" / f"{clip}.wav", heard)
    return root
