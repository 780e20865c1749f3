"""A browser, and a server where nobody works, for tests of the studio's page."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn
from tests.browser import chromium
from tests.unit.serving_helpers import services_in

from phonofilm.serving.api.app import create_app
from phonofilm.serving.api.services import Services

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Services]]:
    """A server on a free port of this machine."""
    services = services_in(tmp_path)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()  # who comes before the server is up, waits
        server = uvicorn.Server(uvicorn.Config(create_app(services), log_config=None, lifespan="off"))
        serving = threading.Thread(target=server.run, args=([listening],), daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", services
        services.closing.set()
        server.should_exit = True
        serving.join()
