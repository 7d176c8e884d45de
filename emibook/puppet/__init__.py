"""The puppet: drawn people with synthetic voices, the corpus of their clips, and the encoders fitted on them.

``renderer`` draws a frame from action units, ``voice`` synthesises speech-like sound, ``corpus`` writes clips
in the layout of Hume-Vidmimic2, ``builtin`` fits encoders on the pictures of ``stills``.
"""
