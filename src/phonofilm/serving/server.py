"""A server from its settings: the socket, the tables, the workers, the app; until it is asked to stop."""

from __future__ import annotations

import gc
import ipaddress
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import uvicorn
from starlette.types import ASGIApp

from phonofilm.errors import InputError
from phonofilm.serving.api.app import create_app
from phonofilm.serving.api.services import ApiSettings, Services
from phonofilm.serving.api.warm_up import warm_up
from phonofilm.serving.callbacks import Callbacks
from phonofilm.serving.cluster.ray_cluster import ClusterSettings
from phonofilm.serving.cluster.ray_workers import RayWorkers
from phonofilm.serving.database.engines import Database
from phonofilm.serving.database.migrate import START_PATIENCE, open_migrated
from phonofilm.serving.housekeeping import Housekeeping
from phonofilm.serving.logs import log_to_stderr
from phonofilm.serving.security.api_keys import has_keys
from phonofilm.serving.security.callback_hosts import hosts_from_environment
from phonofilm.serving.security.callback_signing import key_from_environment
from phonofilm.serving.security.public_http import PublicHttp
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.side_process import SideProcessError
from phonofilm.serving.slow_clients import HurriedProtocol
from phonofilm.serving.store.belonging import require_own_store
from phonofilm.serving.store.interface import open_store
from phonofilm.serving.studio.plan_work import get_ready
from phonofilm.serving.worker.supervisor import WORKER_COMMAND, WorkerProcesses

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 1000
CLOSING_SECONDS = 5
# How long a thread keeps the interpreter from the one that answers, in seconds. Python's 0.005 adds up: an answer gives the
# interpreter up at every system call, and beside threads that enter jobs it would wait as long each time.
SWITCH_SECONDS = 0.0005


@dataclass(frozen=True)
class ServerSettings:
    """Where to listen, how many worker processes to start (none where `phonofilm worker` runs elsewhere), and the rest.

    cluster: Ray places the workers, instead of `workers` processes of this machine.
    """

    worker: WorkerSettings
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    api: ApiSettings = field(default_factory=ApiSettings)
    plans_soon: bool = False
    """Start the process that plans clips at once, as a page will ask it."""
    worker_command: tuple[str, ...] = WORKER_COMMAND
    cluster: ClusterSettings | None = None


def serve_until_stopped(settings: ServerSettings, on_listening: Callable[[str], None] | None = None) -> int:
    """Serve until SIGTERM or Ctrl-C; returns the exit code. `on_listening` is called once with the server's address.

    Raises InputError for a port that is taken, an address beyond this machine without any key, a database or a store that
    cannot be used, or what is set for callbacks; PhonofilmError for a database that does not come up.
    """
    callback_key = key_from_environment() if settings.api.allow_callbacks else None
    callback_hosts = hosts_from_environment()
    _check_devices(settings)
    log_to_stderr(settings.worker.log_json)
    sys.setswitchinterval(SWITCH_SECONDS)
    database = open_migrated(settings.worker.database_url, START_PATIENCE)
    _check_address(settings.host, database)
    store = open_store(settings.worker.store)
    require_own_store(database, store, settings.worker.store)
    listening = _listen(settings.host, settings.port)
    own_names = {settings.host.lower(), f"[{settings.host}]"} if settings.host not in ("0.0.0.0", "::") else set()
    api = replace(settings.api, hosts=(*settings.api.hosts, *own_names), callback_hosts=callback_hosts)
    services = Services(database, store, settings.worker, api)
    app = create_app(services)
    warm_up(app)
    server = _Server(uvicorn_config(app), services.closing)
    # What was imported and built stays: a full collection that looks at it again holds up every answer for 150 ms.
    gc.collect()
    gc.freeze()
    hopeless = threading.Event()

    def give_up() -> None:
        hopeless.set()
        server.should_exit = True

    workers = _workers(settings, database, give_up)
    services.workers_come = lambda: workers.are_coming
    services.workers_come_with_jobs = lambda: workers.come_with_jobs
    callbacks = None if callback_key is None else Callbacks(database, callback_key, PublicHttp(trusted=callback_hosts))
    housekeeping = Housekeeping(database, store, settings.worker.keep, callbacks)
    workers.start()
    housekeeping.start()
    if settings.plans_soon:
        threading.Thread(target=_prepare_to_plan, args=(services,), name="planner", daemon=True).start()
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{listening.getsockname()[1]}"
    logger.info("listening on %s", address)
    if on_listening is not None:
        on_listening(address)
    try:
        server.run(sockets=[listening])
    finally:
        logger.info("stopping: a running clip has %.0f s; a second Ctrl-C puts it back at once", settings.worker.grace)
        workers.stop()
        housekeeping.stop()
        services.close()
        database.close()
    if hopeless.is_set():
        logger.error("the worker cannot start; see above")
    return 1 if hopeless.is_set() else 0


def _prepare_to_plan(services: Services) -> None:
    """Let the planner import PyTorch before the first question comes."""
    try:
        services.planner.run(get_ready)
    except SideProcessError as error:
        logger.warning("the planner is not ready: %s", error)


class _Server(uvicorn.Server):
    """uvicorn's server, which tells streams that it closes."""

    def __init__(self, config: uvicorn.Config, closing: threading.Event) -> None:
        super().__init__(config)
        self.closing = closing

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end the server; unlike uvicorn's own, they are not raised once more when it has ended."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.closing.set()
        await super().shutdown(sockets)


def uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    """How connections are served: how many, how long they may be idle, how large a request's head may be."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
        http=HurriedProtocol,
        h11_max_incomplete_event_size=32_768,
    )


def _workers(settings: ServerSettings, database: Database, give_up: Callable[[], None]) -> WorkerProcesses | RayWorkers:
    if settings.cluster is None:
        return WorkerProcesses(settings.worker, database, settings.workers, give_up, settings.worker_command)
    return RayWorkers(settings.worker, database, settings.cluster, give_up)


def _check_devices(settings: ServerSettings) -> None:
    """Raises InputError for several workers of this machine that would have the same GPUs."""
    hardware = settings.worker.hardware
    if settings.cluster is None and settings.workers > 1 and hardware.gpus > 1 and hardware.device != "cpu":
        raise InputError(
            f"{settings.workers} workers would share GPUs 0 to {hardware.gpus - 1}: use --workers 0, and start phonofilm "
            "worker for each group with CUDA_VISIBLE_DEVICES; or use --ray"
        )


def _check_address(host: str, database: Database) -> None:
    """Raises InputError for an address that others can reach while no key was made."""
    if not _is_loopback(host) and not has_keys(database):
        raise InputError(
            f"listening on {host} lets other machines in, and there is no key yet: make one with "
            "`phonofilm serve keys create NAME`, or leave --host out"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nobody listens on a port of this machine."""
    try:
        _listen(host, port).close()
    except InputError:
        return False
    return True


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()  # who comes before the server is up, waits
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from error
    return listening
