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
# # How these pages were made

# %% tags=["parameters", "hide-input"]
profile = "builtin"
root = "work/builtin/corpus"
work = "work/builtin"
clips = 240
seed = 0
chapters = {}

# %% tags=["hide-input"]
import importlib.metadata
import json
import time

import matplotlib.pyplot as plt
import pandas as pd
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import doctor, figures
from emibook.book.notebooks import read_chapter
from emibook.book.page import banner, project_path
from emibook.corpus import open_corpus
from emibook.puppet.corpus import make_corpus

# %% tags=["hide-input"]
started = time.perf_counter()
figures.use_style()
pd.options.display.max_rows = None
root, work = project_path(root), project_path(work)
if profile == "builtin":
    make_corpus(root, clips=clips, seed=seed, progress=False)
corpus = open_corpus(root)
banner(profile, corpus)

# %% [markdown]
# **On which machine, with which versions and in what time was the copy that you are reading made?**
#
# A cook writes "bake for twenty minutes". Whose oven? If yours is another one, the cake is still good to know about,
# but you will want to look through the glass. Times and last digits in a book like this one are such minutes. So this
# page, which runs after all the others, says whose oven it was. If your own copy differs from a printed number, look
# here first; if it fails, what stands here is what somebody who is to help you needs to know.
#
# You will
#
# - see the machine and the versions that made these pages;
# - know which chapters are up to date, and how long each took;
# - see where the time goes before a single chapter can run;
# - find out how much there is to read, to run and to solve.
#
# ## What the paper says
#
# > "All experiments were conducted on an NVIDIA RTX 3090 GPU with PyTorch" (section 4.2)
#
# That is a good start, and more than many papers give. It leaves out the versions, the drivers, the time, and which
# of the numbers would come out the same on another machine.
#
# ## The machine

# %%
print(doctor.machine().replace("; ", "\n").replace(", ", "\n"))

# %%
names = ["emibook", "torch", "torchvision", "transformers", "facenet-pytorch", "av", "numpy",
         "opencv-python-headless", "pandas", "librosa", "jupyter-book", "papermill"]
versions = {name: importlib.metadata.version(name) for name in names}
pd.Series(versions, name="version").to_frame()

# %% [markdown]
# The project pins these and everything below them in `constraints.txt`, so that the next copy is made with the same.
# With the same versions and the same seed, numbers are the same on the same kind of processor. On another kind the
# order in which a network adds up its products may differ, and with it the last digits; where training amplifies them,
# more than the last.
#
# ## Chapter by chapter
#
# A chapter is a notebook. It runs again where its own text, its parameters, or a function of the library that it uses
# have changed, and only then. The record of its last run lies beside it.

# %%
sources = sorted(project_path("notebooks").glob("*.py"))
executed = project_path("book/executed")
rows = {}
for path in sources:
    record = executed / f"{path.stem}.json"
    made = json.loads(record.read_text()) if record.exists() else {}
    current = made.get("fingerprint") == chapters.get(path.stem, "unknown")
    rows[path.stem] = {"profile": made.get("profile", ""), "up to date": current}
status = pd.DataFrame.from_dict(rows, orient="index")
status.drop("a2_status").replace({True: "yes", False: "no"})

# %% tags=["remove-cell"]
glue("current", int(status.drop("a2_status")["up to date"].sum()), display=False)
glue("others", len(status) - 1, display=False)

# %% [markdown]
# {glue:text}`current` of {glue:text}`others` other chapters were up to date when this page was made. On a machine with
# two cores two run at a time, so the times below overlap, and each is a little longer than it would be alone.

# %%
ledger = work / "timings.csv"
nothing = pd.DataFrame({"stage": [], "seconds": [], "ended": []})
spent = pd.read_csv(ledger) if ledger.exists() else nothing
ended = spent[spent["ended"] == "ok"]
latest = ended.groupby("stage")["seconds"].last().astype(float)
seconds = pd.Series({path.stem: latest.get(f"chapter {path.stem}") for path in sources},
                    dtype=float).drop("a2_status").fillna(0.0)

# %% tags=["remove-cell"]
glue("total_seconds", f"{seconds.sum():.0f}", display=False)

# %% mystnb={"image": {"alt": "One horizontal bar for each chapter, in the order of the book; its length is the seconds that the chapter took when it last ran. Chapters that were never timed here have no bar."}, "figure": {"caption": "Seconds that each chapter took when it last ran on this machine.", "name": "status-chapters"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 0.9 + 0.22 * len(seconds)))
ax.barh(list(seconds.index), seconds)
ax.invert_yaxis()
ax.set_xlabel("seconds")
plt.show()

# %% [markdown]
# Added up, the chapters take {glue:text}`total_seconds` seconds. What comes before them takes longer: clips have to be
# drawn, faces found, encoders fitted, and every row of two tables trained. Each of these stages remembers what it has
# done. So of all its calls the longest is the one that did the work, and the later ones only looked whether it was
# still good.

# %% mystnb={"image": {"alt": "One horizontal bar for each stage before the chapters, such as making the corpus, preprocessing, extracting features and training the tables; its length is the longest time that a call of it took, in seconds."}, "figure": {"caption": "Seconds of the longest call of each stage in this work folder.", "name": "status-stages"}}
stages = ended[~ended["stage"].astype(str).str.startswith("chapter ")]
longest = stages.groupby("stage", sort=False)["seconds"].max().astype(float)
fig, ax = plt.subplots(figsize=(figures.WIDTH, 1.0 + 0.3 * len(longest)))
ax.barh(list(longest.index), longest)
ax.invert_yaxis()
ax.set_xlabel("seconds")
plt.show()

# %% [markdown]
# ## How much there is
#
# Words are those of the prose, lines those of the code that a chapter shows or hides. Both are counted in the sources,
# not in what they print.

# %%
sizes = {}
for path in sources:
    cells = read_chapter(path).cells
    prose = [cell.source for cell in cells if cell.cell_type == "markdown"]
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    sizes[path.stem] = {
        "words": sum(len(text.split()) for text in prose),
        "lines": sum(len(text.splitlines()) for text in code),
        "cells": len(cells),
        "exercises": sum("{exercise-start}" in text for text in prose),
    }
sizes = pd.DataFrame.from_dict(sizes, orient="index")
sizes

# %% tags=["remove-cell"]
glue("words", f"{sizes['words'].sum():,}", display=False)
glue("exercises", int(sizes["exercises"].sum()), display=False)

# %% mystnb={"image": {"alt": "A dot for each chapter: words of prose to the right, lines of code upwards. The dots lie along a band that rises gently; all lie below the dashed line of one line of code for four words."}, "figure": {"caption": "Words of prose and lines of code in each chapter. Dashed: one line for four words, which no chapter may exceed.", "name": "status-sizes"}}
fig, ax = plt.subplots()
ax.plot(sizes["words"], sizes["lines"], "o")
most = sizes["words"].max()
ax.plot([0, most], [0, most / 4], color=figures.GREY, linestyle="--")
ax.set(xlabel="words of prose", ylabel="lines of code", xlim=(0, None), ylim=(0, None))
plt.show()

# %% [markdown]
# {glue:text}`words` words and {glue:text}`exercises` exercises: at a walking pace, some evenings.
#
# ## What would go wrong otherwise
#
# A page whose numbers come from a run that nobody can date is a rumour. If chapters could be stale without saying so,
# a function might be mended and the sentence that quotes its old result would stay. So a build of this book stops at a
# number that no cell has made, at any warning of the site's builder, at a parameter that a chapter does not know, and
# it runs a chapter again whose ground has moved. This page is the last to run, and the first to look at.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Two at a time
# :label: status-exercise-two
# :nonumber:
# ```
# All chapters have to run again, two at a time. Each takes as long as in `seconds`, and no chapter can be divided. How
# soon could the last of them be done, at best?
#
# Give a bound that no order of the chapters can beat, in seconds:
# `emibook.check_exercise("a2.1", bound, seconds=seconds)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} status-exercise-two
# :class: dropdown
# ```
# Two workers do at most two seconds of work in one. And the longest chapter takes its time, however little the other
# worker has to do meanwhile. The larger of the two bounds is the one that holds.

# %%
bound = max(seconds.sum() / 2, seconds.max())
emibook.check_exercise("a2.1", bound, seconds=seconds)
round(float(bound), 1)

# %% [markdown]
# Long chapters first comes near it; the order of the book need not.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Wordy and terse
# :label: status-exercise-words
# :nonumber:
# ```
# Which chapter spends the most words on a line of code, and which the fewest?
#
# Give the two names, the wordiest first: `emibook.check_exercise("a2.2", names, sizes=sizes)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} status-exercise-words
# :class: dropdown
# ```
# Divide, and take both ends.

# %%
share = sizes["words"] / sizes["lines"]
both_ends = (share.idxmax(), share.idxmin())
emibook.check_exercise("a2.2", both_ends, sizes=sizes)
share[list(both_ends)].round(1).to_frame("words a line")

# %% [markdown]
# Neither end is a virtue. What matters is that a cell is short enough to be read before it is run.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - seen whose oven it was: processor, versions, profile;
# - seen which of the other chapters are up to date, and how long each took;
# - told the stages that do the work from calls that only look;
# - counted words, lines and exercises, chapter by chapter.
#
# ## Sources
#
# The paper, section 4.2 {cite:p}`yu2024`. Versions are those that Python's own metadata name; times are those of the
# ledger `timings.csv` in the work folder.
#
# ## How long it takes

# %% tags=["hide-input"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# The page took {glue:text}`page_seconds` seconds.
