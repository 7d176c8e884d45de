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
# # What it costs

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0

# %% tags=["hide-input"]
import re
import textwrap
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, project_path
from emibook.corpus import open_corpus
from emibook.preprocess import frames
from emibook.preprocess.detector import Detector
from emibook.preprocess.video_detection import detect_faces
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
# **How long does it take to turn thirty hours of video into features, and where does the time go?**
#
# A doctoral student has the data, the code of a paper and one computer. She starts the first script on a Friday. On
# Monday it is still looking for faces. Most replications end here, and nobody hears of them: not because the
# method is wrong, but because a loop looks at millions of frames one at a time. This chapter measures that loop beside
# ours, and works out what the whole data set would take.
#
# You will
#
# - see what a frame costs by the paper's loop, by ours, and by decoding alone;
# - see what a face costs an encoder, one at a time and in batches;
# - work out the time for the whole data set on two cores, on sixteen, with a GPU and on a cluster.
#
# ## What the paper says
#
# > "In this work, we employed the multimodal Hume-Vidmimic2 dataset, which comprises over 15,000 videos featuring 557
# > participants and spanning more than 30 hours of audiovisual content." (section 4.1)
#
# It names the card that the training ran on, and says nothing on how long the features took. The training is the
# smaller part: before it, every frame has to be decoded, searched for a face, cropped and encoded.
#
# ## A frame
#
# The tables of this chapter come from the programs in the folder `benchmarks`, which ran on the machine that their
# first line names. Each runs the plain way and ours on the same cores and the same clips, and leaves the starting of
# programs out. Here is the one for preprocessing.

# %% tags=["hide-input"]
results = project_path("benchmarks/results")
told = (results / "preprocess.txt").read_text()
print(told)

# %% tags=["remove-cell"]
rows = [line.split() for line in told.splitlines() if re.match(r"\d+x\d+ ", line)]
columns = ["clips", "paper", "decode", "ours", "ratio", "of_decode"]
frame = pd.DataFrame([row[:6] for row in rows], columns=columns).set_index("clips").astype(float)
glue("machine", told.splitlines()[0].split(";")[0], display=False)
glue("small_ratio", f"{frame['ratio'].iloc[0]:.0f}", display=False)
glue("large_ratio", f"{frame['ratio'].iloc[-1]:.0f}", display=False)
glue("small_decode", f"{frame['of_decode'].iloc[0]:.1f}", display=False)
glue("large_decode", f"{frame['of_decode'].iloc[-1]:.1f}", display=False)

# %% [markdown]
# The column *paper* is MTCNN on every frame, one at a time, with all cores. *Ours* follows a face from frame to frame
# and does as many clips at once as there are cores, see [From video to faces](06_faces.ipynb). *Decode* does nothing
# but turn the file into pictures: no way of finding faces can be faster than that. All three are milliseconds a frame
# of all cores together; *ratio* is *paper* over *ours*, *of decode* is *ours* over *decode*. The rest of the
# table says how near the faces are to those of the cascade on every frame: on what share of frames both find a face or
# both find none (*faces*), how much of the two boxes' joint area they share (*IoU*, one where they are the same), and how
# far apart the landmarks lie, in distances between the eyes (*marks*). Behind *itself* stands the same for the cascade
# and the cascade on frames one twentieth smaller: so far it disagrees with itself.

# %% mystnb={"image": {"alt": "Three groups of three horizontal bars on a logarithmic axis, one group for each size of picture. In each group the bar of the paper's loop is by far the longest, and the bar of the library is much nearer to that of decoding."}, "figure": {"caption": "Milliseconds a frame, all cores together: the paper's loop, the library, and decoding alone. The axis is logarithmic.", "name": "performance-frame"}}
fig, ax = plt.subplots()
names = {"paper": "the paper's loop", "ours": "the library", "decode": "decoding alone"}
for place, (column, label) in enumerate(names.items()):
    ax.barh(np.arange(len(frame)) + 0.27 * (1 - place), frame[column], 0.25, label=label)
ax.set_yticks(np.arange(len(frame)), frame.index)
ax.set(xscale="log", xlabel="milliseconds a frame")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# On this machine ({glue:text}`machine`) the library takes a frame of the smallest size {glue:text}`small_ratio` times
# as fast as the loop, and one of the largest {glue:text}`large_ratio` times. Preprocessing then takes
# {glue:text}`small_decode` times as long as decoding alone at the smallest size, and {glue:text}`large_decode` times
# at the largest ({numref}`performance-frame`): no way of finding faces can gain more than that.
#
# Why does the gain grow with the picture? The cascade's first network looks at every place of the picture, so its
# cost grows with the number of pixels. Following looks at one face, whatever surrounds it.
#
# ## A drawn frame
#
# The book's own corpus is filmed before all this. A person's skin, hair and folds are drawn once; a frame then bends
# that picture, draws eyes and mouth into it and lays on the camera's noise. The table has this beside making the person
# anew for each frame, in milliseconds of one core.

# %% tags=["hide-input"]
print((results / "drawing.txt").read_text())

# %% [markdown]
# ## Does following change what comes of it?
#
# Boxes that agree are a means. What counts is whether features and correlations move. So the corpus was preprocessed
# twice, once following and once with the cascade on every frame, and everything after was done alike.

# %% tags=["hide-input"]
print((results / "following.txt").read_text())

# %% [markdown]
# The upper part compares each face's row from either crop: the cosine, its median and its lowest twentieth, as it is and
# with the mean of all faces taken off. The lower one trains a branch on either, with the same three seeds, and gives the
# mean correlation with its interval over participants and seeds. These are drawings: the numbers say nothing about people.
#
# ## A face
#
# Then each crop goes through an encoder. A network that is given one picture at a time spends its time on fetching
# its own weights. In a batch it fetches them once for many pictures; and where the processor can multiply in
# sixteen bits, it does so. Times in the next table are milliseconds a face, and for sound a second of it.

# %% tags=["hide-input"]
told = (results / "extract.txt").read_text()
print(told)

# %% tags=["remove-cell"]
pattern = r"^(\w+) +(.+?) +(\d+) +([\d.]+) +([\d.]*)"
cells = [match.groups() for match in map(re.compile(pattern).match, told.splitlines()[2:]) if match]
face = pd.DataFrame(cells, columns=["features", "way", "threads", "ms", "times"])
face = face.astype({"threads": int, "ms": float})
face = face[~face["way"].str.contains("GPU")]
single = face[face["threads"] == 1].drop_duplicates(["features", "way"])
best = single.groupby("features")["ms"].min()
slowest = single.groupby("features")["ms"].max()
glue("resnet_one", f"{slowest['resnet18']:.1f}", display=False)
glue("resnet_batch", f"{best['resnet18']:.1f}", display=False)
glue("resnet_times", f"{slowest['resnet18'] / best['resnet18']:.1f}", display=False)

# %% mystnb={"image": {"alt": "Horizontal bars of milliseconds a face for the two image networks: for ResNet-18 one picture at a time takes longest, batches less, and batches in sixteen bits least; for the vision transformer, whose bars are many times as long, batches alone help little or not at all, and sixteen bits do."}, "figure": {"caption": "Milliseconds a face on one core, for the two image networks: one face at a time, in batches, and in batches with sixteen bits. The axis is logarithmic.", "name": "performance-face"}}
shown = single[single["features"].isin(["resnet18", "vit"])].iloc[::-1]
colors = np.where(shown["features"] == "vit", figures.ORANGE, figures.BLUE)
fig, ax = plt.subplots()
ax.barh(shown["features"] + ", " + shown["way"], shown["ms"], color=colors)
ax.set(xscale="log", xlabel="milliseconds a face, one core")
plt.show()

# %% [markdown]
# One core gives a face its ResNet-18 features in {glue:text}`resnet_one` milliseconds alone, and in
# {glue:text}`resnet_batch` in a batch with sixteen bits: {glue:text}`resnet_times` times as fast. The vision transformer
# has so much to compute for one picture that fetching its weights hardly counts; for it the sixteen bits are what helps
# ({numref}`performance-face`). The last columns of the table are the least cosine between a face's row and its row by the
# plain way, as it is and with the mean of all faces taken off: one means the same direction, so nothing was lost.
#
# ## Many workers
#
# Clips know nothing of each other, so they can be spread over processes, and over machines. That is worth it only if
# two workers do twice the work of one, and if a long list of clips costs no more memory than a short one.

# %% tags=["hide-input"]
print((results / "engine.txt").read_text())

# %% [markdown]
# *Ratio* is how many times the first way's clips a second a way does. A worker with two threads gains little, because
# most of what it does cannot be split; two workers with one thread each share nothing but the disk. The second part
# counts what the engine itself takes: its time for an item that does nothing, and its memory for few and for many.
#
# ## An epoch
#
# Last comes the training, at the paper's size: all training clips, every feature of ResNet-18 and the action units.
# The plain loop pads each clip to three hundred steps; the library puts clips of like length together, so that little
# is padded, and uses sixteen bits where the processor has them. Its parts of a batch are a multiple of sixteen steps
# long: a processor's matrix products are compiled for each shape that they meet, and of few shapes the programs are kept.

# %% tags=["hide-input"]
lines = (results / "train.txt").read_text().splitlines()
print("\n".join(textwrap.fill(line, 72) if len(line) > 72 else line for line in lines))

# %% [markdown]
# The two loops took turns, because what else a machine does comes and goes; how far the times by turn lie apart says
# how much. On another processor it is another table; `python benchmarks/train.py` makes it.
#
# The last lines say whether the faster loop still learns the same. In full precision its gradients are those of the
# plain loop but for rounding. In sixteen bits the rounding is coarser, and within a few dozen steps it sends two
# trainings with the same first weights apart, one up and another down. So the two loops are compared seed by seed, over
# several seeds, after three quick epochs at a fast rate: a mean difference whose interval holds zero cannot be told from
# none. The plain loop in sixteen bits stands beside them: what they do to it is not the library's doing.
#
# ## Here and now
#
# Tables of other machines are hearsay. So here is the loop and the library on a clip of the corpus at hand, on the
# machine that made this page, in one process each, with nothing left out but the loading of the networks.

# %%
detector = Detector()
paths = corpus.clips["path"]
clip = paths.iloc[0]
images = list(frames(clip))[:120]
clock = time.perf_counter()
searched = [detector.detect([image])[0] for image in images]
loop = (time.perf_counter() - clock) / len(images)
clock = time.perf_counter()
followed = list(detect_faces(images, detector))
ours = (time.perf_counter() - clock) / len(images)

# %% tags=["remove-cell"]
glue("here_frames", len(images), display=False)
glue("here_loop", f"{1e3 * loop:.1f}", display=False)
glue("here_ours", f"{1e3 * ours:.1f}", display=False)

# %% [markdown]
# Over {glue:text}`here_frames` frames, finding the face takes {glue:text}`here_loop` milliseconds a frame by the loop
# and {glue:text}`here_ours` by following. The corpus's pictures are small; in larger ones the difference is greater.
#
# ## 17,246 clips
#
# The paper: 8,072, 4,588 and 4,586 clips, and more than 30 hours in all. Thirty hours are taken here, so the true times
# are a little longer. Multiply, and the plan for a replication is a small table. It assumes that cores do not get in
# each other's way, and that frames are of the middle size, which is a guess: the paper does not give it.

# %%
seconds = 30 * 3600
work_ms = pd.Series({
    "faces": 30 * seconds * 2 * frame["ours"].iloc[1],
    "resnet18": 30 * seconds * best["resnet18"],
    "aus": 30 * seconds * best["aus"],
    "vit": 30 * seconds * best["vit"],
    "wav2vec2": seconds * best["wav2vec2"],
    "mfcc": seconds * best["mfcc"],
})
hours = work_ms / 3.6e6
machines = {"two cores": 2, "16 cores": 16, "ten nodes of 16 cores": 160}
plan = pd.DataFrame({name: hours / cores for name, cores in machines.items()})
on_card = plan.index.isin(["resnet18", "vit", "wav2vec2"])
plan["a GPU, at least"] = plan["16 cores"].where(~on_card, 0)
plan.round(2)

# %% tags=["remove-cell"]
loop_hours = 30 * seconds * frame["paper"].iloc[1] / 3.6e6
glue("loop_days", f"{loop_hours / 24:.1f}", display=False)
glue("ours_hours", f"{plan['two cores']['faces']:.1f}", display=False)
glue("all_hours", f"{plan['two cores'].sum():.0f}", display=False)
glue("all_hours_sixteen", f"{plan['16 cores'].sum():.1f}", display=False)
glue("gpu_least", f"{plan['a GPU, at least'].sum():.1f}", display=False)
glue("all_minutes_cluster", f"{60 * plan['ten nodes of 16 cores'].sum():.0f}", display=False)

# %% mystnb={"image": {"alt": "Dots on a logarithmic axis of hours for six stages on three machines. The vision transformer takes longest, then the speech network, the faces and ResNet-18, each for hours on two cores; on ten nodes every stage ends within an hour or so."}, "figure": {"caption": "Hours for all clips of the paper's data set, by stage and machine, worked out from the measured times. The axis is logarithmic.", "name": "performance-plan"}}
fig, ax = plt.subplots()
for marker, name in zip("osD", machines, strict=True):
    ax.plot(plan[name], plan.index, marker, label=name)
ax.set(xscale="log", xlabel="hours")
ax.invert_yaxis()
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# By the paper's loop the faces alone take {glue:text}`loop_days` days on two cores; followed, they take
# {glue:text}`ours_hours` hours. With every encoder of the table it is {glue:text}`all_hours` hours on two cores,
# {glue:text}`all_hours_sixteen` on sixteen, and {glue:text}`all_minutes_cluster` minutes on ten nodes of a cluster.
#
# **One GPU.** No card was at hand to be measured, so its column is a bound, worked out from the other times. Decoding,
# following a face, the built-in action units and MFCC stay on the processor, so they take what sixteen cores take. The
# three networks go to the card; the column gives them no time at all, and no card can be faster than that. So with one
# card beside sixteen cores the plan takes between {glue:text}`gpu_least` hours and the
# {glue:text}`all_hours_sixteen` hours of the cores alone. How near to the lower end a card comes is told by
# `benchmarks/extract.py` on a machine that has one.
#
# A run of hours will be stopped by something. Whatever stops it, the same command goes on where it was:
#
#     emibook preprocess ROOT --work WORK --workers 16
#     emibook preprocess ROOT --work WORK --slurm PARTITION --workers 160
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Your own corpus
# :label: performance-exercise-own
# :nonumber:
# ```
# CREMA-D has 7,442 clips of about two and a half seconds, of 480 by 360 pixels. How long do its faces take on two
# cores? Use the smallest size of the table; its times are milliseconds of both cores together.
#
# Give the minutes: `emibook.check_exercise("a3.1", minutes, frame=frame)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} performance-exercise-own
# :class: dropdown
# ```
# Clips times seconds times frames a second times the time of a frame.

# %%
crema_minutes = 7_442 * 2.5 * 30 * frame["ours"].iloc[0] / 60e3
emibook.check_exercise("a3.1", crema_minutes, frame=frame)
round(crema_minutes)

# %% [markdown]
# The pictures are smaller than those of the table, so in truth it is a little less.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Where is the next bottleneck?
# :label: performance-exercise-next
# :nonumber:
# ```
# Suppose that finding faces cost nothing at all. How much faster would the whole plan on two cores be? And if
# encoding with ResNet-18 cost nothing?
#
# Give how many times as fast the whole plan would be without each stage, in the order of `hours`:
# `emibook.check_exercise("a3.2", times, hours=hours)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} performance-exercise-next
# :class: dropdown
# ```
# What is left of the sum when a part is taken out bounds any gain from making that part faster.

# %%
times = hours.sum() / (hours.sum() - hours)
emibook.check_exercise("a3.2", times, hours=hours)
times.round(2).to_frame("times as fast")

# %% [markdown]
# A stage that is a small share of the whole is not worth a further week of anybody's time.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - seen what a frame costs, and how near that is to decoding alone;
# - seen what a face costs, and what batches and sixteen bits are worth;
# - made a plan for the whole data set, and seen which stage to look at first.
#
# ## Sources
#
# The paper, section 4.1 {cite:p}`yu2024`; the cascade {cite:p}`zhang2016`. `make bench` makes the tables anew.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds to make, the tables of the benchmarks left out.
