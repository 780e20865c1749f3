"""Phonofilm's nodes for ComfyUI, which asks this module for `comfy_entrypoint`."""

from .missing import what_is_missing

try:
    from .nodes.extension import comfy_entrypoint
except Exception as error:  # any: a package that does not fit fails at import in its own way
    raise ImportError(what_is_missing(error)) from error

__all__ = ["comfy_entrypoint"]
