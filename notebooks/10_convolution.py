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
# # The temporal convolution

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
import pandas as pd
import torch
from myst_nb import glue
from torch import nn
from torch.nn.functional import pad

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, listing, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.features import extract, store
from emibook.models import TCN
from emibook.models.tcn import causal
from emibook.preprocess import preprocess
from emibook.puppet.corpus import make_corpus
from emibook.sequences.timeline import STEPS

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
# **How does a network that looks at three steps at a time come to see two seconds?**
#
# Listen at a door. You hear one word and the two before it, no more, but you have a friend at the next door, who
# heard other words, and who tells you what to make of them; and that friend has a friend. Five such friends in a row,
# each standing twice as far off as the last, and you know what was said over a good part of the conversation. You
# have still listened to three words at a time.
#
# The paper's temporal convolution is such a row of friends. It has five layers; each looks at three steps of the layer
# below. This chapter takes it apart, puts it together again, and finds the edge of what it can see.
#
# You will
#
# - read the paper's equation (2), find what it leaves out, and compute a layer by hand;
# - see what a layer makes of a smile: its onset, its end, its height;
# - test that no output knows its future, find two paddings that cheat, and ask who needs this at all;
# - grow the view from three steps to 63 by dilation, and measure how evenly it is used;
# - build two clips that this network cannot tell apart, whatever it has learnt.
#
# ## What the paper says
#
# > "Then, the visual features $X_v$ and acoustic features $X_a$ are fed into a Temporal Convolutional Network (TCN)
# > based on one-dimensional causal convolution to gather local temporal context. TCN utilize dilated causal
# > convolutions to capture temporal dependencies over long sequences efficiently." (section 3.3)
#
# > $y_t = \mathrm{Relu}(W * x_{t-d} + b)$ (equation 2)
#
# > "In the temporal encoder, the 1-dimensional convolution kernel size is 3, there are 5 convolution layers"
# > (section 4.2)
#
# Equation (2) names one step, $x_{t-d}$. A kernel of size three has three, its *taps*: now, $d$ steps ago, and $2d$
# ago. So we read
#
# $$y_t = \mathrm{ReLU}(W_0 x_t + W_1 x_{t-d} + W_2 x_{t-2d} + b)$$
#
# where ReLU keeps what is positive and puts nought for the rest, $x_t$ holds all features of step $t$, and each $W$
# is a matrix. The paper states no dilations $d$; in networks of this kind they usually double from layer to layer
# {cite:p}`bai2018`.
#
# ## One layer, by hand
#
# Take a clip, and of its features a single one: how far the corners of the lips are pulled up, a number for each face.

# %%
done = preprocess(corpus, work, resources=Resources(progress=False)).set_index("clip")
extract(corpus, work, ["aus"], resources=Resources(progress=False))
usable = done[(done["faces"] > 60) & (done["audio_seconds"] > 1)].sort_values("faces")
clip = usable.index[len(usable) * 3 // 4]
units = store.load(store.clip_path(store.feature_folder(work, "aus"), clip))
smile = units.values[:, units.names.index("AU12_r")]

# %% [markdown]
# One kernel of three numbers, steps that are $d = 4$ apart, and noughts where the clip has not begun yet.

# %%
d, kernel = 4, [1.0, 0.0, -1.0]  # now, d ago, 2d ago
padded = np.concatenate([np.zeros(2 * d, np.float32), smile])
now, before, long_before = padded[2 * d :], padded[d:-d], padded[: -2 * d]
by_hand = np.maximum(kernel[0] * now + kernel[1] * before + kernel[2] * long_before, 0)

# %% [markdown]
# PyTorch stores a kernel from the oldest step to the newest, and calls it a convolution. The rest is the same.

# %%
layer = nn.Conv1d(1, 1, kernel_size=3, dilation=d, bias=False)
with torch.no_grad():
    layer.weight[0, 0] = torch.tensor(kernel[::-1])
    one_clip = torch.from_numpy(smile)[None, None]  # (batch, feature, time)
    by_layer = torch.relu(layer(pad(one_clip, (2 * d, 0))))[0, 0].numpy()
difference = np.abs(by_hand - by_layer).max()

# %% tags=["remove-cell"]
glue("conv_difference", f"{difference:.1g}", display=False)
glue("conv_clip", clip, display=False)
glue("conv_steps", len(smile), display=False)

# %% [markdown]
# Over the {glue:text}`conv_steps` steps of clip {glue:text}`conv_clip` the two differ by {glue:text}`conv_difference`
# at most. Now three kernels side by side. *Now less long before* answers while a smile begins. Turned around it
# answers while one ends. Three equal parts make a mean, which is deaf to both and quiet against noise.

# %%
kernels = {"begins": [1, 0, -1], "ends": [-1, 0, 1], "mean": [1 / 3, 1 / 3, 1 / 3]}
taps = np.stack([now, before, long_before])
answers = {name: np.maximum(np.array(each) @ taps, 0) for name, each in kernels.items()}

# %% mystnb={"image": {"alt": "Two panels over seconds. Above, the intensity of a smile rises, stays and falls. Below, the answers of three kernels: one has its peaks where the smile rises, one where it falls, and one follows its height smoothly."}, "figure": {"caption": "A smile in one clip (above), and what three kernels make of it (below).", "name": "conv-kernels"}}
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 4), sharex=True)
axes[0].plot(units.times, smile, color="black")
axes[0].set(ylabel="lip corners up")
for (name, answer), line in zip(answers.items(), ("-", "--", ":"), strict=True):
    axes[1].plot(units.times, answer, label=name, linestyle=line)
axes[1].set(ylabel="answer", xlabel="seconds")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# In the network nobody chooses these kernels; they are learnt. There are 128 of them in each layer, each over all
# features at once, and the next layer looks at their answers instead of at the face. This is a layer in the library. It
# computes what all three taps say of every step in one product, and then moves each to the step that it belongs to:

# %%
listing(causal)

# %% [markdown]
# ## Nothing from the future
#
# *Causal* means that an output depends on what has been and never on what comes. Do not take it from a drawing: change
# one step of the input, and look at which outputs change. Beside our padding, noughts on the left, stand two that are
# found in public code: half of the noughts on either side, and a mirror image of the clip's beginning.

# %%
place, length = 5, 20
plain = torch.rand(1, 1, length, generator=torch.Generator().manual_seed(seed))
changed = plain.clone()
changed[0, 0, place] += 1
with torch.no_grad():
    layer.weight[:] = 1.0
    paddings = {
        "noughts on the left": lambda x: pad(x, (2 * d, 0)),
        "on both sides": lambda x: pad(x, (d, d)),
        "a mirror on the left": lambda x: pad(x, (2 * d, 0), mode="reflect"),
    }
    moved = {name: (layer(fill(plain)) != layer(fill(changed)))[0, 0].numpy()
             for name, fill in paddings.items()}

# %% mystnb={"image": {"alt": "Three rows of twenty small squares, one an output step. A dashed upright marks the input step that was changed. In the first row only squares at or right of the mark are filled; in the second and third one filled square each lies left of it."}, "figure": {"caption": "Which output steps change when one input step (dashed) is changed, with three ways of padding. Whatever is filled to the left of the mark knows its future.", "name": "conv-causal"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 1.9))
for row, which in enumerate(moved.values()):
    for step, hit in enumerate(which):
        fill = figures.ORANGE if step < place else figures.BLUE
        look = {"color": figures.GREY, "markerfacecolor": fill if hit else "white"}
        ax.plot(step, row, "s", markersize=7, **look)
ax.axvline(place, color="black", linestyle="--", linewidth=1)
ax.set_yticks(range(3), list(moved))
ax.set_xticks(range(0, length, 5))
ax.set(xlabel="output step", ylim=(2.6, -0.6))
plt.show()

# %% [markdown]
# The mirror is the more treacherous one: it looks like padding on the left, and it carries the clip's next steps into
# its past.
#
# **Who needs this?** Somebody who must answer while the clip is still running: a subtitle, a robot. Here the label
# belongs to the whole clip, and the answer is given when it is over. Nothing would be wrong with looking ahead, and in
# a network that looks both ways a clip's first steps would know what follows them. Causality is a choice of the paper,
# not a need of the task. It has a price, which can be counted: the first steps of a clip look at noughts. (`STEPS` is
# the paper's limit of 300, to which longer clips are cut.)

# %%
steps = done.loc[done["faces"] > 0, "faces"].clip(upper=STEPS)
field = TCN(1).receptive_field
looks_at_noughts = steps.clip(upper=field - 1).sum() / steps.sum()

# %% mystnb={"image": {"alt": "Histogram of the number of faces in a clip. Most clips have less than a hundred. A dashed upright shows how many steps the network sees; many clips lie to its left."}, "figure": {"caption": "How long the clips are, in faces. Dashed: how many steps the network sees at once.", "name": "conv-lengths"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.4))
ax.hist(steps, bins=np.arange(0, STEPS + 10, 10))
ax.axvline(field, color="black", linestyle="--", linewidth=1)
ax.set(xlabel="faces in a clip", ylabel="clips")
plt.show()

# %% tags=["remove-cell"]
glue("conv_noughts", f"{looks_at_noughts:.0%}", display=False)
glue("conv_short", f"{(steps < field).mean():.0%}", display=False)

# %% [markdown]
# In this corpus {glue:text}`conv_noughts` of all steps see some of the noughts before their clip, and
# {glue:text}`conv_short` of the clips are shorter than the view. Where recordings are longer, both are less.
#
# ## Three steps, then 63
#
# Stack two layers of three steps and the upper one depends on five steps of the input; five layers, on eleven. At 30
# steps a second that is a third of a second, less than a smile takes to begin. *Dilation* spreads the three steps: in
# layer $n$, counted from nought, they are $2^n$ apart. Every layer doubles the distance, and five of them see
#
# $$1 + 2\,(1 + 2 + 4 + 8 + 16) = 63$$
#
# steps, with the same number of weights. The row of friends at the doors is drawn in {numref}`conv-tree`.

# %% mystnb={"image": {"alt": "Six rows of points, one a layer, with the input at the bottom. From one point at the top three lines go down to the next row, from each of those three more, spreading ever less further down, until all sixty-three points of the bottom row are reached."}, "figure": {"caption": "What the last step of the last layer depends on. Each point looks at three of the row below; the input is at the bottom, the present at the right.", "name": "conv-tree"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3))
reached = {0}
for level, dilation in zip(range(5, 0, -1), (16, 8, 4, 2, 1), strict=True):
    below = set()
    for step in reached:
        for back in (0, dilation, 2 * dilation):
            ends = [step, step - back], [level, level - 1]
            ax.plot(*ends, color=figures.BLUE, linewidth=0.5)
            below.add(step - back)
    ax.plot(sorted(reached), [level] * len(reached), ".", color="black", markersize=4)
    reached = below
ax.plot(sorted(reached), [0] * len(reached), ".", color=figures.ORANGE, markersize=4)
ax.set_yticks(range(6), ["input", "d = 1", "d = 2", "d = 4", "d = 8", "d = 16"])
ax.set(xlabel="steps from now")
plt.show()

# %% [markdown]
# A drawing proves nothing, so ask the network. The gradient of one output with respect to the input is nought
# wherever the output does not care. Take the output at step 150: how many steps does it care about, how many should it
# by the formula, and how long before it are the first and the last of them?

# %%
torch.manual_seed(seed)
tcn = TCN(in_features=34)
inputs = torch.randn(1, 200, 34, requires_grad=True)
tcn(inputs)[0, 150].sum().backward()
cares = inputs.grad.abs().sum(dim=2)[0] > 0
first, last = cares.nonzero()[0].item(), cares.nonzero()[-1].item()
int(cares.sum()), tcn.receptive_field, 150 - first, 150 - last

# %% [markdown]
# As many steps as the formula says, all in a row, the last of them now and none later. In seconds it depends on the
# clock, and the paper gives one for the faces only.

# %%
rates = {"faces": 30, "wav2vec 2.0 at its own rate": 50, "official ViT features, about": 6}
view = pd.DataFrame({"steps a second": rates})
view["seconds seen"] = field / view["steps a second"]
view["seconds in 300 steps"] = STEPS / view["steps a second"]
view.round(2)

# %% tags=["remove-cell"]
glue("conv_field", field, display=False)
glue("conv_at_30", f"{field / 30:.1f}", display=False)
glue("conv_at_50", f"{field / 50:.1f}", display=False)

# %% [markdown]
# The same {glue:text}`conv_field` steps are {glue:text}`conv_at_30` seconds of faces and {glue:text}`conv_at_50`
# seconds of sound at 50 steps a second. This book brings sound to 30, so that both branches see as far.
#
# **Seen alike?** A step counts by every path that leads from it to the output. At each layer a path may go straight up,
# or back by one dilation, or by two. Both ends of the view have a single path. In between there are as many as there
# are ways to write the distance as a sum of 1, 2, 4, 8 and 16, each used twice at most, and that number jumps up
# and down. Below it, how the gradient is spread over the steps, for twenty networks that have learnt nothing, on our
# clip (played twice over, so that no noughts are in view).

# %%
face = torch.from_numpy(np.tile(units.values, (2, 1))[-200:])[None]
weight = np.zeros(field)
for number in range(20):
    torch.manual_seed(number)
    seen = face.clone().requires_grad_()
    TCN(in_features=34)(seen)[0, -1].sum().backward()
    weight += seen.grad.abs().sum(dim=2)[0, -field:].numpy()[::-1]
weight /= weight.sum()
paths = np.ones(1)
for dilation in (1, 2, 4, 8, 16):
    choices = np.zeros(2 * dilation + 1)
    choices[::dilation] = 1
    paths = np.convolve(paths, choices)

# %% mystnb={"image": {"alt": "Two panels over the number of steps before now. Above, bars of the number of paths, which jump up and down between one and eight like a jagged skyline, alike from both ends. Below, bars of the share of the gradient, which jump in the same places."}, "figure": {"caption": "How many paths lead from each step of the view to the output (above), and how much an untrained network's output depends on it, mean of twenty networks (below).", "name": "conv-used"}}
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 3.6), sharex=True)
axes[0].bar(np.arange(field), paths, width=1)
axes[1].bar(np.arange(field), weight, width=1, color=figures.ORANGE)
axes[0].set(ylabel="paths")
axes[1].set(xlabel="steps before now", ylabel="gradient, share")
plt.show()

# %% tags=["remove-cell"]
glue("conv_paths", int(paths.max()), display=False)
glue("conv_alike", f"{np.corrcoef(paths, weight)[0, 1]:.2f}", display=False)
glue("conv_uneven", f"{weight.max() / weight.min():.0f}", display=False)

# %% [markdown]
# A step has up to {glue:text}`conv_paths` paths. Paths and gradient go together with a correlation of
# {glue:text}`conv_alike`, and the step that counts most counts {glue:text}`conv_uneven` times as much as the one that
# counts least. Without dilation the view would fade smoothly towards its ends, which is known of deep convolutions
# {cite:p}`luo2016`; with it the view is far wider, and fades in jumps. Training may even it out.
#
# ## What goes wrong otherwise: what it cannot see
#
# A person frowns, and later smiles. Did the smile follow the frown at once, as relief, or much later, for some other
# reason? Put two blips into an empty clip, a gap apart, send it through a network with any weights you like, and take
# the mean over time, as the branch does. Compare what comes out with the result for a gap of 120 steps.

# %%
gaps = np.arange(2, 121)
blips = torch.zeros(len(gaps), STEPS, 1)
blips[:, 80, 0] = 1
blips[np.arange(len(gaps)), 80 + gaps, 0] = 1
apart = []
for number in range(10):
    torch.manual_seed(number)
    with torch.no_grad():
        means = TCN(1, channels=32)(blips).mean(dim=1)  # (gap, channel)
    apart.append(((means - means[-1]).norm(dim=1) / means[-1].norm()).numpy())

# %% mystnb={"image": {"alt": "Ten falling curves of the distance between a clip and the one with the widest gap, against the gap in steps. All of them reach nought before or at a dashed upright at sixty-three steps and stay there."}, "figure": {"caption": "Ten random networks: how different a clip with two events looks from one whose events are 120 steps apart. Dashed: the view.", "name": "conv-gap"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.6))
for curve in apart:
    ax.plot(gaps, curve, linewidth=1)
ax.axvline(field, color="black", linestyle="--", linewidth=1)
ax.set(xlabel="gap between the two events, steps", ylabel="relative distance")
plt.show()

# %% tags=["remove-cell"]
beyond = max(curve[gaps >= field].max() for curve in apart)
glue("conv_beyond", f"{beyond:.0e}", display=False)

# %% [markdown]
# From a gap of 63 steps on, the distance is nought but for rounding ({glue:text}`conv_beyond`): no step sees both
# events, each leaves its own trace, and the mean adds up the traces without asking where they were. No training can
# mend that, because there is nothing to be learnt from. Where a frown and a smile are further apart than the view, it
# is lost as well which of them came first. Where that matters, something has to look at the whole clip at once. In the
# visual branch that is the Transformer, and the next chapter. The acoustic branch has none.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} To the letter
# :label: conv-exercise-letter
# ```
# Read equation (2) to the letter: each layer looks at a single step, $d$ before now. With five layers and dilations 1,
# 2, 4, 8, 16, on which step of the input does an output depend?
#
# Give the number of steps before now: `emibook.check_exercise("10.1", steps_back)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} conv-exercise-letter
# :class: dropdown
# ```
# Each layer is a delay, and delays add up.

# %%
steps_back = sum(2**n for n in range(5))
emibook.check_exercise("10.1", steps_back)
steps_back

# %% [markdown]
# A stack of single steps shifts the clip in time and sees one step of it. It gathers no context at all, so this cannot
# be what was meant.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The whole of 300 steps
# :label: conv-exercise-layers
# ```
# How many layers of kernel 3, with dilations that double, are needed for the last step to see all 300? How far does
# it then see?
#
# Give the number of layers: `emibook.check_exercise("10.2", layers)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} conv-exercise-layers
# :class: dropdown
# ```
# Ask the library for deeper and deeper networks. On paper: $1 + 2\,(2^n - 1) \ge 300$.

# %%
depths = range(1, 12)
views = pd.Series([TCN(1, channels=1, layers=n).receptive_field for n in depths], depths)
layers, seen = int(views[views >= STEPS].index[0]), int(views[views >= STEPS].iloc[0])
emibook.check_exercise("10.2", layers)
layers, seen

# %% [markdown]
# It would see well beyond the clip's beginning, for three more layers of weights. That is cheap; the paper did not
# need it, because in its visual branch attention follows.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Without dilation
# :label: conv-exercise-dense
# ```
# How many layers of kernel 3 *without* dilation see 63 steps, and how many times as many weights is that, with 128
# channels in and out of each layer?
#
# Give the number of layers: `emibook.check_exercise("10.3", layers)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} conv-exercise-dense
# :class: dropdown
# ```
# Each layer adds two steps.

# %%
layers = (field - 1) // 2
weights_of_one = 3 * 128 * 128 + 128
emibook.check_exercise("10.3", layers)
layers, round(layers * weights_of_one / (5 * weights_of_one), 1)

# %% [markdown]
# And each of them is one more thing for a gradient to get through.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Looking both ways
# :label: conv-exercise-both
# ```
# Nothing in the task forbids looking ahead. Without a new class: how would you make a network of two TCNs that knows
# the future as well as the past? Does it see the gap in the experiment above? Guess first, then try.
#
# Give a function that makes (batch, time, channels) of (batch, time, 1): `emibook.check_exercise("10.4", both_ways)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} conv-exercise-both
# :class: dropdown
# ```
# Let a second TCN read the clip backwards, turn its answers around, and put the two side by side.

# %%
torch.manual_seed(seed)
ahead, back = TCN(1, channels=16), TCN(1, channels=16)


def both_ways(values):
    """Each step: what the past says of it, beside what the future says."""
    return torch.cat([ahead(values), back(values.flip(1)).flip(1)], dim=2)


emibook.check_exercise("10.4", both_ways)
with torch.no_grad():
    means = both_ways(blips).mean(dim=1)
distance = (means - means[-1]).norm(dim=1) / means[-1].norm()
bool((distance[gaps >= field] < 1e-5).all())

# %% [markdown]
# The gap stays invisible. Each step now sees 125 steps, 62 on either side, but no single path through either half
# joins two events that are further apart than one half sees; the halves meet only in the mean. A layer *on top of both*
# could join them.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - found two steps missing in equation (2), and computed a layer that PyTorch agrees with;
# - seen kernels answer to the onset, the end and the height of a smile;
# - caught two paddings knowing the future, and seen that a label of a whole clip does not forbid it;
# - counted, drawn and measured 63 steps, and seen that they do not count alike;
# - built clips whose difference no training can teach this network.
#
# ## Sources
#
# The paper, sections 3.3 and 4.2 {cite:p}`yu2024`; causal dilated convolutions {cite:p}`bai2018`, which come from the
# generation of sound {cite:p}`oord2016`; what a deep convolution really uses {cite:p}`luo2016`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with corpus and features there already.
