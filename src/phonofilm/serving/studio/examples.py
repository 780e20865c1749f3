"""An example of every JSON body and answer of the studio's routes, by operation id, as api/examples.py has of the others."""

from __future__ import annotations

from typing import Any

from phonofilm.serving.api.examples import COMPLETED, FACTS, QUEUED, RUNNING, VIDEO, Example

CLIP_ID = f"{VIDEO}_0"
HERE, FILES = f"/v1/studio/clips/{CLIP_ID}", f"/v1/videos/{VIDEO}/content?index=0"
CLIP: dict[str, Any] = {
    "id": CLIP_ID, "job_id": VIDEO, "index": 0, "set_size": 1, "model": "nano", "title": "First bounce",
    "prompt": "A red ball bounces on a wooden floor.", "revised_prompt": None, "seed": 1, "created_at": 1795891733.2,
    "expires_at": 1796496533.2, "trashed_at": None, "purge_at": None, "size": "64x64", "width": 64, "height": 64,
    "seconds": 2.041667, "fps": 24.0, "num_frames": 49, "steps": 4, "has_sound": True, "nbytes": 61234, "favourite": True,
    "folder": "Balls", "tags": ["best"], "imported": False, "remixed_from": None, "origin": None, "video_url": FILES,
    "thumbnail_url": f"{FILES}&variant=thumbnail", "spritesheet_url": f"{FILES}&variant=spritesheet",
    "sound_url": f"{HERE}/sound", "settings_url": f"{HERE}/settings", "frame_url": f"{HERE}/frame",
}  # fmt: skip
IN_TRASH: dict[str, Any] = {**CLIP, "trashed_at": 1795895333.0, "purge_at": 1796500133.0}
REQUEST = {"prompt": CLIP["prompt"], "seconds": 2.0, "steps": 4, "model": "nano", "seed": 1}
OF_A_JOB: dict[str, Any] = {
    "task": "create", "place": None, "eta_seconds": None, "preview_url": None, "clip_ids": [], "origin": None,
    "imported": False, "request": REQUEST, "inputs": [],
}  # fmt: skip
WAITING_JOB: dict[str, Any] = {**QUEUED, **OF_A_JOB, "place": 0}
RUNNING_JOB: dict[str, Any] = {
    **RUNNING, **OF_A_JOB, "eta_seconds": 2.6, "preview_url": f"/v1/videos/{VIDEO}/content?variant=preview&step=2",
}  # fmt: skip
ENDED_JOB: dict[str, Any] = {**COMPLETED, **OF_A_JOB, "clip_ids": [CLIP_ID]}
VARIATION: dict[str, Any] = {
    **WAITING_JOB, "remixed_from_video_id": VIDEO, "seed": 714083021, "seeds": [714083021], "place": None,
    "origin": {"way": "variation", "clip": CLIP_ID}, "request": {**REQUEST, "seed": 714083021},
}  # fmt: skip
SESSION = {"needs_key": True, "signed_in": True, "can_read": True, "can_write": True, "can_administer": False}
SIGNED_OUT = {"needs_key": True, "signed_in": False, "can_read": False, "can_write": False, "can_administer": False}
INFO: dict[str, Any] = {
    "version": "0.1.0", "command": "phonofilm serve", "started_at": 1767225600.0, "page": "7c1f0b2a",
    "models": [{"id": "nano", "loaded": True, "embedded": True, "sizes": FACTS}],
    "loras": ["fast", "night"],
    "limits": {
        "max_seconds": 60.0, "max_steps": 200, "max_side": 2048, "max_clips": 8, "max_prompt_characters": 10000,
        "max_upload_bytes": 268435456,
    },
    "features": {
        "enhance_prompt": False, "draw_first_frame": False, "urls": False, "import_folders": True, "runs": True, "lag": True,
    },
    "workers": [{"state": "ready", "models": ["nano"], "memory": 851968000.0}], "trash_days": 7.0, "keep_days": 7.0,
}  # fmt: skip
VOCABULARY = {
    "embedded": True, "words": ["ball", "bounces", "red"],
    "groups": [{"name": "What is seen", "words": ["ball"]}], "scenes": ["A red ball bounces on a wooden floor."],
    "prompts": ["A yellow lamp blinks and beeps."],
}  # fmt: skip
PLAN: dict[str, Any] = {
    "possible": True, "refused": [], "line": "64x64, 49 frames at 24 fps (2.04 s), 4 steps",
    "clip": {
        "width": 64, "height": 64, "num_frames": 49, "fps": 24.0, "seconds": 2.041667, "steps": 4, "forwards": 4, "parts": 1,
    },
    "seconds": 5.2, "seconds_basis": "measured", "queue_seconds": 0.0, "waiting_seconds": 0.0,
    "memory": {
        "weights_bytes": 92274688, "peak_bytes": 201326592, "host_bytes": 201326592, "available_bytes": 8589934592,
        "where": "host", "text": None,
    },
    "warnings": [], "unknown_words": [], "suggestions": [],
}  # fmt: skip
TIMELINE: dict[str, Any] = {
    "seconds": 2.041667, "fps": 24.0, "num_frames": 49, "width": 64, "height": 64, "sampling_rate": 48000,
    "peaks": {"per_second": 2.0, "channels": [{"low": [-0.02, -0.61, -0.4, -0.1], "high": [0.03, 0.58, 0.41, 0.09]}]},
    "spectrogram": {
        "url": f"{HERE}/spectrogram", "width": 204, "height": 128, "seconds": 2.041667, "lowest_hz": 30.0,
        "highest_hz": 16000.0, "range_db": 80.0,
    },
    "heard": [0.54, 1.12], "seen": [0.5417, 1.125], "impact": [0.0, 0.0, 0.94, 0.02],
    "lag": {
        "milliseconds": 4.2, "significance": 0.001, "reason": "2 of 2 sounds fall on what is seen",
        "curve": {"seconds": [-0.1, 0.0, 0.1], "correlation": [0.05, 0.83, 0.04]},
    },
}  # fmt: skip
SETTINGS: dict[str, Any] = {
    "task": "create", "url": "/v1/videos", "request": REQUEST, "inputs": [], "missing": [],
    "recorded": {"prompt": CLIP["prompt"], "seed": 1, "steps": 4, "model": "nano"},
}  # fmt: skip
SHELVES: dict[str, Any] = {
    "total": 12, "favourites": 3, "trashed": 1, "bytes": 734208, "tags": [{"name": "best", "count": 4}],
    "folders": [{"name": "Balls", "count": 7}], "models": [{"name": "nano", "count": 12}],
}  # fmt: skip
IMPORTABLE: dict[str, Any] = {
    "id": "films/harbour.mp4", "name": "harbour.mp4", "nbytes": 4821337, "modified_at": 1795800000.0, "imported": False,
}  # fmt: skip
IMPORTED: dict[str, Any] = {
    "data": [{**CLIP, "title": "harbour", "model": "unknown", "seed": None, "imported": True}], "known": [],
    "refused": [{"name": "notes.txt", "message": "notes.txt is no clip that can be read"}],
}  # fmt: skip
PAIR_KEY = "3f6d2a7be41907c35e1f0c9ad0b34c3c8f6d2a7be41907c35e1f0c9ad0b34c3c"
PAIR: dict[str, Any] = {
    "key": PAIR_KEY, "prompt": CLIP["prompt"], "left_url": f"/v1/studio/arena/pairs/{PAIR_KEY}/left",
    "right_url": f"/v1/studio/arena/pairs/{PAIR_KEY}/right", "voted": 5, "pairs": 21,
}  # fmt: skip
REVEAL = {"left": {"name": "nano", "clip": CLIP}, "right": {"name": "360p", "clip": None}}
STANDINGS: dict[str, Any] = {
    "question": "sync",
    "ratings": [
        {"model": "360p", "elo": 1031.0, "bradley_terry": 1042.7, "low": 988.1, "high": 1110.4, "votes": 14},
        {"model": "nano", "elo": 969.0, "bradley_terry": 957.3, "low": 889.6, "high": 1011.9, "votes": 14},
    ],
    "win_shares": [{"model": "360p", "opponent": "nano", "win": 0.571, "tie": 0.143, "lose": 0.286, "votes": 14}],
}  # fmt: skip
RUN: dict[str, Any] = {
    "id": "b2f1c0", "name": "owl", "folder": "runs", "state": "running", "step": 400, "steps": 2000, "seconds": 1312.5,
    "eta_seconds": 5250.0, "updated_at": 1795891700.0, "metrics": ["loss", "loss_audio"], "checkpoints": [200, 400],
    "lora": "runs/owl/lora.safetensors", "validated_on": "other", "can_stop": True,
}  # fmt: skip
RUN_DETAILS: dict[str, Any] = {
    "run": RUN, "curves": [{"name": "loss_audio", "modality": "audio", "points": [[200, 655.1, 0.71], [400, 1311.9, 0.58]]}],
    "samples": [
        {
            "step": 400, "name": "owl", "prompt": "A red owl hoots.", "video_url": "/v1/studio/runs/b2f1c0/samples/400/owl/video",
            "sheet_url": "/v1/studio/runs/b2f1c0/samples/400/owl/sheet",
        }
    ],
}  # fmt: skip
IDS = {"ids": [CLIP_ID]}
STUDIO_EXAMPLES = {
    "getSession": Example(answer=SESSION),
    "signIn": Example({"key": "phonofilm_..."}, SESSION),
    "signOut": Example(answer=SIGNED_OUT),
    "getStudioInfo": Example(answer=INFO),
    "getVocabulary": Example(answer=VOCABULARY),
    "planClip": Example(answer=PLAN),
    "listClips": Example(answer={"data": [CLIP], "next_cursor": None, "total": 1}),
    "getShelves": Example(answer=SHELVES),
    "getClip": Example(answer=CLIP),
    "changeClip": Example({"title": "First bounce", "favourite": True, "folder": "Balls", "tags": ["best"]}, CLIP),
    "changeClips": Example({**IDS, "folder": "Balls", "add_tags": ["best"]}, {"data": [CLIP]}),
    "trashClips": Example(IDS, {"data": [IN_TRASH]}),
    "restoreClips": Example(IDS, {"data": [CLIP]}),
    "purgeClips": Example(IDS, {"purged": 1}),
    "makeVariations": Example({"count": 1, "changes": {"num_inference_steps": 4}}, {"data": [VARIATION]}),
    "getClipSettings": Example(answer=SETTINGS),
    "getTimeline": Example(answer=TIMELINE),
    "listStudioJobs": Example(answer={"running": [RUNNING_JOB], "waiting": [WAITING_JOB], "ended": [ENDED_JOB]}),
    "retryJob": Example(answer=WAITING_JOB),
    "dismissJob": Example(answer=ENDED_JOB),
    "listImportable": Example(answer={"folders": [{"name": "films", "files": [IMPORTABLE]}]}),
    "importClips": Example(answer=IMPORTED),
    "importFromFolder": Example({"ids": [IMPORTABLE["id"]]}, IMPORTED),
    "getArena": Example(
        answer={"by": "model", "contestants": [{"name": "360p", "clips": 21}], "pairs": 21, "voted": 5}
    ),
    "nextPair": Example({"by": "model"}, PAIR),
    "votePair": Example({"answers": {"sync": "left", "overall": "tie"}}, REVEAL),
    "getStandings": Example(answer=STANDINGS),
    "listRuns": Example(answer={"data": [RUN]}),
    "getRun": Example(answer=RUN_DETAILS),
    "stopRun": Example(answer={**RUN, "state": "stopping"}),
    "uploadFile": Example(answer={"id": "upload_5e1f0c9ad0b34c3c_8f6d2a7be41907c35e1f0c9ad0b34c3c"}),
    "writePrompt": Example(
        {"prompt": "a red ball"}, {"prompt": "A red ball drops onto a wooden floor and bounces twice with dull thuds."}
    ),
}
