"""Help with writing: an idea rewritten into a prompt, and a first frame drawn from text. Optional; other models do it."""
