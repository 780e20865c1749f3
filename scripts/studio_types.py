"""Writes the answers of the server as TypeScript, web/src/api/schema.d.ts: after a change of the API. Needs `npm ci` in web/."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from phonofilm.serving.api.app import create_api
from phonofilm.serving.api.services import ApiSettings, Services
from phonofilm.serving.database.engines import open_database
from phonofilm.serving.settings import WorkerSettings
from phonofilm.serving.store.folder_store import FolderStore

WEB = Path(__file__).parents[1] / "web"


def main() -> None:
    """Write the types of everything in components/schemas; which routes there are is in web/src/api/calls.ts."""
    with TemporaryDirectory() as folder:
        worker = WorkerSettings(models={"nano": "nano"}, store=folder)
        services = Services(
            open_database(f"sqlite:///{folder}/jobs.db"), FolderStore(Path(folder)), worker, ApiSettings()
        )
        described = create_api(services).openapi() | {"paths": {}}
        for schema in described["components"][
            "schemas"
        ].values():  # an answer has every field, also those with a default
            schema["required"] = list(schema.get("properties", {}))
            schema.pop("additionalProperties", None)
        file = Path(folder) / "openapi.json"
        file.write_text(json.dumps(described))
        program = WEB / "node_modules" / ".bin" / "openapi-typescript"
        target = WEB / "src" / "api" / "schema.d.ts"
        subprocess.run([program, file, "--default-non-nullable", "--output", target], check=True)


if __name__ == "__main__":
    main()
