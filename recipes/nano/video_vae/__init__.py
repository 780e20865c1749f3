"""The video autoencoder: its sizes, its training, and what it keeps of a clip."""
