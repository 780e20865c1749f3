"""The list of nodes that ComfyUI asks for."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import loading, making


class PhonofilmExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [*loading.NODES, *making.NODES]


async def comfy_entrypoint() -> PhonofilmExtension:
    return PhonofilmExtension()
