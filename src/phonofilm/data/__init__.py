"""Clips of the reader's own on their way into training: manifest, windows, doctor, latent cache. No network trains here."""
