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
# # From video to faces

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0

# %% tags=["hide-input"]
import time

import av
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from facenet_pytorch import MTCNN
from myst_nb import glue
from torch.nn.functional import interpolate
from torchvision.utils import make_grid

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.preprocess import frames, preprocess, read_faces, read_track
from emibook.preprocess.alignment import CROP_SIZE, LANDMARKS, TEMPLATE
from emibook.preprocess.detector import Detector
from emibook.preprocess.tracking import compare_tracks
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
# **What is left of a webcam video when only the face is kept, and how sure is it that it is the right face?**
#
# A student opens a recording. One program says it has 30 frames a second, another says 2000. The face leaves early,
# and a flatmate walks past in the background. None of that is noise to a network: whatever reaches it will be
# learnt. This chapter goes from the file to the small pictures that everything after it sees.
#
# You will
#
# - put any video on a clock of 30 frames a second, whatever its container claims;
# - listen in on three networks that find a face and its five landmarks, and follow one person past another;
# - compare following a face with searching every frame for it, as the paper does;
# - align the face by its landmarks, and draw the paper's Figure 1 from your own clips;
# - measure how many faces are found, against a truth that real recordings do not have.
#
# ## What the paper says
#
# > "We observed varying frame rates in the original videos, resulting in notable discrepancies in the number of
# > extracted video frames. Consequently, we initially utilize the ffmpeg tool to standardize the frame rate of each
# > video sample to 30 fps." (section 3.1)
#
# > "Frames containing detected faces are retained, while those without faces are discarded. For face detection and
# > facial key point localization, we employ the Multi-task Cascaded Convolutional Networks (MTCNN) algorithm."
# > (section 3.1)
#
# Both steps decide what "three hundred images" will mean later: ten seconds of somebody's face, or something else.
# One call does both for a whole corpus, and for each clip it writes what came of it.

# %%
done = preprocess(corpus, work, resources=Resources(progress=False)).set_index("clip")
done["status"].value_counts().to_frame("clips")

# %% tags=["remove-cell"]
usable = done[done["status"] == "ok"]
glue("clips_all", len(done), display=False)
glue("clips_ok", len(usable), display=False)
glue("clips_no_face", int((done["status"] == "no_face").sum()), display=False)
glue("clips_failed", int((done["status"] == "failed").sum()), display=False)
glue("faces_all", f"{int(done['faces'].sum()):,}", display=False)
glue("frames_all", f"{int(done['frames'].sum()):,}", display=False)

# %% [markdown]
# Of {glue:text}`clips_all` clips {glue:text}`clips_ok` have a face, {glue:text}`clips_no_face` have none in any
# frame and {glue:text}`clips_failed` could not be read. A clip without a face is not dropped: it keeps its row,
# because it will be scored like any other. In all there are {glue:text}`frames_all` frames on the clock and
# {glue:text}`faces_all` faces.
#
# ## A clock that can be trusted
#
# A browser records a frame when it has one, and writes the moment into the file as a *timestamp*. A rate is then
# something to be guessed. One answer that programs give is FFmpeg's *base rate*, the lowest rate at which every
# timestamp falls on a tick; another is the average, frames over seconds. (The average is worked out here. Some files
# claim one, and the claim need not be true either.)

# %%
videos = corpus.clips.set_index("clip")["path"]
readable = done[done["frames"] > 0]
rates = pd.DataFrame(index=readable.index, columns=["base", "average"], dtype=float)
for clip in rates.index:
    with av.open(videos[clip]) as file:
        stream = file.streams.video[0]
        rates.loc[clip, "base"] = float(stream.base_rate or np.nan)
        count = stream.frames or sum(packet.pts is not None for packet in file.demux(stream))
        rates.loc[clip, "average"] = count / readable["seconds"][clip]
believed = (rates["base"] * readable["seconds"]).round()

# %% mystnb={"image": {"alt": "Scatter plot with a logarithmic upright axis. Most clips lie on a line low in the picture, where the base rate and the clock agree on the number of frames; one or a few lie far above it."}, "figure": {"caption": "Frames on the clock, and frames that the base rate would make of the same seconds. On the line the two agree.", "name": "faces-clock"}}
counted = readable["frames"]
agreed = np.arange(counted.min(), counted.max() + 1)
fig, ax = plt.subplots()
ax.semilogy(counted, believed, "o", alpha=0.5)
ax.plot(agreed, agreed, color=figures.GREY, linewidth=1)
ax.set(xlabel="frames on the clock", ylabel="frames by the base rate")
plt.show()

# %% tags=["remove-cell"]
absurd = (believed / counted).idxmax()
glue("absurd_clip", absurd, display=False)
glue("absurd_rate", f"{rates['base'][absurd]:,.0f}", display=False)
glue("absurd_seconds", f"{done['seconds'][absurd]:.1f}", display=False)
glue("absurd_frames", int(counted[absurd]), display=False)
glue("absurd_believed", f"{believed[absurd]:,.0f}", display=False)

# %% [markdown]
# The clip {glue:text}`absurd_clip`, furthest above the line in {numref}`faces-clock`, lasts
# {glue:text}`absurd_seconds` seconds, and its base rate is {glue:text}`absurd_rate` frames a second. Whoever believes
# that expects {glue:text}`absurd_believed` frames; by timestamps there are {glue:text}`absurd_frames` on a clock of 30 a
# second. The library never asks for a rate. It asks one question at every tick of the clock: *which picture was on the
# screen at this moment?* So it gets as many pictures of that clip as the clock has ticks:

# %%
moments = list(frames(videos[absurd]))
len(moments), moments[0].shape

# %% [markdown]
# ## One frame, one face
#
# MTCNN {cite:p}`zhang2016` looks at a frame at many sizes with a *cascade* of three networks, each of which looks more
# carefully at what the one before has let through. The first is small and quick and slides over the whole frame; the
# second gets patches of 24 by 24 pixels, the third of 48 by 48. Listen in on all three while they look for one face.

# %%
middling = usable["faces"].sort_values().index[len(usable) // 2]
picture = list(frames(videos[middling]))[done["frames"][middling] // 2]
cascade = MTCNN(keep_all=True)
networks = {"first": cascade.pnet, "second": cascade.rnet, "third": cascade.onet}
looked = {name: [] for name in networks}
for name, network in networks.items():
    # PyTorch calls this with what a network was shown and what it said
    network.register_forward_hook(
        lambda _, shown, said, calls=looked[name]: calls.append((shown[0], said[-1][:, 1])))
cascade.detect(picture)
sizes = [interpolate(sure[:, None], picture.shape[:2], mode="bilinear")
         for _, sure in looked["first"]]

# %% mystnb={"image": {"alt": "Three panels. Left, a dark map of the frame with a bright patch where the face is and fainter spots around it. Middle, a mosaic of small patches cut around the face, at first whole faces and then parts of it. Right, a few larger patches of the whole face."}, "figure": {"caption": "The three networks at work. Left: how sure the first is, place by place, on average over all sizes (a place is the upper left corner of a window). Middle and right: the patches that the second and the third were shown, the surest first.", "name": "faces-cascade"}}
panels = {"first": torch.cat(sizes).mean(dim=0)[0]}
for name, columns in (("second", 6), ("third", 3)):
    shown, sure = (torch.cat(parts) for parts in zip(*looked[name], strict=True))
    surest = shown[sure.argsort(descending=True)[: columns**2]]
    panels[name] = make_grid(surest / 2 + 0.5, columns, pad_value=1).permute(1, 2, 0)
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 1.9))
for axis, (name, panel) in zip(axes, panels.items(), strict=True):
    axis.imshow(panel, cmap="magma")
    axis.set_title(name)
    axis.set_axis_off()
plt.show()

# %% tags=["remove-cell"]
glue("cascade_places", f"{sum(sure.numel() for _, sure in looked['first']):,}", display=False)
glue("cascade_second", sum(len(sure) for _, sure in looked["second"]), display=False)
glue("cascade_third", sum(len(sure) for _, sure in looked["third"]), display=False)

# %% [markdown]
# The first network judged {glue:text}`cascade_places` places, at all sizes together. The second had to look at
# {glue:text}`cascade_second` of them and the third at {glue:text}`cascade_third` ({numref}`faces-cascade`). Between the
# networks, boxes that overlap are thinned out, and each network moves and resizes the box that it keeps. In the end
# there are for each face a box, a probability, and five points, the *landmarks*: two eyes, the nose, two corners of the
# mouth.

# %%
detector = Detector()
found = detector.detect([picture])[0]
[round(float(each), 4) for each in found.probabilities]

# %% mystnb={"image": {"alt": "A video frame with one face, a rectangle around it, five dots on eyes, nose and the corners of the mouth, and the probability at the rectangle's upper corner."}, "figure": {"caption": "What MTCNN says of one frame: the box, its probability and five landmarks.", "name": "faces-detection"}}
figures.show_detections(picture, found.boxes, found.landmarks, found.probabilities)
plt.show()

# %% [markdown]
# ## Several faces, one person
#
# Now the flatmate. The paper does not say what happens when there are two faces. Somebody who takes the most
# probable one of each frame may get a sequence that changes its person, and a network that sees two people's smiles
# as one movement. The library takes the person whose face is largest in the first frame that has a sure one, and goes
# on from frame to frame with the face that overlaps the last one most. Bystanders are followed too, so that they are
# not taken for the person. To see it, look at one frame a second of every clip, and take the clip in which most faces
# are found at once.

# %%
crowds = {}
for clip in usable.index:
    once_a_second = list(frames(videos[clip]))[15::30]
    crowds[clip] = max(map(len, detector.detect(once_a_second)), default=0)
crowds = pd.Series(crowds)
crowded = crowds.idxmax()

# %%
pictures = list(frames(videos[crowded]))
seen = detector.detect(pictures)
track = read_track(work, crowded)

# %% tags=["remove-cell"]
glue("crowded_clip", crowded, display=False)
glue("crowded_faces", max(map(len, seen)), display=False)
glue("crowded_clips", int((crowds > 1).sum()), display=False)

# %% mystnb={"image": {"alt": "Horizontal position against time. Dots mark every face that was found in each frame; a line follows one person through them without ever leaping to another."}, "figure": {"caption": "Every face of one clip, by the middle of its box (dots), and the person who is followed (line).", "name": "faces-followed"}}
fig, ax = plt.subplots()
for tick, each in enumerate(seen):
    middles = (each.boxes[:, 0] + each.boxes[:, 2]) / 2
    ax.plot([tick / 30] * len(middles), middles, ".", color=figures.ORANGE)
ax.plot(track["time"], (track["x1"] + track["x2"]) / 2, label="followed")
ax.plot([], [], ".", color=figures.ORANGE, label="found")
ax.set(xlabel="seconds", ylabel="middle of the box, pixels")
ax.legend()
plt.show()

# %% [markdown]
# At one frame a second, the number of clips in which more than one face is found is {glue:text}`crowded_clips`.
# {numref}`faces-followed` shows the clip {glue:text}`crowded_clip`, in all its frames, where up to
# {glue:text}`crowded_faces` are found in one.
#
# ## Followed, not searched for
#
# The paper runs the whole cascade on every frame. That is most of the work of the whole project, and nearly all of it
# looks for faces where there was none a thirtieth of a second ago. The library searches a frame only when it has to:
# at the beginning, after a cut, when somebody is gone, and every three seconds. In between it takes the last box,
# and lets the last two of the cascade's networks put it right. While a face is sure and stands nearly still, it does so
# in every third frame only, and puts the boxes and landmarks of the two between on a straight line.
# `emibook preprocess --exhaustive` does it the paper's way.
#
# Is that the same? MTCNN itself is not steady: shown the same frame a twentieth smaller, it gives another box and
# other landmarks. So the question is whether following is further from the cascade than the cascade is from itself.
# Three things are compared, frame by frame: whether both find the person's face or both do not (`same`); the
# *intersection over union* of the two boxes, which is the area that lies in both over the area that lies in either
# (`overlap`, one where they coincide); and how far apart the landmarks are (`landmarks`, in distances between the
# eyes).

# %%
near = {"following": [], "itself": []}
chosen = [crowded, *usable.index[:: max(1, len(usable) // 7)]]
for clip in chosen[:8]:
    images = list(frames(videos[clip]))[:90]
    every = detector.detect(images)
    followed = [each for _, each in detect_faces(images, detector)]
    near["following"].append(compare_tracks(every, followed))
    near["itself"].append(compare_tracks(every, detector.detect(images, scale=0.95)))

# %%
columns = ["same", "overlap", "landmarks"]
pooled = {way: np.concatenate(rows) for way, rows in near.items()}
pooled = {way: pd.DataFrame(rows, columns=columns) for way, rows in pooled.items()}
pd.DataFrame({way: rows.median() for way, rows in pooled.items()}).round(3)

# %% mystnb={"image": {"alt": "Two panels over time in seconds, for one clip. Above, intersection over union of the boxes; below, distance of the landmarks in distances of the eyes. In both, the line of following the face runs at the same height as the line of the cascade beside itself on a smaller frame."}, "figure": {"caption": "One clip, frame by frame: how near following comes to the cascade, and how near the cascade comes to itself on a frame one twentieth smaller. Upper panel: intersection over union of the boxes. Lower panel: mean distance of the landmarks, in distances between the eyes.", "name": "faces-agreement"}}
fig, axes = plt.subplots(2, 1, sharex=True, figsize=(figures.WIDTH, 4))
for way, color in (("itself", figures.GREY), ("following", figures.BLUE)):
    for axis, column in zip(axes, (1, 2), strict=True):
        rows = near[way][0]
        axis.plot(np.arange(len(rows)) / 30, rows[:, column], color=color, label=way)
axes[0].set(ylabel="box, IoU")
axes[1].set(ylabel="landmarks, eyes", xlabel="seconds", ylim=(0, None))
axes[0].legend()
plt.show()

# %% tags=["remove-cell"]
medians = {way: rows.median() for way, rows in pooled.items()}
glue("near_frames", len(pooled["following"]), display=False)
glue("following_same", f"{pooled['following']['same'].mean():.1%}", display=False)
glue("itself_same", f"{pooled['itself']['same'].mean():.1%}", display=False)
glue("following_overlap", f"{medians['following']['overlap']:.3f}", display=False)
glue("itself_overlap", f"{medians['itself']['overlap']:.3f}", display=False)
glue("following_landmarks", f"{medians['following']['landmarks']:.3f}", display=False)
glue("itself_landmarks", f"{medians['itself']['landmarks']:.3f}", display=False)

# %% [markdown]
# Over {glue:text}`near_frames` frames of eight clips, following and the cascade agree on {glue:text}`following_same` of
# the frames on whether the person's face is there (the cascade and itself: {glue:text}`itself_same`). The boxes'
# median intersection over union is {glue:text}`following_overlap` (itself: {glue:text}`itself_overlap`), the landmarks'
# median distance {glue:text}`following_landmarks` of the distance between the eyes (itself:
# {glue:text}`itself_landmarks`). `benchmarks/preprocess.py` measures how much time it saves.
#
# ## Aligned by five points
#
# A box says where the face is, not how it is held. Two people who tilt their heads differently differ in every pixel
# before either has moved a muscle. So the library turns, scales and shifts the frame until the five landmarks lie as
# near as possible to five fixed places: a *similarity transformation*, found by least squares {cite:p}`umeyama1991`.
# The paper says only that the coordinates of the key points are used "to crop appropriate face regions" (section
# 3.1).

# %%
tracks = {clip: read_track(work, clip) for clip in readable.index}
tracks = pd.concat(tracks, names=["clip"])
kept = tracks[tracks["face"] == 1]
corner = kept[["x1", "y1"]].to_numpy()[:, None]
size = kept[["x2", "y2"]].to_numpy()[:, None] - corner
columns = [f"{point}_{axis}" for point in LANDMARKS for axis in "xy"]
boxed = (kept[columns].to_numpy().reshape(-1, 5, 2) - corner) / size * CROP_SIZE
aligned = np.concatenate([read_faces(work, clip)[2] for clip in usable.index])

# %% mystnb={"image": {"alt": "Two square panels with five clouds of dots, one a landmark. In the panel of box crops the clouds are wide; in the panel of aligned crops they are small and lie on the five crosses of the template."}, "figure": {"caption": "Where the five landmarks lie in every crop of the corpus: cut by the box, and aligned. Crosses are the template.", "name": "faces-aligned"}}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 2.7), sharey=True)
panels = {"cut by the box": boxed, "aligned": aligned}
for axis, (title, where) in zip(axes, panels.items(), strict=True):
    for point in range(5):
        axis.plot(*where[::7, point].T, ".", alpha=0.3, markersize=3, rasterized=True)
    axis.plot(*TEMPLATE.T, "k+", markersize=10)
    axis.set(xlim=(0, 112), ylim=(112, 0), aspect="equal")
    axis.set(title=title, xlabel="pixels of the crop")
plt.show()

# %% tags=["remove-cell"]
glue("spread_boxed", f"{float(boxed.std(axis=0).mean()):.1f}", display=False)
glue("spread_aligned", f"{float(aligned.std(axis=0).mean()):.1f}", display=False)

# %% [markdown]
# Cut by the box, a landmark strays by {glue:text}`spread_boxed` pixels (standard deviation over all faces of the
# corpus, mean of the five points); aligned, by {glue:text}`spread_aligned`. What is left is mostly the shape of the
# face and what it does, which is what we are after.
#
# ## Figure 1, from our own faces
#
# The paper's Figure 1 shows "preprocessed consecutive facial images". Here are ours.

# %% mystnb={"image": {"alt": "Two rows of six small square pictures of one face, aligned so that eyes and mouth stay in place while the expression changes. The time in seconds stands over each."}, "figure": {"caption": "Our Figure 1: faces of one clip after preprocessing, a few frames apart, with their times.", "name": "faces-figure-1"}}
images, times, _ = read_faces(work, middling)
step = max(1, len(images) // 12)
figures.show_faces(images[::step][:12], [f"{at:.2f} s" for at in times[::step][:12]])
plt.show()

# %% [markdown]
# ## How many faces are found?
#
# On real recordings nobody can say, because nobody has marked every frame. The puppet knows: for each frame it has
# written down whether its face is in the picture. That is what it is good for.

# %%
truths = {clip: root / "truth" / f"{clip}.csv" for clip in readable.index}
truths = {clip: pd.read_csv(path) for clip, path in truths.items() if path.exists()}
truth = pd.concat(truths, names=["clip"]) if truths else tracks[:0]
truth = truth.reset_index("clip")[["clip", "frame", "face"]]
both = tracks.reset_index("clip").merge(truth, on=["clip", "frame"], suffixes=("", "_true"))
names = {"rownames": ["in the picture"], "colnames": ["found"]}
pd.crosstab(both["face_true"], both["face"], **names)

# %% tags=["remove-cell"]
there = both[both["face_true"] == 1]["face"]
gone = both[both["face_true"] == 0]["face"]
shares = [f"{found.mean():.2%}" if len(found) else "(no such frames)" for found in (there, gone)]
glue("hit_rate", shares[0], display=False)
glue("false_alarms", shares[1], display=False)

# %% [markdown]
# **Hit rate**: of the frames that show the face, {glue:text}`hit_rate` have one found. **False alarms**: of the
# frames that do not, {glue:text}`false_alarms` have one all the same. Both are about drawings, in the light and at
# the distance that the puppet is given; a webcam at night is another matter.
#
# ## What goes wrong otherwise
#
# "Frames without faces are discarded" has a consequence that the paper does not mention: the sequence closes up. Two
# faces that are neighbours in the sequence may be seconds apart, and a network that counts steps takes them for one
# movement. The library keeps each face's time, so that the gap can be seen. Let somebody hold a hand before the face
# for half a second (here: leave those faces out), and look.

# %%
_, times, _ = read_faces(work, middling)
covered = (times > times.mean() - 0.25) & (times < times.mean() + 0.25)
left = times[~covered]

# %% mystnb={"image": {"alt": "Two lines of ticks over one another. In the upper one faces stand where they were in time, with an empty stretch; in the lower one they are closed up without a gap."}, "figure": {"caption": "The faces of one clip with a hand before it for half a second: where they were in time, and as the network receives them.", "name": "faces-gap"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 1.8))
ax.plot(left, np.ones(len(left)), "|", markersize=22)
ax.plot(np.arange(len(left)) / 30, np.zeros(len(left)), "|", markersize=22)
ax.set_yticks([0, 1], ["closed up", "in time"])
ax.set(ylim=(-0.6, 1.6), xlabel="seconds")
plt.show()

# %% tags=["remove-cell"]
gaps = kept.groupby("clip")["time"].apply(lambda time: time.diff().max())
glue("gap_clips", int((gaps > 1.5 / 30).sum()), display=False)

# %% [markdown]
# Nothing in the lower row of {numref}`faces-gap` tells where the hand was. In this corpus the number of clips with a
# gap between two faces is {glue:text}`gap_clips`; a clip whose person leaves for good ends early and has no gap.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} A warm-up
# :label: faces-exercise-rate
# ```
# If somebody reads the frames of a file one after the other as if they came 30 a second, which clip's speed comes
# out most wrong, be it too fast or too slow, and by what factor?
#
# Give the clip and how many times too fast it plays, a number below one where it is too slow:
# `emibook.check_exercise("6.1", (clip, factor), rates=rates)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} faces-exercise-rate
# :class: dropdown
# ```
# The average rate says how many frames there are a second. Played at 30 a second, a clip of fewer runs too fast.
# Both directions are wrong, so compare logarithms.

# %%
factor = 30 / rates["average"]
worst = np.log(factor).abs().idxmax()
emibook.check_exercise("6.1", (worst, factor[worst]), rates=rates)
worst, round(float(factor[worst]), 2)

# %% [markdown]
# The speed is wrong by that factor, and so is everything that is counted in seconds.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} How sure is sure enough?
# :label: faces-exercise-threshold
# ```
# MTCNN's probability could be used more strictly: call a face found only above a threshold. What does a stricter
# threshold cost in faces, and what does it gain? Try several. `kept` has a row for each face that was found so far,
# `both` one for each frame whose truth is known.
#
# Give a table with the thresholds as its index and the columns `faces kept` (of those in `kept`), `hit rate` and
# `false alarms` (of the frames in `both`), all of them shares:
# `emibook.check_exercise("6.2", table, kept=kept, both=both)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} faces-exercise-threshold
# :class: dropdown
# ```
# A frame counts as found where the probability passes; the share of the corpus's faces that is left is what it
# costs. Where the truth is known, hits and false alarms say more.

# %%
thresholds = pd.Index([0.7, 0.9, 0.99, 0.999], name="threshold")
passed = {level: kept["probability"] > level for level in thresholds}
kept_share = [found.mean() for found in passed.values()]
strict = pd.DataFrame({"faces kept": kept_share}, thresholds)
for name, truly in (("hit rate", 1), ("false alarms", 0)):
    found = both["probability"][both["face_true"] == truly].fillna(0)
    strict[name] = [(found > level).mean() for level in thresholds]
emibook.check_exercise("6.2", strict, kept=kept, both=both)
strict.round(3)

# %% [markdown]
# A face that is thrown away is a hole in the sequence. Where there are few false alarms to begin with, there is
# little to be gained for it.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - put every clip on one clock by its timestamps, and seen what the container's rate would have done;
# - seen what three networks let through, and followed one person where there were several;
# - compared how near following is to the cascade with how near the cascade is to itself;
# - aligned every face to one template, and drawn Figure 1 from your own clips;
# - counted hits and false alarms where the truth is known, and seen what it means that a sequence closes up.
#
# ## Sources
#
# The paper, section 3.1 {cite:p}`yu2024`; MTCNN {cite:p}`zhang2016`, in the form of facenet-pytorch
# {cite:p}`facenetpytorch`; the least squares of the alignment {cite:p}`umeyama1991`. On the paper's own data the
# recordings come from browsers {cite:p}`kollias2024`.
#
# ## How long it takes

# %% tags=["hide-input"]
ledger = work / "timings.csv"
nothing = pd.DataFrame({"stage": [], "seconds": []})
spent = pd.read_csv(ledger) if ledger.exists() else nothing
glue("page_seconds", round(time.perf_counter() - started), display=False)
stages = spent[~spent["stage"].astype(str).str.startswith("chapter ")]
stages.groupby("stage", sort=False)["seconds"].max().to_frame()

# %% [markdown]
# Seconds of each stage, by its longest call in this work folder; the page itself took {glue:text}`page_seconds`.
