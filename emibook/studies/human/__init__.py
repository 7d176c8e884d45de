"""What human raters tell: how well their labels could be predicted at all, and how well people predict each other."""
