"""Reading the world out of finished clips: what is in the frames, and when something visibly happens."""
