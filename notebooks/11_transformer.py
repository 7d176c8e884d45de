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
# # The Transformer encoder

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0
seeds = 2

# %% tags=["hide-input"]
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, listing, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.experiments import paper_tables
from emibook.experiments.runs import Run
from emibook.models import IntensityRegressor, TransformerEncoder
from emibook.models.transformer import SelfAttention, attention_weights, positional_encoding
from emibook.preprocess import read_faces
from emibook.puppet.corpus import make_corpus
from emibook.sequences.load import load
from emibook.sequences.packed import Feed
from emibook.training.loop import predict

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
# **What can a step of a clip learn from all the others that its neighbours cannot tell it?**
#
# Sixty people sit around a table, each with a photograph of one moment of the same clip. You hold the one in which
# somebody's mouth is half open. A laugh that begins, or a word? You ask the table: who has something like mine?
# Those whose photograph fits speak up, the better the fit the louder, and you write down what they say, weighted by how
# loud they were. Everybody does so at once. Then all pass on what they have written, and ask again.
#
# That is self-attention {cite:p}`vaswani2017`, and two rounds of it are the paper's Transformer encoder. It stands
# behind the temporal convolution, and only in the visual branch.
#
# You will
#
# - compute attention for four steps by hand, and see the library agree;
# - shuffle a clip, see attention not notice, and give it a sense of order;
# - pad a clip, and see what happens where the mask is forgotten;
# - draw what a trained branch attends to over one clip, and test whether it matters;
# - put the paper's Figure 2 together, and find the number in it that cannot be.
#
# ## What the paper says
#
# > "In addition, behind the visual branch, a Transformer Encoder is cascaded to interact with and integrate different
# > parts of the input sequence, thereby extracting rich feature representations and capturing long-range dependencies
# > in the sequence without introducing recursive structures." (section 3.3)
#
# > "The visual branch encoder has a dimension of 546 with 2 encoder blocks and 4 multi-heads. In the temporal encoder,
# > [...] the feature dimension in attention is 128." (section 4.2)
#
# ## Four steps, by hand
#
# Each step is two numbers here: how much it smiles, and how far its brows are up. The first and the last are at rest,
# the two in the middle smile. How well do two steps fit? Multiply number by number and add up; divide by the root of
# how many numbers there are, so that the fits do not grow with the width. Then turn each row of fits into shares that
# add up to one: raise $e$ to them, and divide by the sum. That is the *softmax*. What a step takes away is the mean of
# all steps, weighted by these shares.

# %%
moments = np.array([[0.0, 0.4], [2.0, 0.0], [1.8, 0.6], [0.2, 0.2]])
fits = moments @ moments.T / np.sqrt(2)
shares = np.exp(fits) / np.exp(fits).sum(axis=1, keepdims=True)
taken = shares @ moments
taken.round(2)

# %% mystnb={"image": {"alt": "A table of four by four squares with a number in each. In the rows of the two smiling steps the squares of the two smiling columns are dark; the rows of the two resting steps are nearly even."}, "figure": {"caption": "Who listens to whom: in each row, the shares that one step gives to all four.", "name": "attn-hand"}}
fig, ax = plt.subplots(figsize=(3.4, 2.9))
ax.imshow(shares, cmap="Blues", vmin=0, vmax=0.8)
for (row, column), share in np.ndenumerate(shares):
    color = "white" if share > 0.4 else "black"
    ax.text(column, row, f"{share:.2f}", ha="center", va="center", color=color)
names = ["rest", "smile", "smile", "rest"]
ax.set_xticks(range(4), names)
ax.set_yticks(range(4), names)
ax.set(xlabel="speaks", ylabel="listens")
plt.show()

# %% [markdown]
# The smiling steps listen to each other. The resting ones have nothing to compare by, so they listen to everybody, and
# come away with a mean. All that is missing is something to learn. Three matrices do it: one turns a step into what it
# asks (*query*), one into what it answers to (*key*), one into what it says (*value*):
#
# $$\mathrm{softmax}\!\left(\frac{Q K^{\top}}{\sqrt{w}}\right) V$$
#
# where $Q$, $K$ and $V$ hold a row for each step and $w$ is how many numbers a row has. In the library the whole of it,
# in several *heads* at once, is this; `scaled_dot_product_attention` is PyTorch's name for the formula, and the mask
# tells which steps there are:

# %%
listing(SelfAttention.forward)

# %% [markdown]
# With matrices that change nothing it must give what we computed by hand.

# %%
attention = SelfAttention(channels=2, heads=1)
everything = torch.ones(1, 4, dtype=torch.bool)
with torch.no_grad():
    attention.project_in.weight[:] = torch.eye(2).repeat(3, 1)
    attention.project_out.weight[:] = torch.eye(2)
    attention.project_in.bias[:], attention.project_out.bias[:] = 0, 0
    asked = torch.tensor(moments[None], dtype=torch.float32)
    by_library = attention(asked, everything)[0].numpy()

# %% tags=["remove-cell"]
glue("attn_difference", f"{np.abs(by_library - taken).max():.0e}", display=False)

# %% [markdown]
# The largest difference is {glue:text}`attn_difference`. Four heads mean four such tables, each with matrices of its
# own and a quarter of the width, so that one may look for smiles and another for brows.
#
# ## It does not know what came first
#
# Nothing in that formula says *before*. If the sixty people change places, everybody hears the same. The encoder is two
# *blocks*, one above the other. A block is one round of attention and then a small network that each step goes through
# by itself; what either gives is added to what it was given. Send a clip through both, random numbers will do, then the
# same clip with its steps shuffled, and compare the means over time, which are all that the rest of the branch ever
# sees.

# %%
torch.manual_seed(seed)
steps, mask = torch.randn(1, 60, 128), torch.ones(1, 60, dtype=torch.bool)
shuffled = steps[:, torch.randperm(60)]
for known in (False, True):
    torch.manual_seed(seed)
    encoder = TransformerEncoder(channels=128, layers=2, heads=4, positions=known).eval()
    with torch.no_grad():
        ordered, mixed = (encoder(each, mask).mean(dim=1) for each in (steps, shuffled))
    distance = float((ordered - mixed).norm() / ordered.norm())
    name = "with" if known else "without"
    print(f"{name} positions it moves by {distance:.0e} of its length")

# %% [markdown]
# Without positions the difference is rounding. So each step is given its place, as a pattern that is added to it:
# sines and cosines of many periods, like the hands of many clocks {cite:p}`vaswani2017`. The paper does not mention
# positions. The library adds them.

# %% mystnb={"image": {"alt": "A rectangle of blue and red stripes: 300 steps across, 128 channels up. At the bottom the stripes are narrow, further up they get ever wider, until the upper half hardly changes over the clip."}, "figure": {"caption": "What is added to each step so that it knows its place: a column a step, a row a channel.", "name": "attn-positions"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.4))
ax.imshow(positional_encoding(300, 128).T, cmap="RdBu_r", aspect="auto", origin="lower")
ax.set(xlabel="step", ylabel="channel")
plt.show()

# %% [markdown]
# The convolution below knew order already, but only within its view. What the positions add is *how far apart*: the
# two events that no step of the convolution sees together, in the last chapter's experiment, now meet in one table, and
# each carries its place.
#
# ## What goes wrong otherwise: a mask forgotten
#
# Clips that go together through the network must be of one length, so the shorter ones are padded. A mean that counts
# the padding is a little wrong. Attention that sees it is wrong in every step, because all of the padding answers to
# every question. Put forty empty steps behind the clip, and look at what comes out.

# %%
padded = torch.cat([steps, torch.zeros(1, 40, 128)], dim=1)
true_mask = torch.arange(100)[None] < 60
with torch.no_grad():
    alone = encoder(steps, mask)[:, :60]
    masked = encoder(padded, true_mask)[:, :60]
    forgotten = encoder(padded, torch.ones(1, 100, dtype=torch.bool))[:, :60]
moved = [float((each - alone).norm() / alone.norm()) for each in (masked, forgotten)]

# %% tags=["remove-cell"]
glue("attn_masked", f"{moved[0]:.0e}", display=False)
glue("attn_forgotten", f"{moved[1]:.0%}", display=False)

# %% [markdown]
# With its mask, the clip comes out as it would alone ({glue:text}`attn_masked` of its length, which is rounding).
# Without it, every step is off, by {glue:text}`attn_forgotten` of the whole on average. And since the padding depends on
# the longest clip that happens to be in the batch, a clip's score would depend on its company. A test of the library
# makes sure that it does not.
#
# ## What a trained branch attends to
#
# Now a branch that has learnt something: action units to intensities, trained on this corpus, looking at a clip that
# it was not trained on.

# %%
run = Run.open(paper_tables.train(corpus, work, "aus", resources=Resources(progress=False)))
model, valid = run.model(), load(corpus, work, "aus", "valid")
place = int(np.argsort(valid.lengths)[len(valid) * 3 // 4])
clip = valid.clips[place]
feed = Feed(valid, "cpu")
values, mask = feed.batch(np.array([place]))
with torch.no_grad():
    hidden = model.tcn((values - model.feature_mean) / model.feature_scale)
    tables = attention_weights(model.transformer, hidden, mask)[0]
    # (block, head, step, step)

# %% mystnb={"image": {"alt": "Two rows of four square heat maps, a row a block, a square a head. Upright stripes, narrow in some squares and wide in others, are steps that many or all others listen to."}, "figure": {"caption": "Who listens (down) to whom (across) in one clip: two blocks of four heads, each with a scale of its own.", "name": "attn-heads"}}
fig, axes = plt.subplots(2, 4, figsize=(figures.WIDTH, 2.7), sharex=True, sharey=True)
for block, row in enumerate(axes):
    for head, ax in enumerate(row):
        ax.imshow(tables[block, head], cmap="Blues", aspect="auto", rasterized=True)
        ax.set(xticks=[], yticks=[], title=f"head {head + 1}" if block == 0 else "")
    row[0].set_ylabel(f"block {block + 1}")
plt.show()

# %% [markdown]
# Upright stripes are moments to which many others listen. Average what each step is given, and lay it over the smile.

# %%
received = tables.mean(dim=(0, 1, 2)).numpy() * len(tables[0, 0])  # 1 is an even share
images, times, _ = read_faces(work, clip)
times = times[: len(received)]
smile = values[0, :, valid.names.index("AU12_r")].numpy()

# %% mystnb={"image": {"alt": "Two panels over seconds. Above, the intensity of lip corners pulled up. Below, the attention that each step receives, around a dashed level of one, higher at some moments than at others."}, "figure": {"caption": "One clip: the smile as it was measured (above), and the attention that each step receives from all steps, blocks and heads (below). Dashed: an even share.", "name": "attn-received"}}
fig, axes = plt.subplots(2, 1, figsize=(figures.WIDTH, 3.4), sharex=True)
axes[0].plot(times, smile, color="black")
axes[0].set(ylabel="lip corners up")
axes[1].plot(times, received)
axes[1].axhline(1, color=figures.GREY, linestyle="--", linewidth=1)
axes[1].set(ylabel="received", xlabel="seconds")
plt.show()

# %% mystnb={"image": {"alt": "Two strips of five small face pictures of the same clip: the five moments with the most attention above, the five with the least below."}, "figure": {"caption": "Five moments that receive most attention, and five that receive least.", "name": "attn-faces"}}
by_attention = np.argsort(received)
tenth = max(5, len(received) // 10)
most, least = np.sort(by_attention[-tenth:]), np.sort(by_attention[:tenth])
chosen = [each[np.linspace(0, tenth - 1, 5).round().astype(int)] for each in (most, least)]
figures.show_strips([images[each] for each in chosen], ["most", "least"])
plt.show()

# %% [markdown]
# It is tempting to read this as the reason for the answer. Whether it is one can be tried, and often it is not
# {cite:p}`jain2019`. So hide the most attended tenth of the steps from the branch, then the least attended tenth, then
# as many at random, many times, and see how far the six intensities move. A step that is hidden is nought to the
# convolution, nobody attends to it, and the mean leaves it out.

# %%
rng = np.random.default_rng(seed)
hidden_steps = [most, least] + [rng.permutation(len(received))[:tenth] for _ in range(60)]
masks = mask.repeat(len(hidden_steps) + 1, 1)
for row, which in enumerate(hidden_steps):
    masks[row, which] = False
with torch.no_grad():
    answers = model(values.expand(len(masks), -1, -1), masks)
changes = (answers[:-1] - answers[-1]).norm(dim=1).numpy()

# %% mystnb={"image": {"alt": "Histogram of how far the answer moves when a random tenth of the steps is hidden, with two upright lines, one for hiding the most attended tenth and one for the least attended."}, "figure": {"caption": "How far the six intensities move when a tenth of the steps is hidden: at random (bars), the most attended, the least attended.", "name": "attn-hidden"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.4))
ax.hist(changes[2:], bins=15, color=figures.GREY, alpha=0.6, label="at random")
ax.axvline(changes[0], color=figures.BLUE, label="most attended")
ax.axvline(changes[1], color=figures.ORANGE, linestyle="--", label="least attended")
ax.set(xlabel="change of the answer", ylabel="draws")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% tags=["remove-cell"]
glue("attn_clip", clip, display=False)
glue("attn_rank", f"{(changes[2:] < changes[0]).mean():.0%}", display=False)
glue("attn_low_rank", f"{(changes[2:] < changes[1]).mean():.0%}", display=False)

# %% [markdown]
# In clip {glue:text}`attn_clip`, hiding the most attended tenth moves the answer further than
# {glue:text}`attn_rank` of the random tenths do, hiding the least attended further than
# {glue:text}`attn_low_rank`. Were attention the reason for the answer, the first share would be nearly all and the
# second nearly none. One clip is an anecdote, and steps that lie side by side are hidden side by side, which random ones
# are not. The point is the habit: a picture of attention is a question, and hiding is a way to ask it.
#
# ## Figure 2
#
# ```{figure} ../static/branches.svg
# :name: attn-figure-2
# :width: 400px
# :alt: A flow chart of two columns. On the left ResNet-18 and action units are joined and go through a temporal convolution, a Transformer encoder, a mean over time and two dense layers. On the right sound features go the same way without the Transformer. Both end in six values, which are averaged.
#
# The paper's Figure 2, drawn anew: the encoder stands in the visual branch only.
# ```
#
# Where are the weights? Count them in the branch that reads ResNet-18 and action units together.

# %%
visual = IntensityRegressor(in_features=512 + 34, targets=6)
parts = {"convolution": visual.tcn, "Transformer": visual.transformer, "FFN": visual.ffn}
sizes = {name: sum(each.numel() for each in part.parameters())
         for name, part in parts.items()}
pd.Series(sizes, name="weights").to_frame()

# %% [markdown]
# Nearly all of them are in the convolution and the Transformer, about half in each; the FFN, the two dense layers at
# the end, has few.
#
# And the number that cannot be. "A dimension of 546 with [...] 4 multi-heads": the heads share the width among them,
# and 546 does not divide by four. It is the width of what goes *in*, 512 from ResNet-18 and 34 from action units.
# The library takes 128 as the width of the attention, as the quotation's second sentence says, which leaves 32 for each
# head; it refuses a width that does not divide.

# %%
try:
    SelfAttention(channels=546, heads=4)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Exercises

# %% [markdown]
# ```{exercise-start} A softmax by hand
# :label: attn-exercise-softmax
# ```
# A step finds two others. Its fit with the first is nought, with the second the natural logarithm of three. What
# share does it give to the second?
#
# Give the share: `emibook.check_exercise("11.1", share)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} attn-exercise-softmax
# :class: dropdown
# ```
# $e$ to the fits is one and three.

# %%
two_fits = np.array([0, np.log(3)])
share = (np.exp(two_fits) / np.exp(two_fits).sum())[1]
emibook.check_exercise("11.1", share)
round(float(share), 4)

# %% [markdown]
# Three parts of four. If both fits were larger by the same amount, nothing would change.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Heads for 546
# :label: attn-exercise-heads
# ```
# Into how many heads, up to ten, could a width of 546 be divided?
#
# Give all the numbers of heads that do: `emibook.check_exercise("11.2", heads)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} attn-exercise-heads
# :class: dropdown
# ```
# Those that leave no remainder.

# %%
heads = [count for count in range(1, 11) if 546 % count == 0]
emibook.check_exercise("11.2", heads)
heads

# %% [markdown]
# Four is not among them. Padding the input by two columns would do it, and so would projecting it to another width
# first; the paper says neither.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Backwards
# :label: attn-exercise-backwards
# ```
# Does the trained branch use order at all? Play every validation clip backwards to it, and correlate its answers with
# those it gives forwards. What would you expect of a branch that only averages?
#
# Give the correlation for each emotion: `emibook.check_exercise("11.3", alike, model=model, valid=valid)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} attn-exercise-backwards
# :class: dropdown
# ```
# Turn each clip around, alone, so that no padding gets in the way.

# %%
forwards = predict(model, valid)
backwards = forwards.copy()
with torch.no_grad():
    for row in np.flatnonzero(valid.present):
        backwards[row] = model(*(part.flip(1) for part in feed.batch(np.array([row]))))[0]
alike = [np.corrcoef(*pair)[0, 1] for pair in zip(forwards.T, backwards.T, strict=True)]
emibook.check_exercise("11.3", alike, model=model, valid=valid)
pd.Series(alike, corpus.targets, name="correlation").round(3).to_frame()

# %% [markdown]
# A branch that only averages would give ones. What is below one comes of order, or at least of direction, which moves its
# answers; whether for the better is another question, and one for the score. Drawn clips rise and fall much alike, so
# there may be less to be had from order here than in people.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - turned fits into shares and shares into a mean, and got the library's numbers;
# - seen attention miss a shuffle, and notice it once each step carried its place;
# - moved every step of a clip by {glue:text}`attn_forgotten` with nothing but padding;
# - drawn eight tables of a trained branch, and asked by hiding whether they matter;
# - counted the weights of the visual branch, and found that 546 and four heads do not go together.
#
# ## Sources
#
# The paper, sections 3.3 and 4.2 {cite:p}`yu2024`; attention, heads and positions {cite:p}`vaswani2017`; whether
# attention explains {cite:p}`jain2019`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with the trained branch there already.
