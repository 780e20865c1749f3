"""The embedded model: its weights, and the world it learnt from. How it was trained and is measured: recipes/nano."""
