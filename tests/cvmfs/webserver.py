"""What the storage is served by."""

from __future__ import annotations

import http.server
from pathlib import Path

from . import leases


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files as Apache does for cvmfs; says nothing on standard error."""

    protocol_version = "HTTP/1.1"

    def guess_type(self, path: object) -> str:
        """Return the one type that cvmfs's files have."""
        return "application/x-cvmfs"

    def end_headers(self) -> None:
        """Let caches keep what changes for a minute, the rest for three days."""
        name = self.path.rpartition("/")[2]
        self.send_header("Cache-Control", f"max-age={61 if name.startswith('.cvmfs') else 259200}")
        super().end_headers()

    def do_GET(self) -> None:
        """Serve a file, or what the gateway answers."""
        told = leases.api(Path(self.directory).parent, self.path) if self.path.startswith("/api/") else None
        if told is None:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""
