"""The audio autoencoder: the sounds it learns from, its two trainings, and what it keeps of a sound."""
