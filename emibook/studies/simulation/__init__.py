"""Simulated features whose best predictor is known: how they are simulated, and what is attainable with them."""
