"""Reading, writing and measuring pictures, sounds and clips. libav and Pillow are imported on first use, not here."""

from phonofilm.media.clip import Clip
from phonofilm.media.clip_checks import ContainerReport, check_container
from phonofilm.media.images import fit_image, load_image
from phonofilm.media.metadata import read_metadata
from phonofilm.media.read import read_clip
from phonofilm.media.sheet import contact_sheet
from phonofilm.media.sound import read_audio
from phonofilm.media.write import save_clip

__all__ = [
    "Clip",
    "ContainerReport",
    "check_container",
    "contact_sheet",
    "fit_image",
    "load_image",
    "read_audio",
    "read_clip",
    "read_metadata",
    "save_clip",
]
