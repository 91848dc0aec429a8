"""A real Ceph on loopback: a monitor, one store of objects in memory, and the gateway that speaks S3; for --full only.

``setup/ceph.sh`` unpacks it into a folder. It runs there as root, in namespaces of its own: to end the one process that
made them ends all of them. Authentication stays on (the gateway refuses to do without it), and paths of plug-ins are
absolute, since Debian's defaults are not.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.servers import free_port

FOLDER = Path(__file__).parents[1] / ".tools" / "ceph"
USER, KEY = "AKCEPHCEPHCEPHCEPHCE", "secretsecretsecret"


@dataclass(frozen=True)
class Ceph:
    """A running Ceph: S3 at ``url``, path style, with ``user`` and ``key`` as credentials."""

    url: str
    user: str = USER
    key: str = KEY

    def s3(self, user: str = USER, key: str = KEY) -> Any:
        """Return a boto3 client; the caller closes it."""
        config = Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        names = {"aws_access_key_id": user, "aws_secret_access_key": key, "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.url, config=config, **names)


_CONFIGURATION = """
[global]
fsid = 11111111-2222-3333-4444-555555555555
mon_host = [v2:127.0.0.1:{monitor}]
public_addr = 127.0.0.1
ms_bind_msgr1 = false
keyring = /tmp/keyring
run_dir = /tmp/run
admin_socket = /tmp/run/$name.asok
log_file = /tmp/log/$name.log
osd_pool_default_size = 1
osd_pool_default_min_size = 1
mon_allow_pool_size_one = true
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
mon_max_pg_per_osd = 1000
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 6442450944
osd_class_dir = /usr/lib/x86_64-linux-gnu/rados-classes
plugin_dir = /usr/lib/x86_64-linux-gnu/ceph
mon_data_avail_crit = 1
[mon.a]
mon_data = /tmp/mon
keyring = /tmp/keyring
[osd.0]
osd_data = /tmp/osd
keyring = /tmp/keyring
[client.rgw.x]
rgw_data = /tmp/rgw
keyring = /tmp/keyring
rgw_frontends = beast endpoint=127.0.0.1:{gateway}
rgw_thread_pool_size = 64
"""

_RUN = """
set -eu
mkdir -p /tmp/mon /tmp/osd /tmp/rgw /tmp/run /tmp/log
cd /tmp
export CEPH_CONF=/tmp/ceph.conf
ceph-authtool -C keyring -g -n mon. --cap mon 'allow *'
ceph-authtool keyring -g -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
ceph-authtool keyring -g -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
ceph-authtool keyring -g -n client.rgw.x --cap mon 'allow rw' --cap osd 'allow rwx'
monmaptool --create --fsid 11111111-2222-3333-4444-555555555555 --addv a "[v2:127.0.0.1:$1]" monmap
ceph-mon -i a --mkfs --monmap monmap --keyring keyring
ceph-mon -i a -f >log/mon.out 2>&1 &
osd=$(cat /proc/sys/kernel/random/uuid)
for _ in $(seq 100); do timeout 10 ceph osd new "$osd" && break; sleep .2; done
ceph-osd -i 0 --mkfs --osd-uuid "$osd"
ceph-osd -i 0 -f >log/osd.out 2>&1 &
for _ in $(seq 300); do timeout 10 ceph osd stat | grep -q '1 up' && break; sleep .1; done
radosgw -n client.rgw.x -f >log/rgw.out 2>&1 &
for _ in $(seq 900); do (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null && break; sleep .1; done
radosgw-admin user create --uid tests --display-name tests --access-key "$3" --secret-key "$4"
touch ready
wait
"""

# Root's own namespaces of mounts and processes; /tmp of the folder is the test's directory.
_ENTER = """
mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && mount --bind "$2" "$1/tmp" || exit
folder=$1; shift 2
exec env -i PATH=/usr/sbin:/usr/bin LANG=C.UTF-8 HOME=/root chroot "$folder" /bin/bash /tmp/run-ceph "$@"
"""


@contextlib.contextmanager
def ceph_server(directory: Path) -> Iterator[Ceph]:
    """Run Ceph with its files in a directory; skips where it cannot run."""
    if os.geteuid() != 0:
        pytest.skip("Ceph runs in a folder of its own, which takes root")
    if not (FOLDER / ".installed").exists():
        pytest.skip(f"Ceph is not in {FOLDER}: ./test --full puts it there where it can (setup/ceph.sh)")
    monitor, gateway = free_port(), free_port()
    (directory / "ceph.conf").write_text(_CONFIGURATION.format(monitor=monitor, gateway=gateway))
    (directory / "run-ceph").write_text(_RUN)
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", _ENTER, "bash"]
    argv = [*unshare, str(FOLDER), str(directory), str(monitor), str(gateway), USER, KEY]
    with (
        open(directory / "run.log", "wb") as output,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process,
    ):
        try:
            _until_ready(directory, process)
            yield Ceph(f"http://127.0.0.1:{gateway}")
        finally:
            process.kill()  # --kill-child takes the namespace of processes with it
            process.wait()


def _until_ready(directory: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 300
    while not (directory / "ready").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"Ceph does not start: {(directory / 'run.log').read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    """A Ceph for the whole session; tests keep apart by the names of their buckets."""
    with ceph_server(tmp_path_factory.mktemp("ceph")) as running:
        yield running
