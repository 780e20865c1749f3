"""Recipes of models, beside the installed package: run from a checkout of the repository."""
