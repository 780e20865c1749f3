"""Phonofilm's nodes for ComfyUI, which asks this module for `comfy_entrypoint`."""

from .nodes.extension import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
