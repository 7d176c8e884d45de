"""What can be known without the licensed data: human raters, simulated features, the rehearsal at full size."""
