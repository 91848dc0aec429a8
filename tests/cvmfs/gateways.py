"""Publishers behind a gateway, for tests: each a host of its own."""

from __future__ import annotations

import json
from pathlib import Path

from .leases import SETTINGS
from .simulator import Stratum0


def serve_gateway(stratum: Stratum0, *, longest: float = 7200) -> None:
    """Let a stratum 0 be a gateway too: leases last ``longest`` seconds; its address is that of the repository."""
    key = stratum.repository.host.keys / f"{stratum.name}.gw"
    key.write_text("plain_text key1 secret\n")
    key.chmod(0o600)
    settings = stratum.directory / SETTINGS
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps({"max_lease_time": longest, "port": 4929}))
    (settings.parent / "repo.json").write_text(json.dumps({"version": 2, "repos": [stratum.name]}))


class Publisher(Stratum0):
    """A host that publishes through a gateway; it serves nothing of its own."""

    def __init__(self, directory: Path, gateway: Stratum0) -> None:
        super().__init__(directory, gateway.name)
        self.gateway = gateway
        directory.mkdir()
        api = f"{gateway.url.partition('/cvmfs/')[0]}/api/v1"
        upstream = f"gw,{gateway.storage}/data/txn,{api}"
        keys = gateway.directory / "etc/cvmfs/keys"
        options = ["-p", "-w", gateway.url, "-u", upstream, "-k", str(keys), "-o", gateway.owner]
        done = self.run("mkfs", *options, self.name)
        assert done.code == 0, done

    @property
    def url(self) -> str:
        """Return the repository's address, which is the gateway's."""
        return self.gateway.url
