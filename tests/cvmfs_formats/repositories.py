"""Small CVMFS repositories, made by openssl, zlib and SQLite alone; nothing of neurocommand's own is used.

The formats are those of https://cvmfs.readthedocs.io/en/stable/cpt-details.html.
"""

from __future__ import annotations

import functools
import hashlib
import sqlite3
import struct
import subprocess
import tempfile
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import Answer, Request

NAME = "neurodesk.test.local"
DIRECTORY, NESTED_POINT, FILE, LINK, NESTED_ROOT, CHUNKED, EXTERNAL = 1, 2, 4, 8, 32, 64, 128
UNCOMPRESSED = 1 << 11
TABLES = """
CREATE TABLE catalog (md5path_1 INTEGER, md5path_2 INTEGER, parent_1 INTEGER, parent_2 INTEGER, hardlinks INTEGER,
    hash BLOB, size INTEGER, mode INTEGER, mtime INTEGER, mtimens INTEGER, flags INTEGER, name TEXT, symlink TEXT,
    uid INTEGER, gid INTEGER, xattr BLOB, CONSTRAINT pk_catalog PRIMARY KEY (md5path_1, md5path_2));
CREATE INDEX idx_catalog_parent ON catalog (parent_1, parent_2);
CREATE TABLE chunks (md5path_1 INTEGER, md5path_2 INTEGER, offset INTEGER, size INTEGER, hash BLOB,
    CONSTRAINT pk_chunks PRIMARY KEY (md5path_1, md5path_2, offset, size));
CREATE TABLE nested_catalogs (path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_nested PRIMARY KEY (path));
CREATE TABLE bind_mountpoints (path TEXT, sha1 TEXT, size INTEGER, CONSTRAINT pk_bind PRIMARY KEY (path));
CREATE TABLE statistics (counter TEXT, value INTEGER, CONSTRAINT pk_statistics PRIMARY KEY (counter));
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
INSERT INTO properties VALUES ('schema', '2.5'), ('schema_revision', '7');
"""


def openssl(*words: str | Path, given: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *map(str, words)], input=given, capture_output=True, check=True).stdout


@dataclass(frozen=True)
class Keys:
    """A master key and a certificate with its key, as files of one directory."""

    place: Path

    @property
    def public(self) -> Path:
        return self.place / "master.pub"

    @functools.cached_property
    def certificate(self) -> bytes:
        return (self.place / "certificate.pem").read_bytes()

    @functools.cached_property
    def fingerprint(self) -> str:
        shown = openssl("x509", "-in", self.place / "certificate.pem", "-noout", "-fingerprint", "-sha1").decode()
        return shown.strip().partition("=")[2]

    def whitelisting(self, text: bytes) -> bytes:
        """Sign raw: PKCS#1 around the text itself."""
        return openssl("pkeyutl", "-sign", "-inkey", self.place / "master.key", given=text)

    def publishing(self, text: bytes) -> bytes:
        """Sign the SHA-1 of the text."""
        return openssl("dgst", "-sha1", "-sign", self.place / "certificate.key", given=text)


def make_keys(place: Path, bits: int = 2048) -> Keys:
    place.mkdir(parents=True, exist_ok=True)
    openssl("genrsa", "-out", place / "master.key", str(bits))
    openssl("rsa", "-in", place / "master.key", "-pubout", "-out", place / "master.pub")
    subject = ("-subj", "/CN=test", "-days", "30")
    openssl(
        *("req", "-x509", "-newkey", f"rsa:{bits}", "-nodes", "-keyout", place / "certificate.key"),
        *("-out", place / "certificate.pem", *subject),
    )
    return Keys(place)


@functools.cache
def shared_keys(which: str = "ours") -> Keys:
    """Return keys that tests share, since to make some takes a second."""
    return make_keys(Path(tempfile.mkdtemp(prefix="neurocommand-test-keys-")) / which)


def halves(path: str) -> tuple[int, int]:
    first, second = struct.unpack("<2q", hashlib.md5(path.encode()).digest())
    return first, second


def stamp(moment: float) -> str:
    return time.strftime("%Y%m%d%H%M%S", time.gmtime(moment))


@dataclass
class Tree:
    """A catalog in the making: entries below one directory, which is the root or begins a nested catalog."""

    top: str = ""
    rows: list[tuple[str, int, int, bytes | None]] = field(default_factory=list)
    chunks: list[tuple[str, int, int, bytes]] = field(default_factory=list)
    nested: list[tuple[str, str, int | None]] = field(default_factory=list)


class MadeRepository:
    """Files as a web server serves them below one address; every part can be spoilt before it is used."""

    def __init__(self, keys: Keys | None = None, name: str = NAME) -> None:
        self.keys = keys or shared_keys()
        self.name = name
        self.files: dict[str, bytes] = {}
        self.certificate = self.store(self.keys.certificate, "X")
        self.revision = 25
        self.timestamp = int(time.time()) - 60
        self.expires = time.time() + 30 * 86400
        self.root = Tree()
        self.directory(self.root, "")

    # --- objects and catalogs ---

    def store(self, content: bytes, kind: str = "", *, packed: bool = True) -> str:
        stored = zlib.compress(content) if packed else content
        sha1 = hashlib.sha1(stored).hexdigest()
        self.files[f"data/{sha1[:2]}/{sha1[2:]}{kind}"] = stored
        return sha1

    def directory(self, tree: Tree, path: str, flags: int = DIRECTORY) -> None:
        tree.rows.append((path, flags, 4096, None))

    def file(self, tree: Tree, path: str, content: bytes, flags: int = FILE) -> str:
        sha1 = self.store(content, packed=not flags & UNCOMPRESSED)
        tree.rows.append((path, flags, len(content), bytes.fromhex(sha1)))
        return sha1

    def chunked(self, tree: Tree, path: str, *parts: bytes) -> None:
        tree.rows.append((path, FILE | CHUNKED, sum(map(len, parts)), None))
        offset = 0
        for part in parts:
            tree.chunks.append((path, offset, len(part), bytes.fromhex(self.store(part, "P"))))
            offset += len(part)

    def nest(self, above: Tree, tree: Tree) -> str:
        """Close a nested catalog, and name it in the one above."""
        self.directory(above, tree.top, DIRECTORY | NESTED_POINT)
        content = self.sqlite(tree)
        sha1 = self.store(content, "C")
        above.nested.append((tree.top, sha1, len(content)))
        return sha1

    def sqlite(self, tree: Tree, *more: str) -> bytes:
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / "catalog"
            database = sqlite3.connect(file)
            database.executescript(TABLES)
            for path, flags, size, sha1 in tree.rows:
                above, _, name = path.rpartition("/")
                parent = halves(above) if path else (0, 0)
                values = (*halves(path), *parent, 1, sha1, size, 0o755, 0, flags, name, "", 0, 0)
                database.execute(
                    "INSERT INTO catalog (md5path_1, md5path_2, parent_1, parent_2, hardlinks, hash, size, mode, mtime,"
                    " flags, name, symlink, uid, gid) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
                    values,
                )
            for path, offset, size, sha1 in tree.chunks:
                database.execute("INSERT INTO chunks VALUES (?,?,?,?,?)", (*halves(path), offset, size, sha1))
            database.executemany("INSERT INTO nested_catalogs VALUES (?,?,?)", tree.nested)
            for statement in more:
                database.execute(statement)
            database.commit()
            database.close()
            return file.read_bytes()

    # --- the two signed files ---

    def manifest_text(self, root: bytes) -> str:
        lines = [
            f"C{self.store(root, 'C')}",
            f"B{len(root)}",
            "Rd41d8cd98f00b204e9800998ecf8427e",
            "D240",
            f"S{self.revision}",
            "Gyes",
            "Ano",
            f"N{self.name}",
            f"X{self.certificate}",
            f"H{self.store(b'tags', 'H')}",
            f"T{self.timestamp}",
        ]
        return "".join(f"{line}\n" for line in lines)

    def whitelist_text(self) -> str:
        lines = [stamp(time.time() - 86400), f"E{stamp(self.expires)}", f"N{self.name}", self.keys.fingerprint]
        return "".join(f"{line}\n" for line in lines)

    def publish(self, text: str | None = None, *, root: bytes | None = None, whitelist: str | None = None) -> None:
        """Sign and put both files; the texts may be others than they should be."""
        if text is None:
            text = self.manifest_text(self.sqlite(self.root) if root is None else root)
        self.files[".cvmfspublished"] = signed(text, self.keys.publishing)
        self.files[".cvmfswhitelist"] = signed(whitelist or self.whitelist_text(), self.keys.whitelisting)

    def respond(self, request: Request) -> Answer:
        """Answer as a web server that serves the repository at /cvmfs/NAME."""
        content = self.files.get(request.path.removeprefix(f"/cvmfs/{self.name}/"))
        return Answer(404, b"not here") if content is None else Answer(body=content)


def signed(text: str, sign: object) -> bytes:
    sha1 = hashlib.sha1(text.encode()).hexdigest().encode()
    return text.encode() + b"--\n" + sha1 + b"\n" + sign(sha1)  # type: ignore[operator, no-any-return]


def neurodesk(releases: tuple[str, ...] = ("niimath_1.0_20250101",), keys: Keys | None = None) -> MadeRepository:
    """Return a repository with releases, each with a nested catalog of its own, published."""
    made = MadeRepository(keys)
    made.directory(made.root, "/containers")
    for release in releases:
        top = f"/containers/{release}"
        tree = Tree(top)
        made.directory(tree, top, DIRECTORY | NESTED_ROOT)
        made.file(tree, f"{top}/record.json", f'{{"release": "{release}"}}'.encode())
        made.file(tree, f"{top}/commands.txt", b"niimath\n")
        made.nest(made.root, tree)
    made.publish()
    return made
