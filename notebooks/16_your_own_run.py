# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Your own run

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0

# %% tags=["hide-input"]
import re
import time
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, project_path
from emibook.compute import Resources
from emibook.corpus import crema_d, open_corpus
from emibook.corpus.folds import fold
from emibook.features import EXTRACTORS
from emibook.preprocess import preprocess
from emibook.puppet.corpus import make_corpus

# %% tags=["hide-input"]
started = time.perf_counter()
figures.use_style()
root, work = project_path(root), project_path(work)
if profile == "builtin":
    make_corpus(root, clips=clips, seed=seed, progress=False)
corpus = open_corpus(root)
banner(profile, corpus)

# %% [markdown]
# **It is Friday, and you have a laptop and no licence. What can you have tomorrow, on real people?**
#
# The form for the paper's data has been signed and sent. Nobody answers on a weekend. In the meantime there is one
# corpus that needs no answer: CREMA-D {cite:p}`cao2014`, whose clips, voices and votes are open to anybody. You can
# fetch it tonight, let the machine work while you sleep, and tomorrow read both tables of the paper, made on 91 real
# people, with the people themselves in the last rows. This chapter is the walk. It tells what to type, what it should
# answer, how long it takes and how much room.
#
# (The note below the title is about the corpus that this page itself uses, to show folds and to weigh a face. What is
# said about CREMA-D comes from its tables.)
#
# You will
#
# - fetch the open data, and tell a clip from the note that stands in its place;
# - check it, and meet the four clips that are known to be broken;
# - work out hours and gigabytes for your machine from rates that were measured;
# - run both tables, and know what to hold them against;
# - keep people apart, with a split that others use or with folds of your own;
# - know what changes with a cluster, a GPU, papermill and the licensed data: a few words of a command.
#
# ## What the paper says
#
# > "In this work, we employed the multimodal Hume-Vidmimic2 dataset, which comprises over 15,000 videos featuring 557
# > participants and spanning more than 30 hours of audiovisual content." (section 4.1)
#
# Whoever wants to check the paper's numbers needs that data, and an agreement with its owners. Whoever wants to know
# what the paper's *method* does on faces and voices does not.
#
# ## Fetch
#
# The repository keeps its media in Git LFS. A plain clone brings the votes, and in the place of every clip a note of
# three lines that says how large the clip is. So there are two commands, and Git LFS has to be installed first:
#
# ```bash
# git clone https://github.com/CheyneyComputerScience/CREMA-D
# git -C CREMA-D lfs pull --include=VideoFlash,AudioWAV
# ```
#
# Where GitHub refuses, as it does when too many have fetched before, the repository's page names a mirror. A clone with
# everything, the MP3 files and a copy of each file in `.git`, takes between seven and eight GB by that page.
#
# Whoever only wants the votes of chapter 2 is served by 4 MB: `emibook people FOLDER --fetch`.
#
# ## Check
#
# `emibook check CREMA-D` takes a second or two. It says how many clips, actors and votes there are, and what is
# missing. If it finds notes where media should be, it gives the command that fetches them; if it finds some of each,
# it lists them; and nothing that needs media starts until they are there. On the real tables, without media, it
# answered this:
#
# ```text
# layout: crema-d
# clips: 7442
# participants: 91
# train: 4573
# valid: 1393
# test: 1475
# in no partition: 1
# ```
#
# Four clips are known to be broken. All four are named, and none stops a run.

# %%
for clip, fault in crema_d.FAULTS.items():
    way = "in no partition" if clip in crema_d.LEFT_OUT else "in its own partition"
    print(f"{clip}, {way}:\n    {fault}")

# %% [markdown]
# Partitions are those of chapter 1: who is trained on, who is validated on, who is kept for the end. The clip that is
# in none shows a minute of several emotions under one name. To train on it, or to score it, would be to believe a label
# that belongs to something else. The others go on: where one of them lacks a face or a sound, that branch has nothing
# to say and the other stands alone, as in chapter 4.
#
# ## Hours and gigabytes
#
# A note of Git LFS tells the size of what it stands for. Of the clip whose notes came with the tables used here, the
# sound has so many bytes at 16,000 samples a second and two bytes a sample: that is its length. It stands for all of
# them below; `emibook check` on your clone adds up the real sizes.

# %%
notes = {"VideoFlash": 265_922, "AudioWAV": 72_862}  # bytes, of the clip 1001_DFA_ANG_XX
number = 7_442
seconds = (notes["AudioWAV"] - 44) / 32_000  # a header of 44 bytes
frames, sound = number * seconds * 30, number * seconds
media_gb = number * sum(notes.values()) / 1e9
round(seconds, 2), f"{frames:,.0f} frames", f"{media_gb:.1f} GB of media"

# %% [markdown]
# The rates were measured on the machine that the first line of each table in `benchmarks/results` names, on two cores;
# [What it costs](a3_performance.ipynb) shows them. Here they are as milliseconds of *one* core.

# %%
measured = project_path("benchmarks/results/preprocess.txt").read_text()
row = re.search(r"^640x360 .*", measured, re.MULTILINE).group().split()
rates = {"preprocess": 2 * float(row[3])}  # a frame, of two cores together
lines = project_path("benchmarks/results/extract.txt").read_text().splitlines()[3:]
found = [re.match(r"(\w+) +.+? +1 +([\d.]+)", line) for line in lines]
for match in filter(None, found):
    name, ms = match.group(1), float(match.group(2))
    rates[name] = min(ms, rates.get(name, np.inf))
pd.Series(rates, name="ms").round(2).to_frame().T

# %%
units = {name: sound if EXTRACTORS[name].modality == "A" else frames
         for name in rates if name in EXTRACTORS}
units["preprocess"] = frames
core_hours = pd.Series({name: units[name] * rates[name] / 3.6e6 for name in rates})
machines = {"laptop, 4 cores": 4, "workstation, 16": 16, "cluster, 64": 64}
hours = pd.DataFrame({label: core_hours / cores for label, cores in machines.items()})
hours.loc["together"] = hours.sum()
hours.round(2)

# %% tags=["remove-cell"]
glue("run_frames", f"{frames:,.0f}", display=False)
glue("run_media", f"{media_gb:.1f}", display=False)
glue("run_laptop", f"{hours.loc['together'].iloc[0]:.1f}", display=False)
glue("run_core_hours", f"{core_hours.sum():.0f}", display=False)
glue("run_cluster", f"{60 * hours.loc['together'].iloc[-1]:.0f}", display=False)
glue("run_slowest", core_hours.idxmax(), display=False)
glue("run_machine", measured.splitlines()[0].split(";")[0], display=False)

# %% mystnb={"image": {"alt": "Horizontal bars of hours on a laptop with four cores, one bar a stage. The bar of the vision transformer is several times as long as all others together; far behind come the large speech network, ResNet-18 and finding faces, and the features that need no network hardly show."}, "figure": {"caption": "Hours of each stage on four cores, for all of CREMA-D, worked out from rates that were measured.", "name": "run-hours"}}
laptop = hours.drop("together").iloc[:, 0].sort_values()
fig, ax = plt.subplots()
ax.barh(laptop.index, laptop)
ax.set_xlabel("hours on four cores")
plt.show()

# %% [markdown]
# All {glue:text}`run_frames` frames take {glue:text}`run_laptop` hours on a laptop with four cores, and
# {glue:text}`run_cluster` minutes on sixty-four, if that many clips can be read at once. The slowest stage is
# {glue:text}`run_slowest`; leave it out, and the rest is done over dinner ({numref}`run-hours`). This is arithmetic
# with rates of {glue:text}`run_machine`; your machine has its own, and `make bench` measures them. Training comes on
# top. On a GPU none of it has been measured.
#
# Now the room. There are {glue:text}`run_media` GB of media, and as much again, because Git LFS keeps a copy of its own
# below `.git`. Then there is what is made of them. A face is a small JPEG, and a row of features is numbers of four
# bytes. The faces of this page's corpus tell how many bytes one takes; they are drawn, and real ones, with more to be
# seen in them, will take more.

# %%
preprocess(corpus, work, resources=Resources(progress=False))
sample = [path.stat().st_size for path in sorted((work / "faces").glob("*/*.jpg"))[:500]]
rooms = {"media, twice": 2 * media_gb, "faces": frames * np.mean(sample) / 1e9}
rooms["sound"] = sound * 32_000 / 1e9
for name in ("vit", "resnet18", "aus", "wav2vec2", "mfcc"):
    each = EXTRACTORS[name]
    steps = sound * each.rate if each.modality == "A" else frames
    rooms[name] = steps * each.width * 4 / 1e9
gigabytes = pd.Series(rooms)
f"{gigabytes.sum():.1f} GB together"

# %% tags=["remove-cell"]
glue("run_room", f"{gigabytes.sum():.0f}", display=False)

# %% mystnb={"image": {"alt": "Horizontal bars of gigabytes: the media to fetch, the faces, the sound, and five sets of features. The large speech features and the media are the longest; action units and the sound's formula features hardly show."}, "figure": {"caption": "Gigabytes on disk for all of CREMA-D: what is fetched, and what each stage writes.", "name": "run-room"}}
fig, ax = plt.subplots()
ax.barh(gigabytes.index, gigabytes, color=figures.ORANGE)
ax.invert_yaxis()
ax.set_xlabel("gigabytes")
plt.show()

# %% [markdown]
# With everything, {glue:text}`run_room` GB ({numref}`run-room`).
#
# ## Run
#
# ```bash
# emibook weights get vit wav2vec2
# emibook preprocess CREMA-D --work W
# emibook extract CREMA-D --work W --features vit resnet18 aus wav2vec2 mfcc
# emibook tables CREMA-D --work W --seeds 5
# ```
#
# Each command shows how far it is, can be stopped at any time, and goes on where it was. The last one alone does all
# of it. A clip that cannot be used is a row with its reason in `W/preprocess.csv`. Where no weights can be had, `vit`
# and `wav2vec2` are untrained controls, and the tables say so in every row.
#
# Two options change what is learnt and from whom. `--ratings voice` trains on what people said who only *heard* the
# clip, `--ratings face` on those who only saw it; without it, on those who had both. `--fold 2/5` leaves the published
# split aside, deals the actors into five groups and validates on the second. `emibook submit`, which writes a run's
# predictions for the test partition, needs the same options.
#
# ## Read
#
# Both tables end with people: those who saw the clips of the validation actors, those who heard them, and the average
# of the two, scored like a branch. A branch that reaches them reads a face, or a voice, as well as ten strangers do.
# Above them stands the ceiling, the most that anybody can reach with such labels; `emibook ceiling CREMA-D` says how
# high it is. Chapter 2 has both for all actors, and a warning: a fused row averages two opinions, and part of what it
# gains is that two have less luck in them than one.
#
# The built-in encoders are fitted on drawings. On people they are no more than a beginning; a table made with them
# says so. And whatever comes out, it is about acted emotions, of which each rater ticked one of six.

# %%
kept = sorted(project_path("book/results").glob("crema_d_table*.csv"))
for path in kept:
    print(pd.read_csv(path).to_string(index=False))
if not kept:
    print("Both tables on CREMA-D: this has not been run.")

# %% [markdown]
# As long as the line above says that it **has not been run**, nobody has made these tables with this library on the
# real media, and there is no number to quote. What has been run is the same way on an imitation: drawn faces in
# CREMA-D's file names and codecs, joined to votes in its format. Whoever runs it can keep `W/tables/table2.csv` and
# `table3.csv` as `book/results/crema_d_table2.csv` and `crema_d_table3.csv`, and this page shows them.
#
# ## Keep people apart
#
# The published split has 56 actors to train on, 17 to validate and 18 to test, and nobody in two of them. What if one
# dealt *clips* instead? Try both on the corpus of this page: `folds` deals people, `dealt` deals clips. Of each way
# count who is validated on and was trained on as well: a share of the clips for the second, the most people for the
# first.

# %%
names = corpus.clips["participant"]
if (names == "").any():  # a corpus that names nobody: eight in a row for one
    names = [str(number // 8) for number in range(len(names))]
named = replace(corpus, clips=corpus.clips.assign(participant=names))
folds = [fold(named, f"{number}/5") for number in range(1, 6)]
known = folds[0].clips[folds[0].clips["partition"].isin(["train", "valid"])]
people = known["participant"].to_numpy()

# %%
dealt = np.random.default_rng(seed).integers(5, size=len(people))
met = [np.isin(people[dealt == each], people[dealt != each]).mean() for each in range(5)]
valid, train = ([set(each.partition(part)["participant"]) for each in folds]
                for part in ("valid", "train"))
both = [one & other for one, other in zip(valid, train, strict=True)]
round(float(np.mean(met)), 2), max(map(len, both))

# %% mystnb={"image": {"alt": "Five bars, one a fold, of about equal height: the number of validation clips. Each bar is stacked of many small pieces, one a participant, and no participant has pieces in two bars."}, "figure": {"caption": "Validation clips of each of five folds; every piece is one participant.", "name": "run-folds"}}
fig, ax = plt.subplots()
shades = [figures.BLUE, figures.ORANGE, figures.GREEN, figures.PURPLE]
for number, each in enumerate(folds, 1):
    base = 0
    sizes = each.partition("valid")["participant"].value_counts()
    for place, size in enumerate(sizes):
        ax.bar(number, size, bottom=base, color=shades[place % 4], edgecolor="white")
        base += size
ax.set(xlabel="fold", ylabel="validation clips")
plt.show()

# %% tags=["remove-cell"]
glue("run_met", f"{100 * np.mean(met):.0f}", display=False)

# %% [markdown]
# Dealt by clip, {glue:text}`run_met` per cent of the validation clips show somebody whom the training has met. A model
# can then know the person instead of the emotion, and its score says nothing of the next stranger. Dealt by person
# ({numref}`run-folds`), nobody is met twice, the folds are about as large as each other, and every clip is validated
# on once.
#
# ## More machines, more runs
#
# `preprocess` and `extract` share their clips among the cores of one machine. With `--slurm PARTITION --workers 64` they
# ask a SLURM cluster for workers, with `--scheduler ADDRESS` a Dask scheduler that runs already. Networks run on a GPU
# where there is one; `--device cpu` keeps them off it. All stages together are {glue:text}`run_core_hours` core hours,
# and that, times what somebody takes for one, is the bill.
#
# Each chapter is a notebook with parameters, so papermill runs it on your clips, and `emibook sweep` one for each line
# of a file of parameters, on as many machines. The whole book on your clips is the last line.
#
# ```bash
# emibook preprocess CREMA-D --work W --slurm PARTITION --workers 64
# papermill notebooks/06_faces.ipynb out.ipynb --cwd . \
#     -p profile open -p root CREMA-D -p work W
# emibook sweep notebooks/06_faces.py --parameters sweep.yml --out W/sweep
# emibook book --profile open --root CREMA-D --work W
# ```
#
# ## When the licence comes
#
# Hume-Vidmimic2 is a folder like any other, and the commands stay the same. What it holds stays on the machines of those
# who signed, clips and whatever is computed from them (chapter 17). Its test clips have no labels: `submit` writes
# the file that the challenge asks for, from one run of each branch below `H/runs`. And what the audit could not say
# before, it now says.
#
# ```bash
# emibook check HUME
# emibook tables HUME --work H --seeds 5
# emibook tables HUME --work H --rows official_vit official_wav2vec2
# emibook submit HUME --run H/runs/VISUAL H/runs/ACOUSTIC --out test.csv
# emibook audit --work H
# emibook book --profile paper --root HUME --work H
# ```
#
# ## What goes wrong otherwise
#
# Notes of Git LFS look like files: a decoder calls all of them broken, and whoever skips broken clips without counting
# trains on nothing. One clip of a minute under the name of a short one spoils one label and nobody sees it. And a
# corpus dealt by clip gives a fine table that will not hold.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} One night
# :label: run-exercise-night
# ```
# The machine may work for eight hours, and all stages have to be done. How many cores must it have, if `core_hours`
# holds and nothing else stands in the way?
#
# Give a whole number: `emibook.check_exercise("16.1", cores, core_hours=core_hours)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} run-exercise-night
# :class: dropdown
# ```
# All core hours together, shared by the cores, may take eight hours; part of a core cannot be bought.

# %%
cores = int(np.ceil(core_hours.sum() / 8))
emibook.check_exercise("16.1", cores, core_hours=core_hours)
cores

# %% [markdown]
# Few enough for any laptop, and fewer still where the slowest stage is left to a GPU.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Met before
# :label: run-exercise-met
# ```
# In a corpus everybody has exactly two clips, and somebody deals the clips at random into five folds. Each fold is
# validated on in turn, and the training has the other four. What share of the validation clips shows a person whom the
# training has met? Think first, then deal.
#
# Give the share: `emibook.check_exercise("16.2", share)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} run-exercise-met
# :class: dropdown
# ```
# A person is not met only if the other clip lies in the same fold, which happens once in five times.

# %%
pairs = np.repeat(np.arange(5000), 2)
dealt = np.random.default_rng(0).integers(5, size=len(pairs))
parts = [np.isin(pairs[dealt == each], pairs[dealt != each]).mean() for each in range(5)]
share = float(np.mean(parts))
emibook.check_exercise("16.2", share)
round(share, 2)

# %% [markdown]
# With more clips a person it goes up fast: that two clips fall into one fold happens often enough, that ten do hardly
# ever.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - the two commands that bring the open data, and the one that brings only the votes;
# - seen what a check answers, and what becomes of four broken clips;
# - worked out hours and gigabytes for three machines, from measured rates and one clip's length;
# - the four commands to both tables, and three things to hold a row against;
# - dealt clips and people into folds, and seen how many are met twice;
# - the commands for more machines, for more runs, and for the day when the licence comes.
#
# ## Sources
#
# The paper, section 4.1 {cite:p}`yu2024`; CREMA-D {cite:p}`cao2014`, under the Open Database License; its faults as
# its users reported them, and the split with which audEERING publishes results on it.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with its corpus there already.
