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
# # A primer: tensors, convolution, gradients

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.models.pooling import masked_mean
from emibook.preprocess import preprocess, read_faces
from emibook.puppet.corpus import make_corpus

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
# **What must one know to read this book, if one knows Python and little else?**
#
# A cook who has never baked opens a book on bread. "Knead until the window test holds." It is not hard, but nobody has
# ever shown it. Three things in this book are like that: boxes of numbers, a window that slides over them, and the
# question *which way is down?* An evening with each is enough.
#
# You will
#
# - hold a face, a clip and a batch as boxes of numbers, and ask for their shapes;
# - let shapes meet, and find the mistake that raises no error;
# - slide a window over a line and over a picture;
# - follow a gradient downhill, and have PyTorch compute one for you;
# - train the smallest network there is.
#
# ## What the paper says
#
# > "[...] $x \in \mathbb{R}^{T \times H \times W \times 3}$ represents the input sequence of facial images, $T = 300$
# > represents the number of images, where H and W are both 112." (section 3.3)
#
# Read aloud: $x$ is a box of numbers with four directions. Along the first, 300 images; along the second and third, 112
# rows and columns of pixels; along the last, red, green and blue. That is all that $\mathbb{R}^{\ldots}$ says.
#
# ## Boxes of numbers
#
# A *tensor* is such a box, its *shape* says how long each direction is, and the first skill is to know for each
# direction what it stands for. One face is (row, column, colour); a clip is (time, row, column, colour). The last line
# asks three things: the shape of a clip, of its first face, and the three numbers of one pixel, between 0 and 255.

# %%
done = preprocess(corpus, work, resources=Resources(progress=False)).set_index("clip")
clip = done.index[done["faces"] > 40][0]
faces = read_faces(work, clip)[0]
faces.shape, faces[0].shape, faces[0, 50, 60]

# %% mystnb={"image": {"alt": "One face picture four times in a row: as it is, and its red, its green and its blue numbers as grey pictures, light where a number is high."}, "figure": {"caption": "One face, and what is in the box: three sheets of numbers, for red, green and blue.", "name": "primer-face"}}
fig, axes = plt.subplots(1, 4, figsize=(figures.WIDTH, 1.5))
axes[0].imshow(faces[0])
for ax, sheet, name in zip(axes[1:], range(3), ("red", "green", "blue"), strict=True):
    ax.imshow(faces[0, :, :, sheet], cmap="gray", vmin=0, vmax=255)
    ax.set_title(name)
for ax in axes:
    ax.set_axis_off()
plt.show()

# %% [markdown]
# Adding up or averaging *along* a direction makes it disappear. The mean over time of a clip is one blurred face; the
# mean over rows, columns and colours is a number for each moment, its brightness. (Directions are counted from nought.)

# %%
brightness = faces.mean(axis=(1, 2, 3))
faces.mean(axis=0).shape, brightness.shape

# %% [markdown]
# Boxes of different shapes can meet, from the last direction backwards: a direction of length one, or one that is
# missing in front, is repeated as often as it takes (*broadcasting*). So (time, feature) less (feature,) subtracts from
# each step the same row, here the mean over time.

# %%
steps = np.arange(12.0).reshape(4, 3)  # (time, feature)
centred = steps - steps.mean(axis=0)  # (time, feature) - (feature,)
centred.mean(axis=0)

# %% [markdown]
# ## What goes wrong otherwise: shapes that meet by accident
#
# Five labels in a column, five guesses in a row. Their differences should be five numbers. But (5, 1) and (5,) meet as
# (5, 5): every label less every guess. Nothing complains, and the mean of the squares is a number like any other. In
# PyTorch it is the commonest way to train a network on nonsense.

# %%
labels = np.array([[0.0], [0.2], [0.4], [0.6], [0.8]])
guesses = np.array([0.0, 0.2, 0.4, 0.6, 0.8])
wrong = np.square(labels - guesses)
right = np.square(labels[:, 0] - guesses)
wrong.shape, round(float(wrong.mean()), 3), right.shape, float(right.mean())

# %% [markdown]
# A perfect guess, and the error is not nought. This is why docstrings here name every direction, as in
# `(clip, emotion)`, and why the metric refuses two tables of different shapes.
#
# **Masks.** Clips in a batch are filled up to one length. A mask is a box of true and false that says which steps are
# real, and `masked_mean` in the library is a mean that asks it. Below, the first clip has two real steps, 1 and 3; the
# nought after them only fills up. First the two means that ask the mask, then the two that do not.

# %%
# (batch, time, feature) and (batch, time)
values = torch.tensor([[[1.0], [3.0], [0.0]], [[2.0], [4.0], [6.0]]])
mask = torch.tensor([[True, True, False], [True, True, True]])
plain = [round(each, 2) for each in values.mean(dim=1)[:, 0].tolist()]
masked_mean(values, mask)[:, 0].tolist(), plain

# %% [markdown]
# ## A window that slides
#
# A *convolution* is a short list of weights, the *kernel*, that slides along. At each place multiply weight by number
# and add up. Five weights of one fifth each make a moving average. A one and a minus one answer only where something
# changes.

# %%
smooth = np.convolve(brightness, np.ones(5) / 5, mode="same")
change = np.convolve(brightness, [1, -1], mode="same")

# %% mystnb={"image": {"alt": "Two panels over the frames of a clip. Above, the brightness as a thin jagged line and its moving average as a thick one. Below, the difference from frame to frame, around nought with a few peaks."}, "figure": {"caption": "The brightness of each face of a clip, its moving average over five (above), and its change from one to the next (below).", "name": "primer-line"}}
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 3.4), sharex=True)
inner = slice(2, -2)
axes[0].plot(brightness[inner], linewidth=0.8, color=figures.GREY)
axes[0].plot(smooth[inner])
axes[1].plot(change[inner], color=figures.ORANGE)
axes[0].set(ylabel="brightness")
axes[1].set(ylabel="change", xlabel="frame")
plt.show()

# %% [markdown]
# In a picture the window is a small square. Three by three weights, negative on the left and positive on the right,
# answer at upright edges; turned by a quarter, at level ones. A network has many such squares and learns their weights.

# %%
# (batch, feature, row, column)
grey = torch.tensor(faces[0].mean(axis=2), dtype=torch.float32)[None, None]
upright = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])[None, None]
level = upright.transpose(2, 3)
conv2d = torch.nn.functional.conv2d
edges = [conv2d(grey, kernel)[0, 0].numpy() for kernel in (upright, level)]

# %% mystnb={"image": {"alt": "A grey face and two pictures of its edges in blue and red: in one the sides of face, nose and eyes stand out, in the other brows, lids and lips."}, "figure": {"caption": "A face, and the answers of two windows of three by three: one for upright edges, one for level ones. Red where it is lighter to the right, or below; blue where it is darker.", "name": "primer-edges"}}
fig, axes = plt.subplots(1, 3, figsize=(figures.WIDTH, 1.8))
axes[0].imshow(grey[0, 0], cmap="gray")
for ax, edge in zip(axes[1:], edges, strict=True):
    ax.imshow(edge, cmap="RdBu_r", vmin=-300, vmax=300)
for ax in axes:
    ax.set_axis_off()
plt.show()

# %% [markdown]
# ## Which way is down?
#
# Learning means to turn many knobs until an error is small. Turn one knob a little: does the error grow or shrink, and
# how fast? That is the *derivative* for this knob; all of them together are the *gradient*. Turn every knob a bit the
# other way, and repeat. How far is the *rate* (learning rate) times the derivative. For one knob $w$ and the error
# $(w - 2)^2 + 1$ the derivative is $2(w - 2)$.

# %%
w, rate, path = -1.0, 0.2, []
for _ in range(12):
    path.append(w)
    w = w - rate * 2 * (w - 2)

# %% mystnb={"image": {"alt": "A bowl-shaped curve of the error over the knob's position, with dots that run down its left side in ever shorter steps and gather at the bottom."}, "figure": {"caption": "Twelve steps downhill on a curve with one knob.", "name": "primer-bowl"}}
across = np.linspace(-1.5, 5, 100)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.6))
ax.plot(across, (across - 2) ** 2 + 1)
ax.plot(path, (np.array(path) - 2) ** 2 + 1, "o", color=figures.ORANGE)
ax.set(xlabel="knob", ylabel="error")
plt.show()

# %% [markdown]
# A network has hundreds of thousands of knobs, and nobody writes down their derivatives. PyTorch {cite:p}`paszke2019`
# watches what is computed, and walks back through it by the chain rule: if $a$ moves $b$ twice as much and $b$ moves
# the error three times as much, $a$ moves the error six times as much.

# %%
knob = torch.tensor(-1.0, requires_grad=True)
error = (knob - 2) ** 2 + 1
error.backward()
knob.grad.item(), 2 * (-1.0 - 2)

# %% [markdown]
# ## The smallest network
#
# Two layers with a bend between them: multiply and add, keep what is positive (`ReLU`), multiply and add again. It is
# the end of each branch of the paper, equations (3) and (4). Without the bend two layers would be one line. With it,
# eight bends make a curve.

# %%
torch.manual_seed(seed)
x = torch.linspace(-3, 3, 60)[:, None]
y = torch.sin(x)
network = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
errors = []
for _ in range(400):
    loss = torch.nn.functional.mse_loss(network(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    errors.append(loss.item())

# %% mystnb={"image": {"alt": "Two panels. Left, the error falls over four hundred steps on a logarithmic axis. Right, a wave and a line of a few straight pieces that follows it closely."}, "figure": {"caption": "A network with eight bends learns a wave: its error over the steps, and what it answers in the end (dashed).", "name": "primer-network"}}
fig, axes = plt.subplots(1, 2, figsize=(figures.WIDTH, 2.4))
axes[0].semilogy(errors)
axes[0].set(xlabel="step", ylabel="error")
axes[1].plot(x[:, 0], y[:, 0])
axes[1].plot(x[:, 0], network(x)[:, 0].detach(), "--", color=figures.ORANGE)
axes[1].set(xlabel="input")
plt.show()

# %% tags=["remove-cell"]
glue("primer_weights", sum(each.numel() for each in network.parameters()), display=False)
glue("primer_first", f"{errors[0]:.2f}", display=False)
glue("primer_last", f"{errors[-1]:.4f}", display=False)

# %% [markdown]
# {glue:text}`primer_weights` knobs took the error from {glue:text}`primer_first` to {glue:text}`primer_last`. The first
# four lines of the loop are in every training of this book: compute the error, forget the old gradient, walk back,
# step. (`mse_loss` is the mean of the squared errors; `Adam` chooses how far each knob is turned, see chapter 12.)
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Shapes
# :label: primer-exercise-shapes
# :nonumber:
# ```
# A batch of 16 clips has 300 steps of 546 features. What is the shape of its mean over time? Of what is left when one
# subtracts from it the mean over the batch?
#
# Give the first shape: `emibook.check_exercise("a1.1", shape)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} primer-exercise-shapes
# :class: dropdown
# ```
# Make one and ask it.

# %%
batch = np.zeros((16, 300, 546), np.float32)
over_time = batch.mean(axis=1)
shape = over_time.shape
emibook.check_exercise("a1.1", shape)
shape, (over_time - over_time.mean(axis=0)).shape

# %% [markdown]
# The second mean has the shape (546,), and meets (16, 546) from behind.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Too far
# :label: primer-exercise-rate
# :nonumber:
# ```
# On the bowl above, what happens at a rate of one? At a little more than one? Try before you think, and then think.
#
# Give the place of the knob after ten steps from -1 at a rate of one: `emibook.check_exercise("a1.2", place)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} primer-exercise-rate
# :class: dropdown
# ```
# Each step multiplies the distance from the bottom by one less twice the rate.

# %%
ends = {}
for rate in (0.2, 1.0, 1.1):
    w = -1.0
    for _ in range(10):
        w = w - rate * 2 * (w - 2)
    ends[rate] = round(w, 2)
emibook.check_exercise("a1.2", ends[1.0])
ends

# %% [markdown]
# At one it jumps from side to side for ever; beyond, every jump is longer than the last. That is what "the loss is not
# finite; lower the rate" means.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Without the bend
# :label: primer-exercise-bend
# :nonumber:
# ```
# Take the ReLU out of the smallest network. How well can it learn the wave now, however long you train? Why?
#
# Give the smallest error that it can have: `emibook.check_exercise("a1.3", left, x=x, y=y)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} primer-exercise-bend
# :class: dropdown
# ```
# Two straight layers are one straight layer, so its best is the best straight line, which least squares finds at once.

# %%
line = np.polyfit(x[:, 0].numpy(), y[:, 0].numpy(), 1)
left = np.square(y[:, 0].numpy() - np.polyval(line, x[:, 0].numpy())).mean()
emibook.check_exercise("a1.3", left, x=x, y=y)
round(float(left), 3), round(errors[-1], 4)

# %% [markdown]
# No training gets below the first number.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - read the shape of a face, a clip and a batch;
# - seen (5, 1) and (5,) meet as (5, 5), without a word of warning;
# - slid a window over brightness and over a face;
# - gone downhill by hand, and let PyTorch find the way;
# - trained {glue:text}`primer_weights` knobs to draw a wave.
#
# ## Sources
#
# The paper, section 3.3 {cite:p}`yu2024`; more of all this, from the ground up {cite:p}`goodfellow2016`; PyTorch
# {cite:p}`paszke2019`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with its corpus there already.
