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
# # Time

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0
weights = {"vit": "small", "wav2vec2": "small"}

# %% tags=["hide-input"]
import time

import av
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.features import EXTRACTORS, extract, store
from emibook.fusion import late_fusion
from emibook.preprocess import FRAME_RATE, preprocess
from emibook.puppet.corpus import make_corpus
from emibook.sequences.load import load
from emibook.sequences.packed import Feed
from emibook.sequences.timeline import STEPS, on_clock

# %% tags=["hide-input"]
started = time.perf_counter()
figures.use_style()
root, work = project_path(root), project_path(work)
if profile == "builtin":
    make_corpus(root, clips=clips, seed=seed, progress=False)
corpus = open_corpus(root)
banner(profile, corpus)

# %% [markdown]
# **When, in a clip, is step 90?**
#
# A friend describes a film to you on the telephone. "In the ninetieth picture she smiles." You look: in your copy the
# ninetieth picture shows an empty room. Your copy has another frame rate; hers begins a second later; she left out the
# pictures in the dark. Both of you have counted correctly.
#
# A network counts *steps*: rows of numbers, one after the other. Whether its step 90 is three seconds into a face, two
# seconds into a sound, or nothing at all is decided long before it, in a few lines that nobody looks at. This chapter
# looks at them.
#
# You will
#
# - put a clip whose pictures come unevenly onto a clock, picture by picture;
# - compare the rates at which *features*, the numbers that describe a face or a sound, tick, and what 300 steps of each
#   cover;
# - bring sound to the clock of the faces, by an average and not by picking;
# - put clips of different lengths into one box, and see what a forgotten mask costs;
# - follow a clip without a face, or without a sound, to its prediction.
#
# ## What the paper says
#
# > "We observed varying frame rates in the original videos, resulting in notable discrepancies in the number of
# > extracted video frames. Consequently, we initially utilize the ffmpeg tool to standardize the frame rate of each
# > video sample to 30 fps." (section 3.1)
#
# > "[...] $T = 300$ represents the number of images [...] Similarly, acoustic features $X_a \in
# > \mathbb{R}^{T \times d_a}$ represent the feature sequence obtained from the Wav2Vec2.0 model." (section 3.3)
#
# So the faces tick 30 times a second. How often the sound ticks, the paper does not say; it only gives it the same $T$.
#
# ## A clock
#
# A video file is a pile of pictures (*frames*), each with a *timestamp*, the moment at which it is to be shown. A
# browser writes them as they come. Read the timestamps of the corpus, which takes no decoding (`pts` counts them in
# units of `time_base` seconds), and pick the clip with the most uneven ones.

# %%
done = preprocess(corpus, work, resources=Resources(progress=False)).set_index("clip")
videos = corpus.clips.set_index("clip")["path"]
readable = done.index[done["frames"] > 30]
readable = readable[:: max(1, len(readable) // 300)]
stamps = {}
for clip in readable:
    with av.open(videos[clip]) as file:
        stream = file.streams.video[0]
        packets = [packet for packet in file.demux(stream) if packet.pts is not None]
        stamps[clip] = np.sort([float(packet.pts * packet.time_base) for packet in packets])
unsteady = max(stamps, key=lambda clip: np.std(np.diff(stamps[clip])))
shown = stamps[unsteady] - stamps[unsteady][0]

# %% [markdown]
# The clock has a tick every thirtieth of a second. What is on the screen at a tick is the last picture that came. So a
# picture that waits long for the next one is shown more than once, and where two come between two ticks, the first of
# them is never shown.

# %%
ticks = np.arange(0, 0.6, 1 / FRAME_RATE)
source = np.searchsorted(shown, ticks + 0.5 / FRAME_RATE, side="right") - 1
never = set(range(source[-1])) - set(source)

# %% mystnb={"image": {"alt": "Two rows of marks over six tenths of a second. Above, the frames of the file, unevenly spaced; below, the even ticks of the clock. A line leads from each tick to the frame that it shows; several lines may meet in one frame, and a frame without a line is never shown."}, "figure": {"caption": "The beginning of the clip with the most uneven timestamps: its frames (above), the clock (below), and which frame each tick shows.", "name": "time-clock"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2))
early = shown[shown < 0.6]
ax.plot(early, np.ones(len(early)), "|", markersize=16, color=figures.ORANGE)
ax.plot(ticks, np.zeros(len(ticks)), "|", markersize=16)
for tick, frame in zip(ticks, source, strict=True):
    ax.plot([tick, shown[frame]], [0.12, 0.88], color=figures.GREY, linewidth=0.8)
ax.set_yticks([0, 1], ["clock", "file"])
ax.set(xlabel="seconds", ylim=(-0.4, 1.4))
plt.show()

# %% tags=["remove-cell"]
gaps = np.diff(shown)
glue("time_unsteady", unsteady, display=False)
glue("time_shortest", f"{gaps.min() * 1000:.0f}", display=False)
glue("time_longest", f"{gaps.max() * 1000:.0f}", display=False)
glue("time_frames", len(shown), display=False)
glue("time_ticks", int(done.loc[unsteady, "frames"]), display=False)
glue("time_never", len(never), display=False)

# %% [markdown]
# In clip {glue:text}`time_unsteady` one picture comes between {glue:text}`time_shortest` and
# {glue:text}`time_longest` thousandths of a second after the other. Its {glue:text}`time_frames` pictures became
# {glue:text}`time_ticks` on the clock. (Pictures in {numref}`time-clock` that are never shown:
# {glue:text}`time_never`.) From here on a picture's number *is* its time. (The drawing rounds to the nearest tick; the
# library lets FFmpeg do it, in fractions of the file's own unit.)
#
# ## Everything ticks at its own rate
#
# Faces come 30 times a second, and so does what is measured on each: action units (`aus`), movements such as a raised
# brow (chapter 7). MFCC, coefficients that describe the colour of a sound (chapter 8), come a hundred times a second,
# because speech changes within hundredths. wav2vec 2.0 {cite:p}`baevski2020`, a network that listens, gives 50 rows a
# second, because it takes a step of 320 of the 16,000 samples in a second of sound. The features of a network for
# pictures, ViT, that the organisers of the challenge hand out come about six times a second
# {cite:p}`kollias2024`. Three hundred steps are not the same for all of them. (The other rows of the table are feature
# sets of chapter 8.)

# %%
rates = {"faces": FRAME_RATE, "official ViT, about": 6}
rates |= {name: each.rate for name, each in EXTRACTORS.items() if each.rate}
rates = pd.Series(rates, name="a second", dtype=float).sort_values()
table = rates.to_frame().assign(**{"seconds in 300 steps": STEPS / rates})
table.round(1)

# %%
names = ["aus", "wav2vec2", "mfcc"]
given = {name: weights[name] for name in names if name in weights}
extract(corpus, work, names, weights=given, resources=Resources(progress=False))
usable = done[(done["faces"] > 60) & (done["audio_seconds"] > 1)].sort_values("faces")
clip = usable.index[len(usable) * 3 // 4]
rows = {name: store.load(store.clip_path(store.feature_folder(work, name), clip))
        for name in names}

# %% mystnb={"image": {"alt": "Four rows of upright ticks over one second: about six, thirty, fifty and a hundred of them. A tenth of the way through, the ticks of different rows stand at different places."}, "figure": {"caption": "One second of one clip: when the rows of each feature set are. The lowest row is drawn at the rate of the organisers' ViT features, which are not part of this corpus.", "name": "time-rates"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.2))
lines = {"official ViT": np.arange(0, 1, 1 / 6)}
lines |= {name: each.times for name, each in rows.items()}
for place, times in enumerate(lines.values()):
    ax.plot(times[times < 1], np.full((times < 1).sum(), place), "|", markersize=18)
ax.set_yticks(range(len(lines)), list(lines))
ax.set(xlabel="seconds", ylim=(-0.6, len(lines) - 0.4))
plt.show()

# %% tags=["remove-cell"]
glue("time_faces_seconds", f"{STEPS / 30:.0f}", display=False)
glue("time_speech_seconds", f"{STEPS / 50:.0f}", display=False)
glue("time_mfcc_seconds", f"{STEPS / 100:.0f}", display=False)
ninety = [f"{rows[name].times[90]:.1f}" if len(rows[name]) > 90 else f"{90 / rates[rate]:.1f}"
          for name, rate in (("aus", "faces"), ("wav2vec2", "wav2vec2"), ("mfcc", "mfcc"))]
glue("time_ninety_face", ninety[0], display=False)
glue("time_ninety_speech", ninety[1], display=False)
glue("time_ninety_mfcc", ninety[2], display=False)

# %% [markdown]
# 300 faces are {glue:text}`time_faces_seconds` seconds, 300 rows of wav2vec 2.0 are {glue:text}`time_speech_seconds`,
# 300 rows of MFCC {glue:text}`time_mfcc_seconds`. And step 90, the question of this page, is
# {glue:text}`time_ninety_face` seconds into the faces, if none is missing before it, {glue:text}`time_ninety_speech`
# into wav2vec 2.0 and {glue:text}`time_ninety_mfcc` into MFCC. The paper has two networks, its *branches*, one for the
# face and one for the sound. They never meet step by step, only in their predictions, so nothing forces them onto one
# clock. But with 300 rows each, the face of a clip of seven seconds would be read to its end and its voice cut off
# before. The library brings sound to 30 steps a second unless told otherwise.
#
# ## Averaged, not picked
#
# From a hundred rows a second to thirty: why not take every third one or so? Because what happens in between does not
# go away; it comes back as something else. A wheel in a film turns backwards for this reason. Take a tremor of 28 a
# second, look at it 30 times a second, and a slow swing appears that nobody made. An average over each step's stretch
# of time is small instead, which is the truth: at this rate the tremor cannot be seen.

# %%
fast = np.arange(0, 1, 0.01)
tremor = np.sin(2 * np.pi * 28 * fast)[:, None]
ticks = (np.arange(FRAME_RATE) + 0.5) / FRAME_RATE
picked = tremor[np.abs(fast[:, None] - ticks).argmin(axis=0), 0]
averaged = on_clock(tremor, fast, FRAME_RATE, STEPS)[:FRAME_RATE, 0]

# %% mystnb={"image": {"alt": "Three curves over one second. A thin fast one swings twenty-eight times. Through it runs a dashed slow wave of nearly the same height, which is what picking gives. The third one, the average, stays near nought."}, "figure": {"caption": "A tremor of 28 a second (thin), picked 30 times a second (dashed), and averaged over each thirtieth (thick).", "name": "time-picked"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.6))
ax.plot(fast, tremor[:, 0], color=figures.GREY, linewidth=0.6, label="100 a second")
ax.plot(ticks, picked, "--", color=figures.ORANGE, label="picked")
ax.plot(ticks[: len(averaged)], averaged, linewidth=2.4, label="averaged")
ax.set(xlabel="seconds")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% tags=["remove-cell"]
glue("time_picked", f"{np.abs(picked).max():.2f}", display=False)
glue("time_averaged", f"{np.abs(averaged).max():.2f}", display=False)

# %% [markdown]
# The ghost is {glue:text}`time_picked` high, of a tremor of height one; what the average leaves is
# {glue:text}`time_averaged`. On the sound of the clip in {numref}`time-rates`, the same function does this:

# %%
sound = rows["mfcc"]
steps = on_clock(sound.values, sound.times, FRAME_RATE, STEPS)
column = sound.names.index("mfcc_01")

# %% mystnb={"image": {"alt": "Dots a hundredth of a second apart and a staircase through them, a step a thirtieth of a second wide, at the height of the dots' average."}, "figure": {"caption": "One coefficient of the sound at its own rate (dots) and on the clock (steps), in the middle of the clip.", "name": "time-steps"}}
middle = sound.times[-1] / 2
near = np.abs(sound.times - middle) < 0.25
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.4))
ax.plot(sound.times[near], sound.values[near, column], ".", color=figures.GREY)
edges = np.arange(len(steps) + 1) / FRAME_RATE
ax.stairs(steps[:, column], edges, linewidth=1.8, baseline=None)
ax.set(xlabel="seconds", ylabel="mfcc_01", xlim=(middle - 0.25, middle + 0.25))
plt.show()

# %% [markdown]
# ## The first 300
#
# Clips are of all lengths. Longer ones are cut after 300 steps, shorter ones are what they are. How many are cut?

# %%
faces = done.loc[done["faces"] > 0, "faces"]
beyond = (faces - STEPS).clip(lower=0)
cut = faces[faces > STEPS]

# %% mystnb={"image": {"alt": "Histogram of the seconds of a clip, most of them within a few seconds, a few far to the right. A dashed upright stands at ten seconds."}, "figure": {"caption": "How long the clips are. Dashed: where 300 steps end.", "name": "time-lengths"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.4))
ax.hist(faces / FRAME_RATE, bins=np.arange(0, faces.max() / FRAME_RATE + 0.5, 0.5))
ax.axvline(STEPS / FRAME_RATE, color="black", linestyle="--", linewidth=1)
ax.set(xlabel="seconds of faces", ylabel="clips", yscale="log")
plt.show()

# %% tags=["remove-cell"]
glue("time_cut", len(cut), display=False)
glue("time_clips", len(faces), display=False)
glue("time_lost", f"{beyond.sum() / faces.sum():.1%}", display=False)

# %% [markdown]
# {glue:text}`time_cut` of {glue:text}`time_clips` clips here are longer, and {glue:text}`time_lost` of all faces are
# never looked at. In the paper's data the average clip has seven seconds, and the longest twenty minutes; whether the
# first ten seconds of such a clip are the right ones is another choice that nobody has measured.
#
# ## What goes wrong otherwise: no mask
#
# A network reads several clips at a time, a *batch*. A batch is a box, and a box has one length. Shorter clips are
# filled up (*padded*), and a *mask* says where there is data.

# %%
valid = load(corpus, work, "aus", "valid")
some = np.argsort(valid.lengths)[:: max(1, len(valid) // 10)]
values, mask = Feed(valid, "cpu").batch(some)
values = values.float().masked_fill(~mask[..., None], 0).numpy()
mask = mask.numpy()

# %% mystnb={"image": {"alt": "A table of rows, one a clip, sorted by length: each is blue from the left as far as the clip goes and white after it. The last and longest row is blue all the way, most others only for a small part."}, "figure": {"caption": "The mask of a batch of clips: blue where there is data. The longest clip decides how much is filled up.", "name": "time-mask"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.4))
ax.imshow(mask, aspect="auto", cmap="Blues", interpolation="nearest", vmax=1.4)
ax.set(xlabel="step", ylabel="clip", yticks=[])
plt.show()

# %% [markdown]
# Take one feature of these clips, `AU12_r`, how far the lip corners are pulled up, and average it over time: over the
# steps that are there, and over all steps of the box.

# %%
smile = values[:, :, valid.names.index("AU12_r")]
counted = np.maximum(mask.sum(axis=1), 1)
right, wrong = (smile * mask).sum(axis=1) / counted, smile.mean(axis=1)
shown_rows = {"steps": mask.sum(axis=1), "mean": right, "mean, padding counted": wrong}
pd.DataFrame(shown_rows, [valid.clips[each] for each in some]).round(3)

# %% tags=["remove-cell"]
seen = right > 0
glue("time_worst", f"{(right[seen] / np.maximum(wrong[seen], 1e-6)).max():.0f}", display=False)

# %% [markdown]
# Count the padding, and the mean smile of a clip is up to {glue:text}`time_worst` times too small, depending on which
# clip happens to be the longest in the batch. Trained with that, a network learns to read the length of its company.
#
# ## No face, no sound
#
# Some clips have nothing to see, some nothing to hear. They are not dropped: the challenge scores them like any other,
# and whoever drops them reports another test. A branch that finds nothing in a clip predicts the mean of the training
# labels for it. In the average of two branches, the one that has something to say stands alone.

# %%
nothing = pd.Series({
    "no face in any frame": (done["faces"] == 0).sum(),
    "a face in half of the frames or less": (done["faces"] <= done["frames"] / 2).sum(),
    "no sound": done["audio_seconds"].isna().sum(),
    "could not be read": (done["status"] == "failed").sum(),
}, name="clips")
nothing.to_frame()

# %%
face, voice = np.array([[0.2], [0.2]]), np.array([[0.8], [0.8]])
there = [[True, False], [True, True]]  # (branch, clip): the second clip has no face
late_fusion(face, voice, present=there)

# %% [markdown]
# The first clip gets the average of its two answers. The second has no face; what the visual branch says of it is
# only a mean, and is left out.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Three hundred rows
# :label: time-exercise-rows
# ```
# MFCC come a hundred times a second. Left at their own rate, how many seconds of a clip do 300 rows cover, and what
# share of an average clip of the paper's data, which lasts seven seconds?
#
# Give the seconds: `emibook.check_exercise("4.1", covered)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} time-exercise-rows
# :class: dropdown
# ```
# Rows, divided by rows a second.

# %%
covered = STEPS / EXTRACTORS["mfcc"].rate
emibook.check_exercise("4.1", covered)
covered, round(covered / 7, 2)

# %% [markdown]
# Less than half of it.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Which row?
# :label: time-exercise-row
# ```
# wav2vec 2.0 reads 16,000 samples a second. Row $i$ sees 400 of them, from sample $320\,i$ on. Something happens
# two and a half seconds into the clip. Which row is centred nearest to it?
#
# Give the row's number, counted from nought: `emibook.check_exercise("4.2", row)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} time-exercise-row
# :class: dropdown
# ```
# The centre of row $i$ is half of 399 samples after its first.

# %%
centres = (320 * np.arange(400) + 399 / 2) / 16_000
row = int(np.abs(centres - 2.5).argmin())
emibook.check_exercise("4.2", row)
row, round(float(centres[row]), 4)

# %% [markdown]
# One row before the one that a plain multiplication gives. In the files of this library nobody has to know: every row
# carries its time.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The ghost
# :label: time-exercise-ghost
# ```
# How often a second does the ghost in {numref}`time-picked` swing? What would a tremor of 30 a second look like?
#
# Give the ghost's swings a second: `emibook.check_exercise("4.3", swings)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} time-exercise-ghost
# :class: dropdown
# ```
# Count how often the picked values go from below nought to above it, or ask for the strongest frequency.

# %%
exact = np.sin(2 * np.pi * 28 * ticks)
strength = np.abs(np.fft.rfft(exact))
swings = float(np.fft.rfftfreq(len(ticks), 1 / FRAME_RATE)[strength.argmax()])
emibook.check_exercise("4.3", swings)
swings

# %% [markdown]
# Thirty less twenty-eight. A tremor of exactly 30 a second would stand still, at any height you like.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - traced each tick of the clock to the picture that it shows;
# - seen that 300 steps are ten seconds of one thing and three of another;
# - made a ghost by picking, and laid it by averaging;
# - made a mean smile {glue:text}`time_worst` times too small with nothing but padding;
# - kept the clips that have nothing to see or to hear, and given each a prediction.
#
# ## Sources
#
# The paper, sections 3.1 and 3.3 {cite:p}`yu2024`; the data set's own features {cite:p}`kollias2024`; the rate of
# wav2vec 2.0 {cite:p}`baevski2020`; why picking makes ghosts {cite:p}`shannon1949`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with corpus and features there already.
