"""How a branch is trained: ``loop``, its ``losses`` and ``optimizer``, and the ``checkpoint`` from which it resumes."""
