"""Drawn people with made voices, the corpus of clips that they make, and the encoders that are fitted on them.

``renderer`` draws a frame from action units, ``voice`` makes a sound, ``corpus`` writes clips in the layout of
Hume-Vidmimic2, ``builtin`` fits encoders on the pictures of ``stills``.
"""
