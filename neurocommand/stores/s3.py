"""A store that is a bucket of an S3 server: Amazon's, Ceph's, Swift's."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

from neurocommand.errors import StoreError
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores import multipart, s3client, uploads
from neurocommand.stores.conditions import Conditions, LostError, Seen, Written, check_written, settle
from neurocommand.stores.interface import KEY, Advance, Content, Link, check_key
from neurocommand.stores.multipart import Bucket, Multipart, in_base64
from neurocommand.stores.s3faults import normalised
from neurocommand.stores.s3objects import SHA256_FIELD, Objects
from neurocommand.stores.transfer import ObjectStream, VerifiedReader, check_kept, reading, receive

PART = 8 << 20  # bytes; S3 takes no part below 5 MiB but the last
CONCURRENCY = 4
LINK_SECONDS = 3600


class S3Store:
    """Keep objects in a bucket, each with its sha256 as metadata (``x-amz-meta-sha256``).

    ``list`` states no sha256, since S3's listing has no metadata; ``stat`` does. Credentials, proxies and CA bundles
    come from boto3's own places.

    Args:
        name: the store's name in messages.
        bucket: the bucket; it must exist.
        endpoint: address of a server that is not Amazon's; it is asked in path style.
        region: region of the bucket.
        profile: profile of boto3's configuration files.
        anonymous: send no credentials.
        prefix: what every key starts with in the bucket, such as ``images/``.
        writable: False refuses ``put`` and ``delete``.
        url: http or https address below which anybody may read the keys; empty where nobody may.
        part_size: bytes of the parts of an upload; what is not larger than one, and no more than 8 MiB, is sent whole.
        concurrency: parts that are sent at once; memory holds one more.
        records: directory where unfinished uploads are remembered, so that another run goes on with them.
        stale_after: seconds after which another run's unfinished upload of a key is taken for a killed run's.
        link_seconds: how long a signed address works; with credentials that expire earlier, no longer than they.
    """

    listable = True
    lists_digests = False
    local = False

    def __init__(  # noqa: PLR0913  (each is a setting of such a store)
        self,
        name: str,
        bucket: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        profile: str | None = None,
        anonymous: bool = False,
        prefix: str = "",
        writable: bool = True,
        url: str = "",
        part_size: int = PART,
        concurrency: int = CONCURRENCY,
        records: Path | None = None,
        stale_after: float = 86_400.0,
        link_seconds: int = LINK_SECONDS,
    ) -> None:
        self.name = name
        self.bucket = bucket
        self.access = s3client.Access(endpoint, region, profile, anonymous, connections=max(32, concurrency))
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self.writable = writable
        self.url = url.rstrip("/")
        self.part_size = part_size
        self.concurrency = concurrency
        self.records = records
        self.stale_after = stale_after
        self.link_seconds = link_seconds
        self._clients = s3client.Clients(name, self.access)
        self._objects = Objects(name, bucket, self.prefix, self._clients)
        self._conditions = Conditions()

    def list(self) -> Iterator[StoredObject]:
        """Yield every object under the prefix, page by page; none with its sha256."""
        with self._normalised("cannot be listed"):
            pages = (
                self._clients.get()
                .get_paginator("list_objects_v2")
                .paginate(Bucket=self.bucket, Prefix=self.prefix, Delimiter="/")
            )
            seen = [entry for page in pages for entry in self._entries(page)]
        for entry in seen:
            key = entry["Key"][len(self.prefix) :]
            if KEY.fullmatch(key):
                yield StoredObject(key, entry["Size"])

    def stat(self, key: str) -> StoredObject | None:
        """Ask with HEAD; the sha256 is the server's own checksum of all bytes, else the one in the metadata."""
        check_key(self.name, key)
        with self._normalised(f"cannot tell whether it holds {key}"):
            seen = self._objects.look(key)
        return None if seen is None else seen.stated

    def link(self, key: str) -> Link:
        """Return the public address where there is one, else one that is signed with our credentials and expires."""
        check_key(self.name, key)
        if self.url:
            return Link(f"{self.url}/{key}")
        with self._normalised(f"cannot give an address of {key}"):
            url = self._clients.get().generate_presigned_url(
                "get_object", Params={"Bucket": self.bucket, "Key": self.prefix + key}, ExpiresIn=self.link_seconds
            )
        return Link(url, expires_in=None if self.access.anonymous else self.link_seconds)

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        """Upload the bytes, in parts when they are many; the server shows them when the last part is there, not before.

        An upload in parts that was killed, interrupted or cut off is gone on with by the next one of the same artifact.
        """
        self._check_writable(key)
        with reading(source) as stream:
            with self._normalised(f"cannot take {key}"):
                before = self._objects.look(key)
            reader = VerifiedReader(stream, source, artifact)
            put = self._put_whole if artifact.size <= min(self.part_size, PART) else self._put_parts
            try:
                written = put(key, reader, before, advance)
                with self._normalised(f"cannot tell whether it holds {key}"):
                    after = self._objects.look(key)
                check_written(self.name, artifact, written, before, after)
            except LostError:
                with self._normalised(f"cannot tell whether it holds {key}"):
                    after = self._objects.look(key)
                settle(self.name, key, artifact, after)
        check_kept(self.name, key, artifact, None if after is None else after.stated)

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Stream an object to a file."""
        with self.opened(key) as stream:
            return receive(stream, path, advance)

    @contextmanager
    def opened(self, key: str) -> Iterator[ObjectStream]:
        """Ask for an object; what is not read of it costs the connection."""
        check_key(self.name, key)
        with self._normalised(f"cannot read {key}"):
            answer = self._objects.ask("get_object", key)
        if answer is None:
            raise StoreError(f"store {self.name}: holds no {key}")
        with closing(answer["Body"]) as body:
            stated = self._objects.seen(key, answer).stated
            yield ObjectStream(self.name, body, stated, lambda: self._normalised(f"{key} broke off"))

    def delete(self, key: str) -> None:
        """Remove an object; S3 answers the same for an absent one."""
        self._check_writable(key)
        with self._normalised(f"cannot remove {key}"):
            self._objects.ask("delete_object", key)

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        self._clients.close()

    def _put_whole(self, key: str, source: VerifiedReader, before: Seen | None, advance: Advance) -> Written:
        artifact = source.artifact
        body, checksum = source.read(artifact.size + 1), in_base64(artifact.sha256)
        source.read(1)

        def write(condition: dict[str, str]) -> Written:
            # A stream, not bytes: then boto3 waits for the server's consent before it sends them.
            answer = self._clients.get().put_object(
                Bucket=self.bucket,
                Key=self.prefix + key,
                Body=io.BytesIO(body),
                Metadata={SHA256_FIELD: artifact.sha256},
                ChecksumAlgorithm="SHA256",  # Ceph compares only where the algorithm is named as well
                ChecksumSHA256=checksum,
                **condition,
            )
            return Written(answer.get("ETag", ""), checksum)

        with self._normalised(f"cannot take {key}"):
            written = self._conditions.write(write, before, lambda: self._objects.look(key))
        advance(len(body))
        return written

    def _put_parts(self, key: str, source: VerifiedReader, before: Seen | None, advance: Advance) -> Written:
        artifact, name = source.artifact, self.prefix + key
        bucket = Bucket(self._clients.get(s3client.PART), self.bucket)
        purpose = uploads.Purpose(
            f"{self.access.endpoint or self.access.region or ''}/{self.bucket}",
            name,
            artifact.sha256,
            artifact.size,
            multipart.part_size_for(artifact.size, self.part_size),
        )
        with uploads.record(self.records, f"{self.name}.{key}.json") as record:
            upload = Multipart(bucket, purpose, record, {SHA256_FIELD: artifact.sha256})
            with upload.kept_or_removed(), self._normalised(f"cannot take {key}"):
                upload.begin()
                multipart.remove_stale(bucket, name, self.stale_after, but=upload.upload)
                upload.send(source, self.concurrency, advance)
                return self._conditions.write(upload.complete, before, lambda: self._objects.look(key))

    def _entries(self, page: dict[str, Any]) -> Sequence[dict[str, Any]]:
        """Return what a page lists; boto3 takes an empty answer for an empty listing, but a listing says if it ends."""
        if "IsTruncated" not in page:
            raise StoreError(f"store {self.name}: cannot be listed: its answer is no listing", "is its endpoint right?")
        return page.get("Contents", ())  # type: ignore[no-any-return]

    def _check_writable(self, key: str) -> None:
        check_key(self.name, key)
        if not self.writable:
            raise StoreError(f"store {self.name}: is read-only")

    def _normalised(self, what: str) -> AbstractContextManager[None]:
        return normalised(f"store {self.name}: {what}")
