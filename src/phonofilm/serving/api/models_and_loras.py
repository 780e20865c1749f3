"""Routes about models and LoRAs: which there are, and which LoRAs every request gets that names none."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from phonofilm.serving.api.answers import ERRORS
from phonofilm.serving.api.creating import LORA_SETTING
from phonofilm.serving.api.errors import ApiError, invalid
from phonofilm.serving.api.fields import SET_LORA_FORMS, LoraFields
from phonofilm.serving.api.lora_names import loras_of
from phonofilm.serving.api.services import MayAdminister, MayRead, Services, ServicesOf
from phonofilm.serving.jobs.roster import living_workers, read_setting, write_setting
from phonofilm.untrusted import shown

router = APIRouter(tags=["models"], responses=ERRORS)


class ModelObject(BaseModel):
    """A model. `sizes`: those of a clip with no options set, once a worker has opened it."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: str = "model"
    created: int = 0
    owned_by: str = "phonofilm"
    loaded: bool = False
    sizes: dict[str, Any] | None = None


class ModelList(BaseModel):
    """All models."""

    object: str = "list"
    data: list[ModelObject]


class LoraState(BaseModel):
    """The LoRAs that are offered, and those that requests get which name none."""

    available: list[str]
    loaded: list[str]


@router.get("/v1/models", operation_id="listModels")
def list_models(services: ServicesOf, access: MayRead) -> ModelList:
    """The models that this server makes clips with."""
    return ModelList(data=[_model(services, name) for name in services.worker.models])


@router.get("/v1/models/{model_id:path}", operation_id="getModel")
def get_model(model_id: str, services: ServicesOf, access: MayRead) -> ModelObject:
    """One model."""
    if model_id not in services.worker.models:
        raise ApiError(404, f"the model {shown(model_id)!r} is not served here", "model_not_found", param="model_id")
    return _model(services, model_id)


@router.get("/v1/list_loras", operation_id="listLoras")
def list_loras(services: ServicesOf, access: MayRead) -> LoraState:
    """The LoRAs that requests may name, and those that are set."""
    return LoraState(available=list(services.worker.loras), loaded=read_setting(services.database, LORA_SETTING) or [])


@router.post("/v1/set_lora", operation_id="setLora")
def set_lora(fields: LoraFields, services: ServicesOf, access: MayAdminister) -> LoraState:
    """Set the LoRAs of all requests from now on that name none. Clips that wait already are made with what they have."""
    names, strengths = _listed(fields.lora_nickname), _listed(fields.strength)
    for path, name in zip(_listed(fields.lora_path), names, strict=False):
        if path not in (name, services.worker.loras.get(name)):
            raise invalid("lora_path: paths are not taken over HTTP; name a LoRA of /v1/list_loras", "lora_path")
    if any(target != "all" for target in _listed(fields.target)):
        raise invalid(f"target: expected {SET_LORA_FORMS['target']}", "target")
    if len(strengths) > 1 and len(strengths) != len(names):
        raise invalid(f"{len(strengths)} strengths for {len(names)} LoRAs", "strength")
    each = strengths * len(names) if len(strengths) == 1 else strengths or [None] * len(names)
    texts = [name if strength is None else f"{name}:{strength:g}" for name, strength in zip(names, each, strict=True)]
    write_setting(services.database, LORA_SETTING, loras_of(texts, services.worker.loras))
    return list_loras(services, access)


@router.post("/v1/unmerge_lora_weights", operation_id="unsetLora")
def unset_lora(services: ServicesOf, access: MayAdminister) -> LoraState:
    """Requests that name no LoRA get none."""
    write_setting(services.database, LORA_SETTING, None)
    return list_loras(services, access)


def _model(services: Services, name: str) -> ModelObject:
    loaded = any(name in worker["models"][:1] for worker in living_workers(services.database))
    return ModelObject(id=name, loaded=loaded, sizes=services.facts(name))


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
