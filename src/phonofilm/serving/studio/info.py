"""Routes that say what this server has: models, limits, workers; and the words that a model knows."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from phonofilm import __version__
from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.services import MayRead, ServicesOf
from phonofilm.serving.api.translate import model_named
from phonofilm.serving.library.changes import TRASH_SECONDS
from phonofilm.serving.settings import DAY
from phonofilm.serving.studio.events import workers_of
from phonofilm.serving.studio.objects import StudioWorker
from phonofilm.serving.studio.page import page_version

router = APIRouter(tags=["studio"], responses=ERRORS)
EMBEDDED = "nano"


class StudioModel(BaseModel):
    """A model. embedded: the small one that comes with the package; sizes: once a worker has opened it."""

    id: str
    loaded: bool
    embedded: bool
    sizes: dict[str, Any] | None


class StudioLimits(BaseModel):
    """What one request may ask for."""

    max_seconds: float
    max_steps: int
    max_side: int
    max_clips: int
    max_prompt_characters: int
    max_upload_bytes: int


class StudioFeatures(BaseModel):
    """What is offered here beside making clips. lag: the package that sees impacts is installed."""

    enhance_prompt: bool
    draw_first_frame: bool
    urls: bool
    import_folders: bool
    runs: bool
    lag: bool


class StudioInfo(BaseModel):
    """Everything that the page asks once.

    command: what starts such a server; page: changes with the page's files; keep_days: None where clips are kept for ever;
    started_at: of the server, in seconds since 1970.
    """

    version: str
    command: str
    started_at: float
    page: str | None
    models: list[StudioModel]
    loras: list[str]
    limits: StudioLimits
    features: StudioFeatures
    workers: list[StudioWorker]
    trash_days: float
    keep_days: float | None


class WordGroup(BaseModel):
    """Words that are looked for together."""

    name: str
    words: list[str]


class VocabularyAnswer(BaseModel):
    """The words that the embedded model knows, and the same in groups; for any other model, prompts to begin with."""

    embedded: bool
    words: list[str]
    groups: list[WordGroup]
    scenes: list[str]
    prompts: list[str]


@router.get("/v1/studio/info", operation_id="getStudioInfo")
def get_info(services: ServicesOf, access: MayRead) -> StudioInfo:
    """What there is."""
    workers, settings, limits = workers_of(services), services.worker, services.worker.limits
    models = [
        StudioModel(
            id=name,
            loaded=any(name in worker.models[:1] for worker in workers),
            embedded=source == EMBEDDED,
            sizes=services.facts(name),
        )
        for name, source in settings.models.items()
    ]
    return StudioInfo(
        version=__version__,
        command=services.api.command,
        started_at=services.started_at,
        page=page_version(),
        models=models,
        loras=list(settings.loras),
        limits=StudioLimits(**{name: getattr(limits, name) for name in StudioLimits.model_fields}),
        features=StudioFeatures(
            enhance_prompt=settings.writing is not None,
            draw_first_frame=settings.first_frames is not None and settings.engine is None,
            urls=settings.allow_urls,
            import_folders=bool(services.api.imports),
            runs=bool(services.api.runs),
            lag=find_spec("cv2") is not None,
        ),
        workers=workers,
        trash_days=TRASH_SECONDS / DAY,
        keep_days=None if settings.keep is None else settings.keep / DAY,
    )


@router.get("/v1/studio/vocabulary", operation_id="getVocabulary")
def get_vocabulary(
    services: ServicesOf, access: MayRead, model: Annotated[str | None, Query(max_length=200)] = None
) -> VocabularyAnswer:
    """The words to write a prompt with."""
    from phonofilm.generation.known_prompts import PROMPTS, SCENES
    from phonofilm.generation.known_words import grouped_words, known_words

    if services.worker.models[model_named(model, services.worker.models)] != EMBEDDED:
        return VocabularyAnswer(embedded=False, words=[], groups=[], scenes=[], prompts=list(PROMPTS))
    groups = [WordGroup(name=name, words=words) for name, words in grouped_words().items()]
    return VocabularyAnswer(
        embedded=True, words=known_words(), groups=groups, scenes=SCENES.split(", "), prompts=list(PROMPTS)
    )
