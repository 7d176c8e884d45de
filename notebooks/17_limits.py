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
# # Limits

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
from myst_nb import glue

# %% tags=["hide-input"]
import emibook
from emibook import figures
from emibook.book.page import banner, project_path
from emibook.corpus import open_corpus
from emibook.corpus.hume_vidmimic2 import EMOTIONS
from emibook.metrics import pearson
from emibook.puppet import labels
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
# **What can a face and a voice tell about a person, and who may ask?**
#
# It is your third interview this week. The camera light is on. You smile when they smile; you are tired, your grandmother
# is ill, and you want this job. Afterwards a program writes into your file: *enthusiasm, 31 of 100*. Nobody tells you
# that it was there. Nobody can tell you what it means.
#
# The program could be the one that this book builds. It would be wrong about you, in ways that can be computed. And in
# the European Union it would be forbidden. This chapter is about both.
#
# You will
#
# - follow what is felt to what is predicted, and see what is lost on the way;
# - turn a correlation into mistakes about single people;
# - see how a good score hides a group for which nothing works;
# - read what the law says, and where this book stands;
# - write down what whoever shares a corpus or a model owes its readers.
#
# ## What the paper says
#
# > "The ability to accurately estimate the intensity of emotional mimicry from audiovisual cues is essential for
# > developing intelligent systems capable of understanding and responding to human emotions effectively" (section 1)
#
# It says nothing of consent, of groups, or of use. It shares that with most of its field {cite:p}`stark2021`.
#
# ## From felt to predicted
#
# Somebody feels something. A part of it shows. A part of that is in the picture and the sound. Some people watch and
# tick words. (Who they are in its own data the paper leaves unclear: see chapter 1.) A program guesses what they
# ticked. Each step is a translation, and what this book measures is the last one only: whether the guess agrees with
# the ticks.
#
# That faces show inner states in one way, everywhere and reliably, is not what the evidence says. A thorough review found
# that people move their faces in many ways in the same emotion, and in the same way in many emotions, and that how often
# the expected one is seen depends on who, where and in which situation {cite:p}`barrett2019`. And in our task nobody is
# asked to feel anything: they mimic.
#
# How far the ticks of a few people agree with those of a few others can be tried. Here the lottery of the drawn corpus,
# in which a rater ticks the likelier the more is shown (chapter 5), is played twice for the same twenty thousand clips:
# `drawn.values` are the votes of one panel of raters, `others` those of another, and `drawn.felt` is what is shown.

# %%
clips_drawn = np.arange(20_000)
rng = np.random.default_rng(seed)
drawn = labels.sample_labels(clips_drawn // 60, clips_drawn // 30, rng)
rng = np.random.default_rng(seed + 1)
asked = drawn.raters[:, None]
others = rng.binomial(asked, labels.MAX_VOTE_PROBABILITY * drawn.felt) / asked
agreement = pd.DataFrame(index=EMOTIONS)
agreement["what is shown, with the votes"] = pearson(drawn.felt, drawn.values)
agreement["votes, with those of others"] = pearson(others, drawn.values)

# %% mystnb={"image": {"alt": "Six pairs of marks, one an emotion. The dot, how well what is shown agrees with the votes, stands to the right of the square, how well the votes of some agree with those of others; both are well short of one."}, "figure": {"caption": "Drawn labels: how far what is shown agrees with a few votes (dots), and the votes of some with the votes of others (squares), by emotion.", "name": "limits-votes"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.6))
for (name, column), mark in zip(agreement.items(), ("o", "s"), strict=True):
    ax.plot(column, range(len(column)), mark, label=name)
ax.set_yticks(range(len(agreement)), list(agreement.index))
ax.set(xlim=(0, 1), xlabel="correlation")
ax.invert_yaxis()
fig.legend(loc="outside lower center", ncols=1)
plt.show()

# %% tags=["remove-cell"]
glue("limits_votes", f"{agreement.iloc[:, 1].mean():.2f}", display=False)
glue("limits_shown", f"{agreement.iloc[:, 0].mean():.2f}", display=False)

# %% [markdown]
# Even one who knew exactly what is shown would correlate with these votes by {glue:text}`limits_shown` on average, and
# one panel of a few people with another by {glue:text}`limits_votes` ({numref}`limits-votes`). Chapter 2 has the same
# for actors and real votes. Above the first of the two there is nothing to be won; a program that gets there has learnt
# what panels tick, not the person.
#
# ## From a correlation to a person
#
# A correlation is about many clips. A decision is about one. Say that one clip in ten is strongly joyful, and that a
# program picks out the tenth with the highest predictions. How many of those picked are among the strongly joyful?

# %%
r = np.linspace(0, 0.99, 60)
truth, noise = np.random.default_rng(seed).standard_normal((2, 40_000))
top = truth >= np.quantile(truth, 0.9)
guesses = [each * truth + np.sqrt(1 - each**2) * noise for each in r]
right = np.array([top[guess >= np.quantile(guess, 0.9)].mean() for guess in guesses])

# %% mystnb={"image": {"alt": "A curve of the share of right picks against the correlation: one tenth at nought, rising slowly, one half only beyond a correlation of seven tenths, and all at one."}, "figure": {"caption": "Picking the highest tenth by a guess: the share of picks that is right, by the correlation of the guess. At nought it is a tenth.", "name": "limits-picks"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.6))
ax.plot(r, right)
ax.axhline(0.5, color=figures.GREY, linewidth=1, linestyle="--")
ax.set(xlabel="correlation of the guess", ylabel="picks that are right", ylim=(0, 1))
plt.show()

# %% tags=["remove-cell"]
at = {level: float(np.interp(level, r, right)) for level in (0.3, 0.5)}
glue("limits_three", f"{at[0.3]:.0%}", display=False)
glue("limits_five", f"{at[0.5]:.0%}", display=False)
glue("limits_half", f"{np.interp(0.5, right, r):.2f}", display=False)

# %% [markdown]
# At three tenths, which is about what published systems reach on this task by face and voice without the words,
# {glue:text}`limits_three` of the picks are right ({numref}`limits-picks`); at five tenths, {glue:text}`limits_five`.
# It takes {glue:text}`limits_half` to be right in every other case. A method that is good science, because it shows
# that there *is* a relation, can be indefensible as a measurement of somebody.
#
# ## What goes wrong otherwise: a score that hides a group
#
# Commercial programs that tell women from men were once found to work nearly perfectly for light-skinned men and to
# fail for up to a third of dark-skinned women, under an overall accuracy that looked fine {cite:p}`buolamwini2018`.
# Nothing in a mean Pearson correlation prevents that. Take a corpus in which nine people out of ten belong to a group
# for which the guess works, and one to a group for which it does not at all.

# %%
people, each = 400, 20
small = np.repeat(np.arange(people) % 10 == 0, each)
y, e = np.random.default_rng(seed).standard_normal((2, people * each))
quality = np.linspace(0, 0.5, 26)
whole, majority = [], []
for works in quality:
    rho = np.where(small, works, 0.5)
    guess = rho * y + np.sqrt(1 - rho**2) * e
    whole.append(pearson(y[:, None], guess[:, None])[0])
    majority.append(pearson(y[~small, None], guess[~small, None])[0])

# %% mystnb={"image": {"alt": "Three lines against the correlation within the small group. The dashed diagonal is that group itself, from nought to a half; the line of the majority is level; the score of everybody together rises only slightly from left to right."}, "figure": {"caption": "The score of everybody together, by how well the guess works for one person in ten.", "name": "limits-group"}}
fig, ax = plt.subplots(figsize=(figures.WIDTH, 2.6))
ax.plot(quality, whole, label="everybody")
ax.plot(quality, majority, ":", label="nine of ten")
ax.plot(quality, quality, "--", label="one of ten")
ax.set(xlabel="correlation within the small group", ylabel="correlation")
fig.legend(loc="outside lower center", ncols=3)
plt.show()

# %% tags=["remove-cell"]
glue("limits_whole", f"{whole[0]:.2f}", display=False)
glue("limits_majority", f"{majority[0]:.2f}", display=False)

# %% [markdown]
# With nothing at all in the small group, the score of everybody is {glue:text}`limits_whole` instead of
# {glue:text}`limits_majority` ({numref}`limits-group`). On a leaderboard nobody would notice. So a group has to be
# looked at by itself, with an interval over *its* people, who are few; and where the data name no groups, as the
# paper's do not, it cannot be done and has to be said. Chapter 2 does it for actors whose sex, age and ethnicity are
# known. The drawn corpus varies skin and faces evenly on purpose, and shows nothing about people, least of all about
# fairness.
#
# ## Consent
#
# The people in the paper's recordings signed that researchers may look at them. That is why the corpus may not be passed
# on, and why this book draws its own. Three things follow for whoever works with such data.
#
# - *Features are not anonymous.* In chapter 7 the nearest neighbour of a clip was the same person far more often than by
#   chance. What tells somebody apart is personal data, pictures or not {cite:p}`gdpr2016`.
# - *A model remembers.* What was fitted on people who later withdraw has to be made again. Each run of this library lists
#   what it was made from.
# - *Agreeing to mimicry is not agreeing to judgement.* Somebody who consents to a study of mimicry has not consented to
#   be scored by an employer with the model that came of it.
#
# ## Law
#
# This is a reader's guide and no legal advice; laws change, and dates with them. In the European Union the AI Act
# {cite:p}`aiact2024` speaks of exactly this kind of program.
#
# - An *emotion recognition system* is one that identifies or infers emotions or intentions of people from their biometric
#   data (Article 3, point 39). A face and a voice are such data.
# - Using one to infer emotions at the workplace or in education is forbidden, unless it is there for medical or safety
#   reasons (Article 5, paragraph 1, point f). This has applied since February 2025.
# - Elsewhere such systems count as high-risk (Annex III, point 1), with duties of documentation, oversight, accuracy and
#   record keeping.
# - Whoever uses one must tell the people exposed to it (Article 50, paragraph 3).
# - What is made and used for scientific research alone is outside its scope (Article 2, paragraph 6). Data protection
#   is not.
#
# This book and its library are for research and teaching. They come with models of drawn faces, which are of no use on
# anybody, and with no model of people.
#
# ## Exercises

# %% [markdown]
# ```{exercise-start} Of those flagged
# :label: limits-exercise-flagged
# ```
# One in ten of a company's callers is in distress. A program flags six of ten of these, and two of ten of the others. Of
# those flagged, what share is in distress?
#
# Give the share: `emibook.check_exercise("17.1", share)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} limits-exercise-flagged
# :class: dropdown
# ```
# Count a thousand callers.

# %%
in_need, others_flagged = 100 * 0.6, 900 * 0.2
share = in_need / (in_need + others_flagged)
emibook.check_exercise("17.1", share)
share

# %% [markdown]
# Three of four who are flagged are not, and four of ten who are in distress are missed.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Which are forbidden?
# :label: limits-exercise-law
# ```
# Which of these does Article 5 (1) (f) of the AI Act forbid? (a) A university studies the mimicry of volunteers who signed.
# (b) A firm scores the enthusiasm of its staff in video calls. (c) A school measures how bored its pupils look. (d) A game
# at home reacts to the joy of the player, who is told. (e) A hospital's system watches over pain in patients who cannot
# speak.
#
# Give the letters as a list: `emibook.check_exercise("17.2", letters)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} limits-exercise-law
# :class: dropdown
# ```
# The article names the workplace and education.

# %%
letters = ["b", "c"]
emibook.check_exercise("17.2", letters)

# %% [markdown]
# (a) is research; (d) is neither place, and has the duties of Annex III and Article 50; (e) is medical. That something is
# not forbidden does not make it work, or right.
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A sheet for a corpus
# :label: limits-exercise-sheet
# ```
# Write the note that should come with a corpus or a model of this kind: `who` is in it; what they were `asked` and agreed
# to; where the `labels` come from; for which `groups` it was tried; what the `use` is; what the likely `misuse`. This one
# is open. Do it for the corpus of this page, or for your own.
#
# Give a dictionary with these six names: `emibook.check_exercise("17.3", sheet)`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} limits-exercise-sheet
# :class: dropdown
# ```
# For the corpus that this book draws:

# %%
sheet = {
    "who": "Nobody: drawn people with made voices, each from random numbers.",
    "asked": "There was nobody to ask, and nobody who could withdraw.",
    "labels": "Votes from a lottery, the likelier the more the drawing was told to show.",
    "groups": "None. Skin is spread evenly, but how a drawing fares says nothing of people.",
    "use": "To learn the method, to test the code, and to rehearse the tables.",
    "misuse": "To report what was trained on it as if it read the faces of people.",
}
emibook.check_exercise("17.3", sheet)

# %% [markdown]
# The check only asks that nothing is left out. Whether the sheet is honest, ask somebody whom the corpus shows.
# ```{solution-end}
# ```

# %% [markdown]
# ## What you can do now
#
# You have
#
# - seen panels of a few people agree with each other by {glue:text}`limits_votes`, and what that caps;
# - turned three tenths into {glue:text}`limits_three` right picks;
# - hidden a group behind a score that hardly moved;
# - read five rules of one law, and what this book is for;
# - filled in a sheet that should come with every corpus.
#
# ## Sources
#
# The paper, section 1 {cite:p}`yu2024`; faces and emotions {cite:p}`barrett2019`; groups {cite:p}`buolamwini2018`; the
# field's ethics {cite:p}`stark2021`; the AI Act {cite:p}`aiact2024` and the General Data Protection Regulation
# {cite:p}`gdpr2016`.
#
# ## How long it takes

# %% tags=["remove-cell"]
glue("page_seconds", round(time.perf_counter() - started), display=False)

# %% [markdown]
# This page took {glue:text}`page_seconds` seconds where it was made, with its corpus there already.
