"""LoRA files: every layout that exists for MOVA read into one form, written from it, and merged into a model's weights."""
