"""Reading what a model made of the world from its frames and its sound, and the reports about it."""
