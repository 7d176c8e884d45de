"""The rows of the paper's tables as runs: variants, runs, their scores, and Tables 2 and 3."""
