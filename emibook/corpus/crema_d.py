"""CREMA-D as its repository has it: real people, real raters, under an open licence.

    <root>/
      processedResults/tabulatedVotes.csv     or tabulatedVotes.csv; enough for everything that asks only for votes
      VideoFlash/1001_IEO_HAP_LO.flv          face and voice; AudioWAV/1001_IEO_HAP_LO.wav, the voice at 16 kHz
      SentenceFilenames.csv VideoDemographics.csv      optional

The targets are the fractions of the raters who chose each emotion, one out of six, so a clip's add up to 1. The clips
are acted. In a plain clone the media are pointers of Git LFS until they are fetched.
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
ABOUT = "acted, one emotion out of six a rater; a neighbour of the paper's task, not the task"
ADDRESS = "https://github.com/CheyneyComputerScience/CREMA-D"
MEDIA = {"VideoFlash": ".flv", "AudioWAV": ".wav"}
SENTENCES = "SentenceFilenames.csv"
POINTER, LONGEST_POINTER = b"version https://git-lfs.github.com/spec/", 1024  # bytes, by the definition of Git LFS
GIGABYTE = 1e9

SPLIT = {
    "valid": "1049 1053 1054 1055 1057 1058 1059 1060 1061 1062 1064 1065 1066 1067 1070 1075 1085",
    "test": "1063 1068 1069 1071 1074 1076 1077 1078 1079 1080 1082 1083 1084 1086 1087 1088 1089 1090",
}
"""Actors of the published split; the others train."""

FAULTS = {
    "1064_IEO_DIS_MD": "a minute long, with several emotions of one sentence, in picture and sound",
    "1064_TIE_SAD_XX": "its .flv tells no duration; it is decoded all the same",
    "1076_MTI_NEU_XX": "its .flv is very short and has no sound; the .wav is used",
    "1076_MTI_SAD_XX": "an error picture and silence; it goes on as a clip without a face",
}
"""Clips whose media are known to be faulty."""
LEFT_OUT = ("1064_IEO_DIS_MD",)
"""In no partition: what these files show is not the clip that was rated."""


def recognises(root: Path) -> bool:
    """Whether ``root`` has CREMA-D's votes, or its folder of videos."""
    root = Path(root)
    return crema_d_votes.find(root, crema_d_votes.VOTES) is not None or (root / "VideoFlash").is_dir()


def read(root: Path, participants: Path | None = None, *, ratings: str = "both", media: bool = True) -> Corpus:
    """The corpus, with the targets from those who heard (``voice``), saw (``face``) or had ``both``.

    What people predicted who had less is in ``people``. ``participants`` is a CSV with the columns
    ``clip,participant``; without it they are the actors. ``media`` false: the votes are enough. Raises ``InputError``
    naming the first problem of the tables, and where media are wanted that are still to be fetched.
    """
    scan = _Scan(Path(root), participants)
    tables.stop_at_first(scan.problems, scan.root)
    if media and scan.unfetched:
        raise InputError(f"{scan.root}: {scan.unfetched}")
    fractions = scan.votes.fractions  # (ratings, clip, emotion)
    clips = scan.clips.assign(**dict(zip(crema_d_votes.EMOTIONS, fractions[RATINGS.index(ratings)].T, strict=True)))
    people = {modality: fractions[RATINGS.index(had)] for modality, had in (("V", "face"), ("A", "voice"))
              if had != ratings}
    name = NAME if ratings == "both" else f"{NAME}, rated by {ratings}"
    return Corpus(name, scan.root.resolve(), clips[[*COLUMNS, *crema_d_votes.EMOTIONS]],
                  crema_d_votes.EMOTIONS, ABOUT, people)


def check(root: Path) -> Report:
    """Everything that is not as documented, by clip and file, all of it at once."""
    scan = _Scan(Path(root), None)
    return Report(NAME, scan.counts, scan.problems + scan.damaged, scan.notes)


def fetch_command(root: Path) -> str:
    """The command that brings the media: into the clone that ``root`` is, or with a new clone."""
    place = root if (root / ".git").exists() else "CREMA-D"
    pull = f"git -C {place} lfs pull --include=VideoFlash,AudioWAV"
    return pull if (root / ".git").exists() else f"git clone {ADDRESS} && {pull}"


@dataclass(frozen=True)
class _Folder:
    """One folder of media, by clip: files that are there, their sizes, those that pointers tell, files of no bytes, and
    names that belong to no clip."""

    files: dict[str, Path]
    sizes: dict[str, int]
    pointers: dict[str, int]
    empty: list[str]
    strange: list[str]

    @classmethod
    def look(cls, folder: Path, ending: str, clips: Iterable[str]) -> _Folder:
        found = cls({}, {}, {}, [], [])
        wanted = set(clips)
        if not folder.is_dir():
            return found
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                clip = entry.name.removesuffix(ending)
                if tables.is_litter(entry.name):
                    continue
                if clip not in wanted or not entry.name.endswith(ending) or not entry.is_file():
                    found.strange.append(entry.name)
                    continue
                size = entry.stat().st_size
                waiting = _pointer(entry.path) if 0 < size < LONGEST_POINTER else None
                if waiting is not None:
                    found.pointers[clip] = waiting
                    continue
                if size == 0:
                    found.empty.append(clip)
                found.files[clip], found.sizes[clip] = Path(entry.path).absolute(), size
        return found


def _pointer(path: str) -> int | None:
    """How many bytes the pointer stands for; None where the file is no pointer of Git LFS."""
    with open(path, "rb") as file:
        text = file.read(LONGEST_POINTER)
    if not text.startswith(POINTER):
        return None
    sizes = [line.split()[1] for line in text.splitlines() if line.startswith(b"size ")]
    return int(sizes[0]) if sizes and sizes[0].isdigit() else 0


def _minutes(sizes: Iterable[int]) -> int:
    """How long WAV files of 16 kHz, mono, 16 bits are, by their sizes; the header has 44 bytes."""
    return round(sum(max(0, size - 44) for size in sizes) / 32_000 / 60)


class _Scan:
    """One pass over tables and folders: the clips, and everything that is not as documented.

    ``problems`` keep the corpus from being read, ``damaged`` are media that are not as they should be, ``notes`` are
    oddities that are coped with; ``unfetched`` says what has to be fetched before media can be worked on.
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
        video, sound = (_Folder.look(root / folder, ending, names) for folder, ending in MEDIA.items())
        people = self._participants(participants)
        self.clips = pd.DataFrame({
            "clip": names,
            "partition": [_partition(clip) for clip in names],
            "path": [str(video.files.get(clip, "")) for clip in names],
            "audio": [str(sound.files.get(clip, "")) for clip in names],
            "participant": [people.get(clip, clip[:4]) for clip in names],
        }, dtype=str)
        self._listed()
        self._media(video, sound)
        for clip in set(names) & set(FAULTS):
            way = "; so it is in no partition" if clip in LEFT_OUT else ""
            self.notes.append(f"clip {clip}, known fault: {FAULTS[clip]}{way}")
        self.notes.sort()
        raters = self.votes.raters
        self.counts = {
            "clips": len(names), "participants": self.clips["participant"].nunique(),
            **{name: int((self.clips["partition"] == name).sum()) for name in PARTITIONS},
            "in no partition": int((self.clips["partition"] == "").sum()),
            **{f"votes, {had}": int(raters[place].sum()) for place, had in enumerate(RATINGS)},
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
        people, problems = tables.read_participants(path)
        self.problems += problems
        return people

    def _listed(self) -> None:
        """What the data set's own list of clips has that the votes have not, and the other way round."""
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
            self._note(f"{crema_d_votes.ACTORS}: nothing of these actors", set(self.votes.actors) - known)

    def _media(self, video: _Folder, sound: _Folder) -> None:
        """What is there, what is a pointer, what is neither."""
        wanted = len(MEDIA) * len(self.votes.clips)
        pointers = {f"{folder}/{clip}{ending}": size for (folder, ending), found
                    in zip(MEDIA.items(), (video, sound), strict=True) for clip, size in found.pointers.items()}
        absent = wanted - len(video.files) - len(sound.files) - len(pointers)
        command = fetch_command(self.root)
        gigabytes = f"{sum(pointers.values()) / GIGABYTE:.2f} GB"
        for (folder, _), found in zip(MEDIA.items(), (video, sound), strict=True):
            self._note(f"{folder}: no file of a clip with votes, so left out", found.strange)
        if not video.files and not sound.files:
            if pointers:
                less = f", {absent} are absent" if absent else ""
                self.unfetched = (f"no media yet: {len(pointers)} of {wanted} files are pointers of Git LFS "
                                  f"({gigabytes} to fetch){less}; fetch them: {command}")
                self.damaged.append(f"{self.unfetched}; the votes are enough for emibook ceiling and emibook people")
            else:
                self.unfetched = f"votes only, none of {wanted} media files is here; fetch them: {command}"
                self.notes.append(f"{self.unfetched}; the votes are enough for emibook ceiling and emibook people")
            return
        if pointers:
            self.unfetched = (f"{len(pointers)} of {wanted} media files are still pointers of Git LFS ({gigabytes} to "
                              f"fetch; first {min(pointers)}); fetch them: {command}")
            self.damaged.append(self.unfetched)
            self.damaged += [f"clip {Path(name).stem}: {name} is a pointer of Git LFS" for name in sorted(pointers)]
        lost = {folder: set(self.votes.clips) - set(found.files) - set(found.pointers)
                for folder, found in zip(MEDIA, (video, sound), strict=True)}
        neither = lost["VideoFlash"] & lost["AudioWAV"]
        self.damaged += [f"clip {clip}: in neither folder of media; fetch it: {command}" for clip in sorted(neither)]
        self._note("VideoFlash: nothing of these clips, taken as clips without a face", lost["VideoFlash"] - neither)
        self._note("AudioWAV: nothing of these clips, the sound of their .flv is used", lost["AudioWAV"] - neither)
        for (folder, ending), found in zip(MEDIA.items(), (video, sound), strict=True):
            self.damaged += [f"clip {clip}: {folder}/{clip}{ending} has zero bytes; fetch it again"
                             for clip in found.empty]


def _partition(clip: str) -> str:
    if clip in LEFT_OUT:
        return ""
    return next((name for name, actors in SPLIT.items() if clip[:4] in actors.split()), "train")


