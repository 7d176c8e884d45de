"""Feature sequences and labels on one clock, as a training reads them.

``load`` reads what was extracted of a corpus, ``timeline`` says which steps a sequence has, ``packed`` is their file.
"""
