"""CREMA-D in the layout of its repository: acted clips of real people with the votes of real raters, openly licensed.

    <root>/
      processedResults/tabulatedVotes.csv     or tabulatedVotes.csv; enough for everything that needs only votes
      VideoFlash/1001_IEO_HAP_LO.flv          face and voice; AudioWAV/1001_IEO_HAP_LO.wav, the voice at 16 kHz
      SentenceFilenames.csv VideoDemographics.csv      optional

The targets are the fractions of the raters who chose each of six emotions. A rater chose one, so the fractions of a
clip add up to 1. In a plain clone the media are pointers of Git LFS until they are fetched.
Source: Cao et al. (2014), IEEE Transactions on Affective Computing 5(4), 377-390; faults of the media: issues 6 and 8
of github.com/CheyneyComputerScience/CREMA-D; split: that of audEERING's published results on these data.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from emibook import InputError
from emibook.corpus import COLUMNS, PARTITIONS, RATINGS, Corpus, Report, crema_d_votes, tables

NAME = "crema-d"
NOTE = "acted, one emotion out of six a rater; related to the paper's task, not the same"
ADDRESS = "https://github.com/CheyneyComputerScience/CREMA-D"
MEDIA = {"VideoFlash": ".flv", "AudioWAV": ".wav"}
SENTENCES = "SentenceFilenames.csv"
POINTER, MAX_POINTER_BYTES = b"version https://git-lfs.github.com/spec/", 1024  # as Git LFS defines them
GIGABYTE = 1e9

SPLIT = {
    "valid": "1049 1053 1054 1055 1057 1058 1059 1060 1061 1062 1064 1065 1066 1067 1070 1075 1085",
    "test": "1063 1068 1069 1071 1074 1076 1077 1078 1079 1080 1082 1083 1084 1086 1087 1088 1089 1090",
}
"""Actors of the published split; all others are in ``train``."""

FAULTS = {
    "1064_IEO_DIS_MD": "a minute long, with several emotions of one sentence, in picture and sound",
    "1064_TIE_SAD_XX": "its .flv has no duration; it is decoded nevertheless",
    "1076_MTI_NEU_XX": "its .flv is very short and has no sound; the .wav is used",
    "1076_MTI_SAD_XX": "an error picture and silence; it is kept as a clip without a face",
}
"""Clips whose media are known to be faulty."""
EXCLUDED = ("1064_IEO_DIS_MD",)
"""Clips in no partition: these files do not show the clip that was rated."""


def recognises(root: Path) -> bool:
    """Whether ``root`` has CREMA-D's votes, or its folder of videos."""
    root = Path(root)
    return crema_d_votes.find(root, crema_d_votes.VOTES) is not None or (root / "VideoFlash").is_dir()


def read(root: Path, participants: Path | None = None, *, ratings: str = "both", media: bool = True) -> Corpus:
    """Read the corpus. Ratings by people who were shown less are in ``unimodal_ratings``.

    Args:
        root: a clone of CREMA-D, or without ``media`` a folder with its table of votes.
        participants: a CSV with the columns ``clip,participant``; without it participants are the actors.
        ratings: the modality shown to the raters behind the targets: ``voice``, ``face`` or ``both``.
        media: false where the votes are enough.

    Raises:
        InputError: the first problem of the tables, and the number of further ones; or media are needed that are still
            to be fetched.
    """
    scan = _Scan(Path(root), participants)
    tables.stop_at_first(scan.problems, scan.root)
    if media and scan.unfetched:
        raise InputError(f"{scan.root}: {scan.unfetched}")
    fractions = scan.votes.fractions  # (modality, clip, emotion)
    clips = scan.clips.assign(**dict(zip(crema_d_votes.EMOTIONS, fractions[RATINGS.index(ratings)].T, strict=True)))
    unimodal = {modality: fractions[RATINGS.index(shown)] for modality, shown in (("V", "face"), ("A", "voice"))
                if shown != ratings}
    name = NAME if ratings == "both" else f"{NAME}, rated by {ratings}"
    return Corpus(name, scan.root.resolve(), clips[[*COLUMNS, *crema_d_votes.EMOTIONS]],
                  crema_d_votes.EMOTIONS, NOTE, unimodal)


def check(root: Path) -> Report:
    """All deviations from the documented layout, by clip and file."""
    scan = _Scan(Path(root), None)
    return Report(NAME, scan.counts, scan.problems + scan.damaged, scan.notes)


def fetch_command(root: Path) -> str:
    """The command that downloads the media: into ``root`` where it is a clone, else into a new clone."""
    clone = root if (root / ".git").exists() else "CREMA-D"
    pull = f"git -C {clone} lfs pull --include=VideoFlash,AudioWAV"
    return pull if (root / ".git").exists() else f"git clone {ADDRESS} && {pull}"


@dataclass(frozen=True)
class _Folder:
    """One folder of media: ``files`` and their ``sizes`` in bytes by clip, the sizes that ``pointers`` of Git LFS name,
    clips whose file is ``empty``, and names that belong to no clip (``unknown``)."""

    files: dict[str, Path]
    sizes: dict[str, int]
    pointers: dict[str, int]
    empty: list[str]
    unknown: list[str]

    @classmethod
    def scan(cls, folder: Path, ending: str, clips: Iterable[str]) -> _Folder:
        media = cls({}, {}, {}, [], [])
        known = set(clips)
        if not folder.is_dir():
            return media
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                clip = entry.name.removesuffix(ending)
                if tables.is_litter(entry.name):
                    continue
                if clip not in known or not entry.name.endswith(ending) or not entry.is_file():
                    media.unknown.append(entry.name)
                    continue
                size = entry.stat().st_size
                pointer_size = _pointer(entry.path) if 0 < size < MAX_POINTER_BYTES else None
                if pointer_size is not None:
                    media.pointers[clip] = pointer_size
                    continue
                if size == 0:
                    media.empty.append(clip)
                media.files[clip], media.sizes[clip] = Path(entry.path).absolute(), size
        return media


def _pointer(path: str) -> int | None:
    """The size in bytes that a pointer of Git LFS names; None where the file is no pointer."""
    with open(path, "rb") as file:
        text = file.read(MAX_POINTER_BYTES)
    if not text.startswith(POINTER):
        return None
    sizes = [line.split()[1] for line in text.splitlines() if line.startswith(b"size ")]
    return int(sizes[0]) if sizes and sizes[0].isdigit() else 0


def _minutes(sizes: Iterable[int]) -> int:
    """Total duration of WAV files at 16 kHz, mono, 16 bits, from their sizes in bytes; the header has 44."""
    return round(sum(max(0, size - 44) for size in sizes) / 32_000 / 60)


class _Scan:
    """One pass over tables and folders: the clips, and all deviations from the documented layout.

    ``problems`` prevent reading the corpus, ``damaged`` are unusable media, ``notes`` are deviations that are handled;
    ``unfetched`` says which media are still to be fetched, empty text where none are.
    """

    def __init__(self, root: Path, participants: Path | None) -> None:
        self.root = root
        if not root.is_dir():
            raise InputError(f"{root}: {'is a file' if root.exists() else 'no such folder'}; give a clone of CREMA-D")
        self.votes, self.problems = crema_d_votes.scan(root)
        self.damaged: list[str] = []
        self.notes: list[str] = []
        self.unfetched = ""
        names = self.votes.clips
        video, sound = (_Folder.scan(root / folder, ending, names) for folder, ending in MEDIA.items())
        by_clip = self._participants(participants)
        self.clips = pd.DataFrame({
            "clip": names,
            "partition": [_partition(clip) for clip in names],
            "path": [str(video.files.get(clip, "")) for clip in names],
            "audio": [str(sound.files.get(clip, "")) for clip in names],
            "participant": [by_clip.get(clip, clip[:4]) for clip in names],
        }, dtype=str)
        self._check_lists()
        self._check_media(video, sound)
        for clip in set(names) & set(FAULTS):
            excluded = "; so it is in no partition" if clip in EXCLUDED else ""
            self.notes.append(f"clip {clip}, known fault: {FAULTS[clip]}{excluded}")
        self.notes.sort()
        raters = self.votes.raters
        self.counts = {
            "clips": len(names), "participants": self.clips["participant"].nunique(),
            **{name: int((self.clips["partition"] == name).sum()) for name in PARTITIONS},
            "in no partition": int((self.clips["partition"] == "").sum()),
            **{f"votes, {modality}": int(count.sum()) for modality, count in zip(RATINGS, raters, strict=True)},
            "fewest raters of a clip": int(raters.min(initial=99)), "most raters of a clip": int(raters.max(initial=0)),
            "videos": len(video.files), "sound files": len(sound.files),
            "pointers of Git LFS": len(video.pointers) + len(sound.pointers),
            "minutes of sound": _minutes([*sound.sizes.values(), *sound.pointers.values()]),
        }

    def _note(self, what: str, names: Iterable[str]) -> None:
        if names := sorted(names):
            self.notes.append(f"{what} ({len(names)}): {', '.join(names)}")

    def _participants(self, path: Path | None) -> dict[str, str]:
        if path is None:
            return {}
        by_clip, problems = tables.read_participants(path)
        self.problems += problems
        return by_clip

    def _check_lists(self) -> None:
        """Compare the data set's list of clips, and its table of actors, with the votes."""
        if not (self.root / SENTENCES).is_file():
            return
        try:
            listed = tables.read_text(self.root / SENTENCES, ("Filename",))["Filename"]
        except InputError as error:
            self.problems.append(str(error).removeprefix(f"{self.root}{os.sep}"))
            return
        for clip in tables.duplicates(list(listed)):
            self.problems.append(f"{SENTENCES}, clip {clip}: listed {int((listed == clip).sum())} times")
        self._note(f"{SENTENCES}: without votes, so left out", set(listed) - set(self.votes.clips))
        self._note(f"votes of clips that {SENTENCES} does not list", set(self.votes.clips) - set(listed))
        if crema_d_votes.find(self.root, crema_d_votes.ACTORS):
            try:
                known = set(crema_d_votes.read_actors(self.root).index)
            except InputError as error:
                self.problems.append(str(error).removeprefix(f"{self.root}{os.sep}"))
                return
            self._note(f"{crema_d_votes.ACTORS}: these actors are missing", set(self.votes.actors) - known)

    def _check_media(self, video: _Folder, sound: _Folder) -> None:
        """Report which media files are present, pointers of Git LFS, or absent."""
        total = len(MEDIA) * len(self.votes.clips)
        pointers = {f"{folder}/{clip}{ending}": size for (folder, ending), media
                    in zip(MEDIA.items(), (video, sound), strict=True) for clip, size in media.pointers.items()}
        absent = total - len(video.files) - len(sound.files) - len(pointers)
        command = fetch_command(self.root)
        gigabytes = f"{sum(pointers.values()) / GIGABYTE:.2f} GB"
        for (folder, _), media in zip(MEDIA.items(), (video, sound), strict=True):
            self._note(f"{folder}: no file of a clip with votes, so left out", media.unknown)
        if not video.files and not sound.files:
            if pointers:
                also_absent = f", {absent} are absent" if absent else ""
                self.unfetched = (f"no media yet: {len(pointers)} of {total} files are pointers of Git LFS "
                                  f"({gigabytes} to fetch){also_absent}; fetch them: {command}")
                self.damaged.append(f"{self.unfetched}; the votes are enough for emibook ceiling and emibook people")
            else:
                self.unfetched = f"votes only, none of {total} media files is here; fetch them: {command}"
                self.notes.append(f"{self.unfetched}; the votes are enough for emibook ceiling and emibook people")
            return
        if pointers:
            self.unfetched = (f"{len(pointers)} of {total} media files are still pointers of Git LFS ({gigabytes} to "
                              f"fetch; first {min(pointers)}); fetch them: {command}")
            self.damaged.append(self.unfetched)
            self.damaged += [f"clip {Path(name).stem}: {name} is a pointer of Git LFS" for name in sorted(pointers)]
        missing_video, missing_sound = (set(self.votes.clips) - set(media.files) - set(media.pointers)
                                        for media in (video, sound))
        in_neither = missing_video & missing_sound
        self.damaged += [f"clip {clip}: in neither folder of media; fetch it: {command}" for clip in sorted(in_neither)]
        self._note("VideoFlash: no file of these clips, taken as clips without a face", missing_video - in_neither)
        self._note("AudioWAV: no file of these clips, the sound of their .flv is used", missing_sound - in_neither)
        for (folder, ending), media in zip(MEDIA.items(), (video, sound), strict=True):
            self.damaged += [f"clip {clip}: {folder}/{clip}{ending} has zero bytes; fetch it again"
                             for clip in media.empty]


def _partition(clip: str) -> str:
    if clip in EXCLUDED:
        return ""
    return next((name for name, actors in SPLIT.items() if clip[:4] in actors.split()), "train")


