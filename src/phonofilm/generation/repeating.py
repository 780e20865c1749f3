"""The options that make a clip again, from the clip itself."""

from __future__ import annotations

from pathlib import Path

from phonofilm.generation.latent_files import is_latents, read_latent_metadata
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.provenance import Provenance, read_provenance
from phonofilm.media import Clip, read_metadata


def provenance_of(clip: Clip | Path, again: ClipOptions) -> Provenance:
    """How a clip, as an object or on disk, was made; `again`: the options given besides, which replace what they say.

    Raises MediaError for a clip that carries no settings of ours, InputError when an input is not found or not the file it was.
    """
    if isinstance(clip, Clip):
        return read_provenance(clip.metadata, Path("the clip"), again)
    metadata = read_latent_metadata(clip) if is_latents(clip) else read_metadata(clip)
    return read_provenance(metadata, clip, again)
