"""What a command and a server refuse before they know a model."""

from __future__ import annotations

import math

import pytest

from phonofilm.errors import InputError
from phonofilm.generation.options import ClipOptions
from phonofilm.generation.preflight import check_words
from phonofilm.pipeline.sampling_limits import SOLVER_NAMES
from phonofilm.pipeline.solvers import SOLVERS


def test_every_solver_is_known_without_the_solvers() -> None:
    assert tuple(SOLVERS) == SOLVER_NAMES


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (ClipOptions(guidance_scale=1e308), "guidance_scale 1e[+]308 is outside -1000 to 1000; use for example 5"),
        (ClipOptions(video_shift=math.nan), "video_shift nan is outside 0.001 to 1000"),
        (ClipOptions(modality_scale="2,inf"), "modality_scale inf is outside"),
        (ClipOptions(boundary_ratio=-1.0), "boundary_ratio -1 is outside 0 to 1; use for example 0.9"),
        (ClipOptions(solver="x"), "solver 'x' is unknown"),
    ],
)
def test_settings_that_can_never_work_are_refused_before_pytorch_is_imported(options: ClipOptions, said: str) -> None:
    check_words(ClipOptions(guidance_scale=1000.0, video_shift=0.001, modality_scale="0", boundary_ratio=0.0))
    with pytest.raises(InputError, match=said):
        check_words(options)
