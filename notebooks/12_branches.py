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
# # Two branches trained

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
from torch.nn.functional import mse_loss

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, project_path
from emibook.compute import Resources
from emibook.corpus import open_corpus
from emibook.experiments import paper_tables
from emibook.experiments.recipes import RECIPES, recipe_for
from emibook.experiments.runs import Run
from emibook.models import IntensityRegressor
from emibook.puppet.corpus import make_corpus
from emibook.sequences.load import load
from emibook.sequences.packed import Feed
from emibook.studies.human.people import rows as people_rows
from emibook.training.loop import LOG
from emibook.training.partitions import statistics

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
# **What happens between the first epoch and the number in the table?**
#
# Somebody walks down a mountain in fog. All that can be felt is the slope underfoot. Small steps, and night falls before
# the valley; large ones, and the other side of the ravine comes nearer than the bottom. There is a rule, passed on from
# walker to walker: when you have not got any lower for a while, halve your step. And there is a bad habit: to remember
# the lowest point one has passed, and to report that one.
#
# Training a branch is this walk. The slope is a gradient, the height an error, and the paper gives the step, the rule
# and the size of a *batch*, the clips on which one step is computed. It does not give the number of steps,
# and it looks down at the validation clips while it walks.
#
# You will
#
# - compute the loss by hand, and untangle a formula in which $n$ is two things;
# - walk a ravine with plain steps and with Adam's;
# - read "$3e^{-5}$" in two ways, and see on eight clips what either does;
# - look at the curves of real runs: loss, score, rate, and the epoch that was kept;
# - read Table 2 of this corpus, emotion by emotion.
#
# ## What the paper says
#
# > "In this work, we utilize the mean square error (MSE) loss function in our training procedure. Let $y = [y_1, \dots,
# > y_6]$ and $\hat y = [\hat y_1, \dots, \hat y_6]$ be the true emotional reaction intensity and the prediction"
# > (section 3.6)
#
# > "The training process is optimized using the Adam optimizer. [...] using an initial learning rate of $3e^{-5}$ and a
# > batch size of 128. Additionally, if the validation set metric does not improve for 10 epochs, the learning rate is
# > halved." (section 4.2)
#
# ## The loss
#
# For each emotion of a clip, how far off is the prediction? Square it, so that being above and being below count alike
# and being far off counts more. Average. In the paper's equation (7)
#
# $$\mathcal{L} = \frac{1}{n} \sum_{i=1}^{n} (y_i - \hat y_i)^2$$
#
# $i$ is a clip, by the words below it ("$n$ represents the number of samples"). By the words above it, $y_1$ to $y_6$
# are emotions. Both at once needs two sums; the library, and every framework, averages over both. Here are two clips by
# six emotions, twelve squares, by hand and by PyTorch.

# %%
truth = torch.tensor([[0.0, 0.5, 0.0, 0.0, 0.5, 0.0], [0.2, 0.0, 0.0, 0.4, 0.0, 0.0]])
guess = torch.tensor([[0.1, 0.4, 0.1, 0.0, 0.2, 0.1], [0.1, 0.1, 0.1, 0.1, 0.1, 0.1]])
by_hand = sum((truth[clip, emotion] - guess[clip, emotion]) ** 2
              for clip in range(2) for emotion in range(6)) / 12
round(float(by_hand), 4), round(float(mse_loss(guess, truth)), 4)

# %% [markdown]
# The challenge does not score this. It scores correlation, which forgives any scale and any offset; the squared error
# forgives neither. To make it small, a network that knows little answers near the mean. That costs nothing in
# correlation, and it keeps the branches on the scale of the labels, which the average in chapter 13 will need.
#
# ## The step
#
# A gradient says for every weight how the loss would change if it grew a little. Plain gradient descent moves each
# weight against its gradient, times a *rate*. In a ravine, steep across and flat along, there is no good rate: what
# suits the steep direction crawls along the flat one. Adam {cite:p}`kingma2015` divides each weight's step by how large
# its gradients have lately been, so that steep and flat directions move alike, and smooths over a few steps.

# %%
def walk(optimizer, rate, steps=60):
    """The places on a walk down the ravine x^2 / 20 + 2 y^2."""
    place = torch.tensor([-1.8, 0.8], requires_grad=True)
    walker, seen = optimizer([place], lr=rate), []
    for _ in range(steps):
        seen.append(place.detach().clone())
        walker.zero_grad()
        (place[0] ** 2 / 20 + 2 * place[1] ** 2).backward()
        walker.step()
    return torch.stack(seen).numpy()


walks = {"plain": walk(torch.optim.SGD, 0.4), "Adam": walk(torch.optim.Adam, 0.1)}

# %% mystnb={"image": {"alt": "Contour lines of a long flat valley with two paths from the same start at the upper left. The plain one zigzags across the valley, then creeps along the bottom and ends short of the middle; the other goes straight for it, overshoots and turns back."}, "figure": {"caption": "Sixty steps down a ravine from the same place: plain gradient descent, and Adam.", "name": "branch-ravine"}}
across, along = np.meshgrid(np.linspace(-2, 0.6, 80), np.linspace(-1, 1, 80))
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.8))
height = across**2 / 20 + 2 * along**2
ax.contour(across, along, height, levels=12, colors="#bbbbbb", linewidths=0.7)
for (name, path), mark in zip(walks.items(), ("o-", "s-"), strict=True):
    ax.plot(*path.T, mark, markersize=3, linewidth=1, label=name)
ax.plot(0, 0, "k+", markersize=12)
ax.set(xticks=[], yticks=[])
fig.legend(loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# Plain steps in {numref}`branch-ravine` spend themselves on going from wall to wall, and along the bottom they get
# shorter as the slope gets less. Adam's are about as long as the rate in either direction, so it comes to the middle;
# it also carries on for a while where it should have stopped.
#
# ## Three times ten to the minus five?
#
# The paper's rate is written $3e^{-5}$. Read as programmers write it, that is three hundred-thousandths. Read as it
# stands, with $e$ the number whose natural logarithm is one, it is several hundred times as much. Try both, and one in
# between, on eight clips: a small branch that sees the same eight over and over should learn them by heart. If it
# cannot, something is broken; it is the first thing to try with any network.
#
# The branch is a small relative of the paper's acoustic one, and what it sees are the action units. `Feed` makes a
# batch: the clips' features, padded to one length, with the mask that says what is padding (chapter 4). `statistics`
# gives each feature's mean and spread, by which the branch standardises what it gets.

# %%
train = load(corpus, work, "aus", "train")
few = np.flatnonzero(train.present & (train.targets.sum(axis=1) > 0))[:8]
values, mask = Feed(train, "cpu").batch(few)
target = torch.from_numpy(train.targets[few])
rates = {"0.00003": 3e-5, "0.001": 1e-3, "3 e^-5": 3 * np.exp(-5)}
standards = [torch.from_numpy(np.asarray(each)) for each in statistics(train)]
losses = {name: [] for name in rates}

# %%
for name, rate in rates.items():
    torch.manual_seed(seed)
    branch = IntensityRegressor(len(train.names), len(corpus.targets), 1, channels=32)
    branch.standardise(*standards)
    optimizer = torch.optim.Adam(branch.parameters(), lr=rate)
    for _ in range(60):
        loss = mse_loss(branch(values, mask), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[name].append(loss.item())

# %% mystnb={"image": {"alt": "Three curves of the loss over sixty steps on a logarithmic axis. The one with the smallest rate hardly falls, the middle one falls steadily to a small fraction, the one with the largest rate drops to a grey level line, stays near it for a while and then creeps down."}, "figure": {"caption": "Learning eight clips by heart, with three rates.", "name": "branch-rates"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.8))
for (name, curve), line in zip(losses.items(), ("--", "-", ":"), strict=True):
    ax.semilogy(curve, linestyle=line, label=name)
ax.axhline(float(target.var(dim=0, correction=0).mean()), color=figures.GREY, linewidth=1)
ax.set(xlabel="step", ylabel="squared error")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% tags=["remove-cell"]
glue("branch_literal", f"{3 * np.exp(-5):.3f}", display=False)
glue("branch_small_left", f"{losses['0.00003'][-1] / losses['0.00003'][0]:.0%}", display=False)
glue("branch_middle_left", f"{losses['0.001'][-1] / losses['0.001'][0]:.1%}", display=False)
glue("branch_large_left", f"{losses['3 e^-5'][-1] / losses['3 e^-5'][0]:.0%}", display=False)

# %% [markdown]
# The grey line of {numref}`branch-rates` is the loss of the best constant answer. After sixty steps the small rate has
# {glue:text}`branch_small_left` of its first loss left, the middle one {glue:text}`branch_middle_left`. The literal
# reading, {glue:text}`branch_literal`, is left with {glue:text}`branch_large_left`: its first steps throw away whatever
# the start had to offer, and for a while it sits near the best constant answer, which knows nothing of any clip. So the
# rate is read here as the programmers do. The paper's training partition makes 64 steps of it an *epoch*, which is once
# through all clips. A small corpus has a few batches an epoch, and with so small a rate would hardly move; it takes
# another *recipe*, and says so wherever it is used.

# %%
recipes = pd.DataFrame({name: vars(recipe) for name, recipe in RECIPES.items()}).drop("name")
used = recipe_for(corpus)
recipes

# %% tags=["remove-cell"]
glue("branch_recipe", used.name, display=False)
glue("branch_batches", int(np.ceil(train.present.sum() / used.batch)), display=False)

# %% [markdown]
# Here it is the recipe {glue:text}`branch_recipe`, with {glue:text}`branch_batches` steps an epoch. The number of epochs
# is ours in both; the paper names none.
#
# ## Curves
#
# Each run writes down, after every epoch, its loss, its score on the validation clips, and its rate. Here are the runs of
# a visual and of an acoustic branch.

# %%
names = ["aus", "mfcc"]
quiet = Resources(progress=False)
runs = {name: [Run.open(paper_tables.train(corpus, work, name, number, resources=quiet))
               for number in range(seeds)] for name in names}
logs = {name: [pd.read_csv(run.folder / LOG, index_col="epoch") for run in each]
        for name, each in runs.items()}

# %% mystnb={"image": {"alt": "Two columns, one a branch, of three panels over epochs. At the top the loss falls steadily; in the middle the score on validation clips rises fast, then slowly or no more, with a diamond at its highest point; at the bottom the rate is a level that may step down."}, "figure": {"caption": "Two branches, every seed a line: loss on training clips, mean correlation on validation clips with the epoch that is kept (diamond), and learning rate.", "name": "branch-curves"}}
fig, axes = plt.subplots(3, 2, figsize=(figures.WIDTH, 5), sharex=True, sharey="row")
for column, (name, each) in enumerate(logs.items()):
    for number, log in enumerate(each):
        line = ("-", "--", ":", "-.")[number % 4]
        for row, what in enumerate(("loss", "mean_pearson", "learning_rate")):
            axes[row, column].plot(log.index, log[what], linestyle=line, color=figures.BLUE)
        best = log["mean_pearson"].idxmax()
        axes[1, column].plot(best, log["mean_pearson"][best], "D", color=figures.ORANGE)
    axes[0, column].set_title(name)
    axes[2, column].set_xlabel("epoch")
for row, label in enumerate(("loss", "score", "learning rate")):
    axes[row, 0].set_ylabel(label)
plt.show()

# %% tags=["remove-cell"]
every = [log for each in logs.values() for log in each]
kept = [float(log["mean_pearson"].max() - log["mean_pearson"].iloc[-1]) for log in every]
glue("branch_kept", f"{np.mean(kept):.3f}", display=False)
glue("branch_first", f"{min(int(log['mean_pearson'].idxmax()) for log in every)}", display=False)
glue("branch_last", f"{max(int(log['mean_pearson'].idxmax()) for log in every)}", display=False)
glue("branch_epochs", len(every[0]), display=False)

# %% [markdown]
# The loss on training clips goes on falling; the score on new people rises ever more slowly, or no longer
# ({numref}`branch-curves`). Where the one goes on and the other does not, the branch is *overfitting*: it learns its
# training clips and nothing else. (Where a diamond stands at the right end, the training was rather too short than too
# long.) The rate stays level as long as no ten epochs pass without a better score. The weights that are kept are those
# of the diamond, between epoch {glue:text}`branch_first` and {glue:text}`branch_last` of {glue:text}`branch_epochs`.
#
# ## What goes wrong otherwise
#
# The diamond is chosen on the very clips whose score is then reported. Compared with the last epoch, which nobody
# chose, it scores {glue:text}`branch_kept` more on average over these runs. Part of that is real, since stopping early
# helps, and part is luck that will not come again (chapter 3). The paper's "if the validation set metric does not
# improve" says that it looks at the same clips, and this book does as the paper does in its tables. Beside that
# it lets one half of the validation people decide when the rate is halved and which epoch is kept, and scores the other
# half, then the other way round, and averages the two: the column `honest` below.
#
# ## Table 2
#
# Every row of the paper's Table 2 that this corpus can fill: one feature set through one branch, all seeds, with an
# interval over participants and seeds. Where `weights` says "untrained control", the encoder has the right architecture
# and random weights (chapter 7); "(baseline)" stands behind rows with the organisers' model instead of the paper's; and
# `mfcc` is ours.

# %%
table2, _ = paper_tables.tables(
    corpus, work, seeds=seeds, reference_rows=people_rows(corpus),
    resources=Resources(progress=False))
table2.set_index("features")[["mean", "cross_fitted", "low", "high", "weights"]].round(3)

# %% mystnb={"image": {"alt": "Rows of Table 2, one under another: a dot for the mean correlation of each feature set and a line for its interval; rows of untrained encoders have hollow grey dots."}, "figure": {"caption": "Table 2 on this corpus: one modality a row, mean over seeds, interval over participants and seeds. Small dots: seed by seed.", "name": "branch-table-2"}}
figures.show_rows(table2, paper=profile == "paper")
plt.show()

# %% [markdown]
# Over the rows of {numref}`branch-table-2`, `mean` less `honest` is {glue:text}`branch_flatters` on average: so much
# does the choice on what is reported flatter. (Half of the people are few, so a single row may come out the other way
# around.)
#
# One number a row hides six. Here they are, a column an emotion.

# %%
columns = [f"pearson {emotion}" for emotion in corpus.targets]
by_emotion = table2.set_index("features")[columns].set_axis(corpus.targets, axis=1)
seen = table2.set_index("features")["modality"] == "V"
best_face = by_emotion[seen].max()
best_voice = by_emotion[~seen].max()

# %% mystnb={"image": {"alt": "A table of squares, a row for each feature set and a column for each emotion, darker for higher correlations, with the number in each. Rows of faces and rows of sound are dark in different columns."}, "figure": {"caption": "Table 2 by emotion: the correlation of each feature set with the raters, mean over seeds.", "name": "branch-emotions"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 3.8))
ax.imshow(by_emotion, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
for (row, column), rho in np.ndenumerate(by_emotion.to_numpy()):
    color = "white" if rho > 0.55 else "black"
    ax.text(column, row, f"{rho:.2f}", ha="center", va="center", color=color, fontsize=9)
ax.set_yticks(range(len(by_emotion)), by_emotion.index)
ax.set_xticks(range(len(corpus.targets)), corpus.targets, rotation=45, ha="right")
plt.show()

# %% tags=["remove-cell"]
by_face = [emotion for emotion in corpus.targets if best_face[emotion] > best_voice[emotion]]
by_voice = [emotion for emotion in corpus.targets if emotion not in by_face]
glue("branch_flatters", f"{(table2['mean'] - table2['cross_fitted']).mean():+.3f}", display=False)
glue("branch_by_face", ", ".join(by_face) or "none", display=False)
glue("branch_by_voice", ", ".join(by_voice) or "none", display=False)

# %% [markdown]
# By {numref}`branch-emotions` the best row of faces is ahead for: {glue:text}`branch_by_face`. The best row of sound is
# ahead for: {glue:text}`branch_by_voice`. Two witnesses who know different things are worth joining, and that is the
# next chapter.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} A loss by hand
# :label: branch-exercise-loss
# ```
# The six labels of a clip are 0, a half, 0, 0, a half and 0. The predictions are a tenth, two tenths, a tenth, 0, three
# tenths and a tenth. What is the loss of this clip?
#
# Give the number: `emibook.check_exercise("12.1", loss)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} branch-exercise-loss
# :class: dropdown
# ```
# Six differences, squared, averaged.

# %%
differences = np.array([0, 0.5, 0, 0, 0.5, 0]) - np.array([0.1, 0.2, 0.1, 0, 0.3, 0.1])
loss = np.square(differences).mean()
emibook.check_exercise("12.1", loss)
round(float(loss), 4)

# %% [markdown]
# More than half of it comes from one emotion. That is the square at work.
# ```{solution-end}
# ```

# %%
valid = load(corpus, work, "aus", "valid")
scores = [0.10, 0.12, 0.11, 0.12, 0.11, 0.13, 0.10, 0.09, 0.12, 0.11, 0.12, 0.10]
patience = 3

# %% [markdown]
# ```{exercise-start} Patience
# :label: branch-exercise-patience
# ```
# After each of twelve epochs a branch has the validation scores in `scores`, above. The rate is halved after three
# epochs without a rise above the best so far, and the waiting begins anew. After which epochs is it halved?
#
# Give their numbers, counted from one: `emibook.check_exercise("12.2", halved, scores=scores, patience=patience)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} branch-exercise-patience
# :class: dropdown
# ```
# As good as the best is no rise.

# %%
best, waited, halved = -np.inf, 0, []
for epoch, score in enumerate(scores, start=1):
    best, waited = (score, 0) if score > best else (best, waited + 1)
    if waited == patience:
        halved.append(epoch)
        waited = 0
emibook.check_exercise("12.2", halved, scores=scores, patience=patience)
halved

# %% [markdown]
# With the paper's ten epochs of patience and the thirty of our recipe `paper`, the rate is halved twice at most.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The loss of knowing nothing
# :label: branch-exercise-nothing
# ```
# Somebody predicts, for every validation clip, the mean labels of the training clips that have a face. What is their
# squared error, over clips and emotions? How much of that does the trained branch take away? Compare with its
# correlation.
#
# `train` and `valid` are above. Give the error of the mean:
# `emibook.check_exercise("12.3", nothing, train=train, valid=valid)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} branch-exercise-nothing
# :class: dropdown
# ```
# The run has its predictions on disk.

# %%
mean = train.targets[train.present].mean(axis=0)
nothing = np.square(valid.targets - mean).mean()
emibook.check_exercise("12.3", nothing, train=train, valid=valid)
predicted = runs["aus"][0].predictions("valid", valid.clips)[0]
learnt = np.square(valid.targets - predicted).mean()
round(float(nothing), 4), round(float(learnt), 4), f"{1 - learnt / nothing:.0%} less"

# %% [markdown]
# For a prediction on the right scale the share of an emotion's error that goes away is about the square of its
# correlation. So a correlation that looks respectable may leave most of the error standing.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - averaged a loss over clips *and* emotions, whatever $n$ was meant to be;
# - watched plain steps zigzag where Adam's did not;
# - seen the literal rate of {glue:text}`branch_literal` leave {glue:text}`branch_large_left` of the loss standing;
# - found the epoch that was kept, and what choosing it adds to the score;
# - read six correlations behind each row of Table 2.
#
# ## Sources
#
# The paper, sections 3.6, 4.2 and 4.3 {cite:p}`yu2024`; Adam {cite:p}`kingma2015`; choosing on what one reports
# {cite:p}`dwork2015`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with the runs of its tables there already.
