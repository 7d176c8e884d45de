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
# # Seeing

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0
weights = {"vit": "small", "wav2vec2": "small"}

# %% tags=["hide-input"]
import time
from functools import partial
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import TABLE_FEATURES, banner, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.features import copy_encoders, extract, load_encoder, store
from emibook.models.ridge import time_averages
from emibook.preprocess import preprocess, read_faces
from emibook.puppet.corpus import make_corpus
from emibook.sequences.load import load

# %% tags=["hide-input"]
started = time.perf_counter()
figures.use_style()
torch.set_num_threads(1)
root, work = project_path(root), project_path(work)
if profile == "builtin":
    make_corpus(root, clips=clips, seed=seed, progress=False)
corpus = open_corpus(root)
banner(profile, corpus)

# %% [markdown]
# **Three encoders look at the same face. What does each of them write down?**
#
# Send a painter, a carpenter and an anatomist to the same window and ask what they saw of the passer-by. The painter
# speaks of light on a forehead, the carpenter of proportions, the anatomist says: *zygomaticus major, left and right,
# strongly*. All three saw the same face. Whoever only reads their notes will know different things about it, and one of
# them may know better than the others who it was.
#
# The paper has three such observers. A residual network, trained to name expressions on photographs, writes 512
# numbers for each face. A Vision Transformer, trained without any labels, writes 384. OpenFace measures 17 movements of
# the face, each twice. Nothing after this chapter ever sees a picture again; it only sees these notes.
#
# You will
#
# - look through the first layers of a convolutional network, and at where it responds;
# - cut a face into patches, and draw what a Vision Transformer attends to;
# - follow action units over a clip, beside the face that makes them;
# - lay all three kinds of notes side by side on one time axis;
# - measure what each says about the moment, and what about the person.
#
# ## What the paper says
#
# > "a ResNet18 network pre-trained on AffectNet is utilized to extract global spatial features from facial images. The
# > features before the final fully connected layer are averaged to obtain a 512-dimensional feature vector."
# > (section 3.2.1)
#
# > "We utilize OpenFace2.0 to extract the detection and intensity of 17 AUs relevant to facial expressions. Ultimately,
# > each facial image receives a 34-dimensional feature embedding." (section 3.2.1)
#
# > "we utilize a DINO-trained ViT, which has undergone pre-training on the ImageNet-1K dataset [...] the model generates
# > a 384-dimensional embedding for each image." (section 3.2.1)
#
# On this page `resnet18` and `aus` were fitted on drawn faces, and `vit` is whatever the table below says; an
# *untrained control* has the architecture and random numbers in it.

# %%
done = preprocess(corpus, work, resources=Resources(progress=False)).set_index("clip")
extract(corpus, work, TABLE_FEATURES, weights=weights, resources=Resources(progress=False))
usable = done[(done["faces"] > 60) & (done["audio_seconds"] > 1)].sort_values("faces")
clip = usable.index[len(usable) * 3 // 4]
sets = ("resnet18", "vit", "aus")
places = {name: store.clip_path(store.feature_folder(work, name), clip) for name in sets}
seen = {name: store.load(path) for name, path in places.items()}
pd.DataFrame({name: {"rows": len(each), "features": len(each.names), "weights": each.weights}
              for name, each in seen.items()}).T

# %%
images, times, landmarks = read_faces(work, clip)
smile = seen["aus"].values[:, seen["aus"].names.index("AU12_r")]
moment = int(smile[: len(images)].argmax())

# %% mystnb={"image": {"alt": "Six small aligned pictures of one face in a row, from the beginning of the clip to its end, an expression coming and going."}, "figure": {"caption": "The clip that all three look at.", "name": "see-clip"}}
chosen = np.linspace(0, len(images) - 1, 6).round().astype(int)
figures.show_strips([images[chosen]], [f"clip {clip}, {times[-1]:.1f} seconds"])
plt.show()

# %% [markdown]
# ## ResNet-18
#
# A convolution slides a small window over the picture and asks everywhere the same question. The first layer of ResNet-18
# {cite:p}`he2016` has 64 questions of seven by seven pixels. In a trained one they are edges, spots and colours; here
# are twenty-four of ours.

# %%
with TemporaryDirectory() as folder:  # the encoders that made the features of this page
    copy_encoders(work, sets, folder)
    encoders = {name: load_encoder(name, f"{folder}/encoders") for name in sets[:2]}
network = encoders["resnet18"].model
kernels = network.conv1.weight.detach().float()[:24].permute(0, 2, 3, 1).numpy()
kernels = 0.5 + 0.5 * kernels / np.abs(kernels).max(axis=(1, 2, 3), keepdims=True)

# %% mystnb={"image": {"alt": "Twenty-four small squares of seven by seven coloured pixels. Many show a light and a dark side, in different directions, or stripes, or a spot; some are colours."}, "figure": {"caption": "Twenty-four of the sixty-four questions that the first layer asks.", "name": "see-kernels"}}
fig, axes = plt.subplots(2, 12, figsize=(figures.WIDTH, 1))
for ax, kernel in zip(axes.flat, kernels, strict=True):
    ax.imshow(kernel)
    ax.set_axis_off()
plt.show()

# %% [markdown]
# Then come four stages, with 64, 128, 256 and 512 questions. Each looks at the answers of the one before, and all but
# the first halve the resolution. Within a stage the input of every two layers is added to their answer, so that they
# have to learn only what to change: the *residual* that gave the network its name. How strongly does each stage
# respond, and where? (A network with published weights reads the crop as it is. The one that is fitted on drawn faces
# reads the middle of it, reduced to 64 × 56 pixels, because that takes less time.)

# %%
maps = {}
for stage in range(1, 5):
    layer = getattr(network, f"layer{stage}")
    keep = partial(maps.__setitem__, stage)
    # PyTorch calls this with what the stage gives out, whenever it has given it out.
    layer.register_forward_hook(lambda module, inputs, output, keep=keep: keep(output))
with torch.inference_mode():
    picture = torch.from_numpy(images[moment : moment + 1].copy())
    pixels = encoders["resnet18"].prepare(picture)
    last = network(pixels.to(network.conv1.weight.dtype))
energy = [maps[stage][0].float().abs().mean(dim=0).numpy() for stage in range(1, 5)]

# %% mystnb={"image": {"alt": "A face and four heat maps of it in a row, from fine to coarse. The first follows the outlines of eyes, brows and mouth; the last is a grid of a few squares."}, "figure": {"caption": "A face, and how strongly the four stages respond to it, with the rows and columns of each.", "name": "see-stages"}}
fig, axes = plt.subplots(1, 5, figsize=(figures.WIDTH, 1.3))
axes[0].imshow(images[moment])
for ax, heat in zip(axes[1:], energy, strict=True):
    ax.imshow(heat, cmap="magma")
    ax.set_title(f"{heat.shape[0]}×{heat.shape[1]}")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %% tags=["remove-cell"]
glue("see_last", f"{maps[4].shape[1]} × {maps[4].shape[2]} × {maps[4].shape[3]}", display=False)

# %% [markdown]
# The last stage gives {glue:text}`see_last` numbers, and the average over the squares, "averaged" in the paper, leaves
# 512. In the average the *where* is lost: an answer counts the same on the left of the face and on the right. That is
# a choice that suits a network for naming expressions.
#
# ## A Vision Transformer
#
# It does not slide anything. It cuts the picture into patches of sixteen by sixteen pixels, makes a row of numbers of
# each, and lets the patches attend to each other, as in chapter 11 {cite:p}`dosovitskiy2021`. One more row goes along,
# the *class token*, which belongs to no patch and collects what is worth keeping; its last state is what is read.
# Trained by DINO, its attention follows the outlines of things although nobody ever marked one {cite:p}`caron2021`.

# %%
vit = encoders["vit"]
vit.model.set_attn_implementation("eager")
with torch.inference_mode():
    prepared = vit.processed(torch.from_numpy(images[moment : moment + 1].copy()))
    prepared = prepared.to(next(vit.model.parameters()).dtype)
    attended = vit.model(prepared, output_attentions=True).attentions[-1][0].float()
side = int(np.sqrt(attended.shape[-1] - 1))
looks = attended[:, 0, 1:].reshape(-1, side, side).numpy()  # (head, row, column)

# %% mystnb={"image": {"alt": "A face under a grid of patches, and six small heat maps of the same grid, one for each head of the last layer. In an untrained network they are nearly even with a few random brighter squares."}, "figure": {"caption": "A face cut into patches, and where the class token looks in the last layer, by head. Each map has a scale of its own.", "name": "see-attention"}}
fig, axes = plt.subplots(1, 1 + len(looks), figsize=(figures.WIDTH, 1.0))
axes[0].imshow(images[moment])
for line in np.arange(1, side) * 112 / side:
    axes[0].axvline(line, color="white", linewidth=0.5)
    axes[0].axhline(line, color="white", linewidth=0.5)
for ax, look in zip(axes[1:], looks, strict=True):
    ax.imshow(look, cmap="magma")
for ax in axes:
    ax.set(xticks=[], yticks=[])
plt.show()

# %% tags=["remove-cell"]
even = 1 / looks.shape[1] / looks.shape[2]
glue("see_uneven", f"{looks.max() / even:.1f}", display=False)
glue("see_vit", seen["vit"].weights, display=False)

# %% [markdown]
# These weights are: {glue:text}`see_vit`. The most attended patch gets {glue:text}`see_uneven` times an even share. Where
# the weights have learnt nothing, neither has the attention, and what looks like an eye in it is your own doing. That is
# worth seeing once, because published attention maps come without such a control.
#
# ## Action units
#
# The third observer measures movements: for each of the 17, how strong it is, and whether it is there. OpenFace
# {cite:p}`baltrusaitis2018` does it with histograms of gradients {cite:p}`dalal2005` and landmarks into linear models, and
# so does the estimator of this page. It is the only one of the three whose notes a person can read. Intensities are
# counted from nought to one here, as in the paper; OpenFace's own go up to five, and so does the puppet's truth.

# %%
units = seen["aus"]
moving = [name for name in units.names if name.endswith("_r")]
spread = {name: units.values[:, units.names.index(name)].std() for name in moving}
four = sorted(spread, key=spread.get)[-4:][::-1]
truth_file = root / "truth" / f"{clip}.csv"

# %% mystnb={"image": {"alt": "Four curves over seconds, one an action unit, that rise and fall; a thin line of the same colour, the true intensity where it is known, rises and falls with each."}, "figure": {"caption": "The four units that move most in the clip, as estimated (thick) and, where the corpus knows it, as they truly were (thin).", "name": "see-units"}}
fig, ax = plt.subplots()
for name, line in zip(four, ("-", "--", "-.", ":"), strict=True):
    label = f"{name[:4]} {figures.UNIT_WORDS[name[:4]]}"
    column = units.names.index(name)
    curve, = ax.plot(units.times, units.values[:, column], line, label=label)
    if truth_file.exists():
        truth = pd.read_csv(truth_file)
        thin = {"color": curve.get_color(), "linewidth": 0.7}
        ax.plot(truth["time"], truth[name] / 5, line, **thin)  # from 0..5 to 0..1
ax.set(xlabel="seconds", ylabel="intensity")
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# Where there are thin lines, ask two things: does the thick one rise and fall with its thin one, and does it reach the
# same height? A correlation answers the first and is blind to the second.
#
# ## One clip, three notes
#
# Now all of them on one axis. Each row of a panel is a feature, brought to its own mean and spread over the clip, red
# where it is high and blue where it is low. Rows are ordered by how much they take part in what the whole set does most
# (their weights in its first principal component), so that features that move together lie together.

# %%
panels = {}
for name, each in seen.items():
    scaled = (each.values - each.values.mean(axis=0)) / (each.values.std(axis=0) + 1e-6)
    kept = scaled[:, each.values.std(axis=0) > 1e-6]
    main = np.linalg.svd(kept, full_matrices=False)[2][0]
    panels[name] = kept[:, np.argsort(main)].T

# %% mystnb={"image": {"alt": "Three panels over the same seconds: 512 rows, 384 rows and up to 34 rows of red and blue. In each the clip falls into stretches, a beginning, a middle and an end, whose borders lie at the same moments in all panels."}, "figure": {"caption": "One clip on one time axis, as three feature sets see it. A row is a feature, red above and blue below its own mean.", "name": "see-panels"}}
fig, axes = plt.subplots(3, 1, figsize=(figures.WIDTH, 5.4), sharex=True)
for ax, (name, panel) in zip(axes, panels.items(), strict=True):
    extent = (times[0], times[-1], 0, len(panel))
    ax.imshow(panel, cmap="RdBu_r", vmin=-2.5, vmax=2.5, aspect="auto", extent=extent)
    ax.set(ylabel=name, yticks=[])
axes[-1].set_xlabel("seconds")
plt.show()

# %% [markdown]
# The borders are the same in all three: when the face changes, all notes change. Whether they change in a way that *means*
# the same is another question, and it takes more than one clip.
#
# ## What goes wrong otherwise: the person, not the moment
#
# Nobody asked who it is. But a face is always somebody's, and an encoder that has no reason to forget it will note it.
# Two measurements over many clips. First: of all the variance of a feature set, how much lies *within* a clip, where
# the person stays the same, and how much *between* clips? Second: take each clip's mean, and look for the clip that is
# nearest. Is it one of the same person?

# %%
parts = {name: [load(corpus, work, name, part) for part in ("train", "valid")]
         for name in sets}
within, averages = {}, {}
for name, both in parts.items():
    inside = [part.rows(*part.offsets[place : place + 2]).var(axis=0)
              for part in both for place in np.flatnonzero(part.present)[:60]]
    whole = np.concatenate([part.rows(0, part.offsets[-1]) for part in both]).var(axis=0)
    share = np.mean(inside, axis=0) / (whole + 1e-9)
    within[name] = float(share[whole > 1e-9].mean())
    averages[name] = np.concatenate([time_averages(part)[part.present] for part in both])

# %%
participants = np.concatenate([np.asarray(part.participants)[part.present]
                               for part in parts["aus"]])
recognised = {}
for name, table in averages.items():
    scaled = (table - table.mean(axis=0)) / (table.std(axis=0) + 1e-9)
    # squared distances, but for a constant in each row
    apart = (scaled**2).sum(axis=1) - 2 * scaled @ scaled.T
    np.fill_diagonal(apart, np.inf)
    recognised[name] = float(np.mean(participants[apart.argmin(axis=1)] == participants))
others = [(participants == one).sum() - 1 for one in participants]
by_chance = float(np.mean(others) / (len(participants) - 1))
noted = pd.DataFrame({"within a clip": within, "nearest is the same person": recognised})
noted.round(2)

# %% mystnb={"image": {"alt": "For each of three feature sets two bars: the share of its variance that lies within a clip, and the share of clips whose nearest clip shows the same person. A dashed level near the bottom marks chance."}, "figure": {"caption": "What the notes are about: the moment (variance within a clip), and the person (nearest clip is the same person's). Dashed: the second, by chance.", "name": "see-person"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.6))
places = np.arange(len(noted))
ax.bar(places - 0.2, noted.iloc[:, 0], width=0.38, label="within a clip")
ax.bar(places + 0.2, noted.iloc[:, 1], width=0.38, label="nearest is the same person")
ax.axhline(by_chance, color="black", linestyle="--", linewidth=1)
ax.set_xticks(places, list(noted.index))
ax.set(ylim=(0, 1), ylabel="share")
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %% tags=["remove-cell"]
glue("see_chance", f"{by_chance:.0%}", display=False)
glue("see_aus_who", f"{recognised['aus']:.0%}", display=False)
glue("see_resnet_who", f"{recognised['resnet18']:.0%}", display=False)
glue("see_vit_who", f"{recognised['vit']:.0%}", display=False)

# %% [markdown]
# In {numref}`see-person` the first bar of each pair is the moment's part: what changes while a clip runs. The rest
# stands still in a clip, and differs from clip to clip: the person, and with the person light and camera. Whether it
# gives the person away is what the second bar says.
#
# By chance the nearest clip shows the same person in {glue:text}`see_chance` of the cases. With action units it does in
# {glue:text}`see_aus_who`, with ResNet-18 in {glue:text}`see_resnet_who`, with the ViT in {glue:text}`see_vit_who`. A network
# that has learnt nothing has not learnt to forget either, so expect an untrained control to know the person best. And one
# that is trained on such notes may learn that *this* person's clips tend to be joyful, which is true in training and
# worthless for the next person. It is why no participant may be in two partitions, and a reason for action units, which
# come near to saying what moved and nothing else. It is also a warning: features that "contain no image" can still tell
# who somebody is.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Patches
# :label: see-exercise-patches
# ```
# The published ViT takes pictures of 224 by 224 pixels in patches of sixteen. How many rows go through its attention?
#
# Give their number: `emibook.check_exercise("7.1", tokens)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} see-exercise-patches
# :class: dropdown
# ```
# Fourteen by fourteen patches, and the class token.

# %%
tokens = (224 // 16) ** 2 + 1
emibook.check_exercise("7.1", tokens)
tokens

# %% [markdown]
# Our crops have 112 pixels, so such a model sees each of them enlarged twice, and most of its patches hold less than it is
# used to.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} What goes with a smile
# :label: see-exercise-companion
# ```
# Which of the other intensities (the columns that end in `_r`) rises and falls most with that of AU12, lip corners
# pulled up, over this clip? Is that a fact about faces?
#
# Give its name, as in `units.names`: `emibook.check_exercise("7.2", companion, units=units)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} see-exercise-companion
# :class: dropdown
# ```
# A correlation with every other intensity that moves.

# %%
others = [name for name in moving if name != "AU12_r" and spread[name] > 0]
columns = {name: units.values[:, units.names.index(name)] for name in others}
rho = {name: np.corrcoef(smile, column)[0, 1] for name, column in columns.items()}
companion = max(rho, key=rho.get)
emibook.check_exercise("7.2", companion, units=units)
companion, figures.UNIT_WORDS[companion[:4]], round(float(rho[companion]), 2)

# %% [markdown]
# It is a fact about this clip, at best. The estimator may take one movement for another, and the expression may hold both;
# one clip cannot tell these apart.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Taking the habit away
# :label: see-exercise-habit
# ```
# Subtract from each clip's mean features the average over all clips of its person. How often is the nearest clip the same
# person's now? Could this be done with new people? (The last question is open.)
#
# Give the share for each feature set, by name:
# `emibook.check_exercise("7.3", shares, averages=averages, participants=participants)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} see-exercise-habit
# :class: dropdown
# ```
# The same search as above, on what is left.

# %%
shares = {}
for name, table in averages.items():
    left = table - pd.DataFrame(table).groupby(participants).transform("mean").to_numpy()
    scaled = (left - left.mean(axis=0)) / (left.std(axis=0) + 1e-9)
    apart = (scaled**2).sum(axis=1) - 2 * scaled @ scaled.T
    np.fill_diagonal(apart, np.inf)
    shares[name] = float(np.mean(participants[apart.argmin(axis=1)] == participants))
emibook.check_exercise("7.3", shares, averages=averages, participants=participants)
pd.Series(shares, name="share").round(2).to_frame()

# %% [markdown]
# Far less often, and still more often than by chance: people differ not only in what their face is like on average but
# in how it changes, and how a feature answers to a change depends on the face and its light. With new people it takes
# several clips of each before the first can be judged, and the challenge's test clips name nobody. Within one clip, one
# may subtract the clip's own quiet beginning; whether that helps is worth a run.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - seen the first questions of a network, and its answers get coarser and more;
# - cut a face into patches, and seen what attention looks like where nothing was learnt;
# - read four movements off a clip, beside what they truly were;
# - laid three feature sets over one clip, and seen them change together;
# - found the same person by action units in {glue:text}`see_aus_who` of the cases, and by ResNet-18 in
#   {glue:text}`see_resnet_who`.
#
# ## Sources
#
# The paper, section 3.2.1 {cite:p}`yu2024`; residual networks {cite:p}`he2016` and AffectNet
# {cite:p}`mollahosseini2019`; Vision Transformers {cite:p}`dosovitskiy2021` and DINO {cite:p}`caron2021`; OpenFace
# {cite:p}`baltrusaitis2018` and gradients {cite:p}`dalal2005`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with corpus and features there already.
