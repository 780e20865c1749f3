"""An example of every JSON body and answer of the API, by operation id, for its description. The studio's: studio/examples.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VIDEO = "video_5e1f0c9ad0b34c3c8f6d2a7be41907c3"
CONTENT = f"http://127.0.0.1:8000/v1/videos/{VIDEO}/content"


@dataclass(frozen=True)
class Example:
    """What is sent to a route as JSON, and what it answers; None where that is no JSON, or stands elsewhere."""

    request: Mapping[str, Any] | None = None
    answer: Mapping[str, Any] | None = None


QUEUED: dict[str, Any] = {
    "id": VIDEO, "object": "video", "model": "nano", "status": "queued", "progress": 0, "created_at": 1795891727,
    "completed_at": None, "expires_at": None, "size": "64x64", "seconds": "2.04167",
    "prompt": "A red ball bounces on a wooden floor.", "error": None, "remixed_from_video_id": None, "quality": "standard",
    "num_outputs": 1, "file_path": None, "file_paths": None, "url": None, "urls": [], "inference_time_s": None,
    "peak_memory_mb": None, "revised_prompt": None, "seed": 1, "seeds": [1], "priority": 0, "stage": None, "step": 0, "steps": 0,
    "warnings": [],
}  # fmt: skip
RUNNING: dict[str, Any] = {
    **QUEUED, "status": "in_progress", "progress": 49, "stage": "sampling", "step": 2, "steps": 4,
}  # fmt: skip
COMPLETED: dict[str, Any] = {
    **QUEUED, "status": "completed", "progress": 100, "completed_at": 1795891733, "expires_at": 1796496533, "url": CONTENT,
    "urls": [CONTENT], "inference_time_s": 5.218, "peak_memory_mb": 812.4, "step": 4, "steps": 4,
}  # fmt: skip
CANCELLED: dict[str, Any] = {**QUEUED, "status": "cancelled", "completed_at": 1795891730}
EDITED: dict[str, Any] = {**QUEUED, "prompt": "A blue ball bounces on a wooden floor.", "priority": 5}
REMIXED: dict[str, Any] = {
    **QUEUED, "id": "video_0b7c2f5d9e6148aa93c1d4e8f7026b35", "prompt": "A yellow lamp blinks and beeps.",
    "remixed_from_video_id": VIDEO,
}  # fmt: skip
FACTS = {
    "height": 64, "width": 64, "num_frames": 49, "fps": "24", "spatial_factor": 8, "temporal_factor": 4, "patch": 2, "steps": 4,
    "defaults": {"height": 64, "width": 64, "num_frames": 49, "fps": "24", "steps": 4},
}  # fmt: skip
NANO = {"id": "nano", "object": "model", "created": 0, "owned_by": "phonofilm", "loaded": True, "sizes": FACTS}
LORAS = {"available": ["fast", "night"], "loaded": ["fast:0.5"]}


def _page(*videos: Mapping[str, Any]) -> dict[str, Any]:
    """A page of jobs that is the last one."""
    first, last = videos[0]["id"], videos[-1]["id"]
    return {"object": "list", "data": list(videos), "first_id": first, "last_id": last, "has_more": False}


EXAMPLES = {
    "createVideo": Example(answer=QUEUED),
    "listVideos": Example(answer=_page(REMIXED, COMPLETED)),
    "editVideo": Example(answer=QUEUED),
    "extendVideo": Example(answer=QUEUED),
    "remixVideo": Example({"prompt": REMIXED["prompt"]}, REMIXED),
    "listQueue": Example(answer=_page(QUEUED)),
    "getVideo": Example(answer=COMPLETED),
    "changeVideo": Example({"prompt": EDITED["prompt"], "priority": 5}, EDITED),
    "deleteVideo": Example(answer={"id": VIDEO, "object": "video.deleted", "deleted": True}),
    "moveVideo": Example({"index": 0}, _page(QUEUED)),
    "cancelVideo": Example(answer=CANCELLED),
    "listModels": Example(answer={"object": "list", "data": [NANO]}),
    "getModel": Example(answer=NANO),
    "listLoras": Example(answer=LORAS),
    "setLora": Example({"lora_nickname": ["fast"], "strength": [0.5]}, LORAS),
    "unsetLora": Example(answer={**LORAS, "loaded": []}),
    "liveness": Example(answer={"status": "ok"}),
    "health": Example(answer={"status": "ok", "workers": 1, "reason": None}),
}
