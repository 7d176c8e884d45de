"""Simulated features whose best predictor is known: how they are drawn, and what is attainable with them."""
