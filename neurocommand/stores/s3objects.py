"""What an S3 server says about single objects; what is raised is botocore's own, but where an answer is none."""

from __future__ import annotations

from typing import Any

from neurocommand.errors import StoreError
from neurocommand.model import SHA256, StoredObject
from neurocommand.stores.conditions import Seen
from neurocommand.stores.multipart import from_base64
from neurocommand.stores.s3client import Clients
from neurocommand.stores.s3faults import code, status

SHA256_FIELD = "sha256"


class Objects:
    """The objects of one store.

    Args:
        store: the store's name in messages.
        bucket: the bucket.
        prefix: what stands before every key.
        clients: who asks.
    """

    def __init__(self, store: str, bucket: str, prefix: str, clients: Clients) -> None:
        self.store = store
        self.bucket = bucket
        self.prefix = prefix
        self.clients = clients
        self._bucket_seen = False

    def look(self, key: str) -> Seen | None:
        """Ask with HEAD; the bucket is asked for before "absent" is said."""
        answer = self.ask("head_object", key, ChecksumMode="ENABLED")
        if answer is None:
            self._check_bucket()
            return None
        return self.seen(key, answer)

    def seen(self, key: str, answer: dict[str, Any]) -> Seen:
        """Return what an answer says about an object; some servers change the case of the metadata's names."""
        if "ContentLength" not in answer:
            raise StoreError(f"store {self.store}: does not state the size of {key}")
        metadata = {field.lower(): value.lower() for field, value in answer.get("Metadata", {}).items()}
        checksum, etag = answer.get("ChecksumSHA256", "").partition("-")[0], answer.get("ETag", "")
        sha256 = metadata.get(SHA256_FIELD, "")
        # That of an upload in parts is made of theirs, and does not tell the digest of the whole.
        if checksum and answer.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" and "-" not in etag:
            sha256 = from_base64(checksum)
        stated = StoredObject(key, answer["ContentLength"], sha256 if SHA256.fullmatch(sha256) else None)
        return Seen(stated, etag, checksum)

    def ask(self, call: str, key: str, **arguments: str) -> Any:
        """Make a call of boto3's about an object, and return its answer; None when it says that there is none."""
        from botocore.exceptions import ClientError

        try:
            return getattr(self.clients.get(), call)(Bucket=self.bucket, Key=self.prefix + key, **arguments)
        except ClientError as error:
            if code(error) in ("NoSuchKey", "404", "NotFound"):
                return None
            raise

    def _check_bucket(self) -> None:
        """Make sure that 404 meant the object: HEAD answers the same for a bucket that is not there."""
        from botocore.exceptions import ClientError

        if self._bucket_seen:
            return
        try:
            self.clients.get().head_bucket(Bucket=self.bucket)
        except ClientError as error:
            if status(error) == 404:
                raise StoreError(f"store {self.store}: there is no bucket {self.bucket}", "create it first") from error
            # 403: it is there, but its list is not for us.
            if status(error) != 403:
                raise
        self._bucket_seen = True
