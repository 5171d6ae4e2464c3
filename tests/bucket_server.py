"""A small server that speaks S3 well enough to read and write, and the dialects of Google and Azure.

With latency, faults, and requests counted.

`python tests/bucket_server.py SECONDS FOLDER PREFIX=COUNT...` serves the files of a folder, and so many
chunks of four bytes, until its stdin ends, and says at which port; GET /_requests gives a line for each.
"""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import hashlib
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape, unescape

PAGE = 1000
DELETED = re.compile(r"<Key>(.*?)</Key>")
"""Of a request of S3 that objects be deleted, which names all of them."""
BATCHED = re.compile(r"^DELETE /bucket/(\S+)", re.MULTILINE)
"""The same of Azure."""
LONG_AGO = "Thu, 01 Jan 2026 00:00:00 GMT"
NOT_FOUND = "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>"
NO_BUCKET = "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>"


def tag_of(data: bytes) -> str:
    """The tag of an object: of its first bytes."""
    return f'"{hashlib.md5(data[:1000]).hexdigest()}"'


def generation_of(data: bytes | None) -> str:
    """As Google numbers an object, by its ends; 0 where there is none."""
    ends = b"" if data is None else b"%d" % len(data) + data[:1000] + data[-1000:]
    return "0" if data is None else str(1 + int(hashlib.md5(ends).hexdigest()[:8], 16))


class BucketServer:
    """One bucket, `bucket`, on a port of its own.

    objects : by key; seconds : before every answer; requests : "METHOD key" or "LIST prefix", in order
    faults : by a part of a key, what to do with requests for it, each taken once: a status, "cut" or "hang"
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self.objects: dict[str, bytes] = {}
        self.seconds = seconds
        self.requests: list[str] = []
        self.faults: dict[str, list[int | str]] = {}
        self.port = 0
        self._keys: list[str] | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        """Of the service."""
        return f"http://127.0.0.1:{self.port}"

    def put(self, key: str, data: bytes) -> None:
        """Put an object, without a request."""
        self.objects[key] = data
        self._keys = None

    def remove(self, key: str) -> bytes:
        """Take an object away; what it held."""
        self._keys = None
        return self.objects.pop(key)

    def restore(self, objects: dict[str, bytes]) -> None:
        """Have these objects and no others, without a request."""
        self.objects, self._keys = dict(objects), None

    @contextlib.contextmanager
    def serving(self) -> Iterator[BucketServer]:
        """Answer in a thread until the block ends."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        self._ready.wait()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            asyncio.start_server(self._converse, "127.0.0.1", 0, limit=1 << 20)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        waiting = asyncio.all_tasks(self._loop)
        for task in waiting:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
        self._loop.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                await writer.drain()
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        address = urlsplit(target)
        bucket, _, key = unquote(address.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        if bucket == "_requests":
            self._send(writer, 200, "\n".join(self.requests).encode())
            return True
        listing = method == "GET" and not key
        name = query.get("prefix", "") if listing else key
        gone = DELETED.findall(body.decode()) if method == "POST" and "delete" in query else []
        if query.get("comp") == "batch":
            gone = [escape(unquote(path)) for path in BATCHED.findall(body.decode())]
        self.requests += [f"DELETE {unescape(key)}" for key in gone] or [
            f"{'LIST' if listing else method} {name}"
        ]
        if self.seconds:
            await asyncio.sleep(self.seconds)
        fault = next((found.pop(0) for part, found in self.faults.items() if part in name and found), None)
        if fault == "hang":
            await asyncio.sleep(3600)
        if isinstance(fault, int):
            self._send(writer, fault, b"<Error><Code>Fault</Code></Error>")
        elif bucket != "bucket":
            self._send(writer, 404, NO_BUCKET.encode())
        elif listing:
            self._send(writer, 200, self._listing(query).encode())
        elif method == "PUT":
            held = self.objects.get(key)
            wanted, generation = headers.get("if-match"), headers.get("x-goog-if-generation-match")
            if wanted is not None and held is None:
                self._send(writer, 404, NOT_FOUND.encode())
            elif (
                (wanted and wanted != tag_of(held or b""))
                or ("if-none-match" in headers and held is not None)
                or (generation and generation != generation_of(held))
            ):
                self._send(writer, 412, b"<Error><Code>PreconditionFailed</Code></Error>")
            else:
                self.put(key, body)
                if fault == "cut":  # it is there, and nobody is told
                    return False
                status = 201 if "x-ms-blob-type" in headers else 200
                tags = {"ETag": tag_of(body), "x-goog-generation": generation_of(body)}
                self._send(writer, status, b"", {**tags, "Last-Modified": LONG_AGO})
        elif gone:
            for each in map(unescape, gone):
                self.objects.pop(each, None)
            self._keys = None
            if query.get("comp") == "batch":
                parts = "".join(
                    f"--one\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
                    "HTTP/1.1 202 Accepted\r\nx-ms-version: 2018-11-09\r\n\r\n"
                    for number in range(len(gone))
                )
                kind = {"Content-Type": "multipart/mixed; boundary=one"}
                self._send(writer, 202, f"{parts}--one--\r\n".encode(), kind)
                return True
            deleted = "".join(f"<Deleted><Key>{each}</Key></Deleted>" for each in gone)
            self._send(writer, 200, f"<DeleteResult>{deleted}</DeleteResult>".encode())
        elif method == "DELETE":
            self.objects.pop(key, None)
            self._keys = None
            self._send(writer, 204, b"")
        elif key not in self.objects:
            self._send(writer, 404, NOT_FOUND.encode(), head=method == "HEAD")
        else:
            return self._give(writer, key, headers.get("range"), head=method == "HEAD", cut=fault == "cut")
        return True

    def _give(
        self, writer: asyncio.StreamWriter, key: str, span: str | None, *, head: bool, cut: bool
    ) -> bool:
        whole = self.objects[key]
        data, status = whole, 200
        tags = {"ETag": tag_of(whole), "x-goog-generation": generation_of(whole)}
        extra = {**tags, "Last-Modified": LONG_AGO}
        if span is not None:
            first, _, last = span.removeprefix("bytes=").partition("-")
            start = int(first) if first else max(0, len(whole) - int(last))
            stop = min(len(whole), int(last) + 1) if first and last else len(whole)
            data, status = whole[start:stop], 206
            extra["Content-Range"] = f"bytes {start}-{stop - 1}/{len(whole)}"
        if cut:
            self._send(writer, status, data, extra, sent=data[: len(data) // 2])
            return False
        self._send(writer, status, data, extra, head=head)
        return True

    def _listing(self, query: dict[str, str]) -> str:
        if self._keys is None:
            self._keys = sorted(self.objects)
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        after = query.get("continuation-token") or query.get("marker") or query.get("start-after") or ""
        at = max(bisect.bisect_left(self._keys, prefix), bisect.bisect_right(self._keys, after))
        folders: list[str] = []
        keys: list[str] = []
        last, more = "", False
        while at < len(self._keys) and self._keys[at].startswith(prefix):
            if len(folders) + len(keys) == PAGE:
                more = True
                break
            key = self._keys[at]
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.append(prefix + rest[: rest.index(delimiter) + 1])
                last = folders[-1] + "\U0010ffff"
                at = bisect.bisect_left(self._keys, last)
                continue
            keys.append(key)
            last, at = key, at + 1
        sizes = [(escape(key), len(self.objects[key])) for key in keys]
        page = _azure_page if query.get("comp") == "list" else _page
        return page([escape(folder) for folder in folders], sizes, escape(last) if more else "")

    def _send(
        self,
        writer: asyncio.StreamWriter,
        status: int,
        data: bytes,
        extra: dict[str, str] | None = None,
        *,
        head: bool = False,
        sent: bytes | None = None,
    ) -> None:
        fields = {"Content-Length": str(len(data)), "Content-Type": "application/xml", **(extra or {})}
        lines = [f"HTTP/1.1 {status} Answer", *(f"{name}: {value}" for name, value in fields.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if not head:
            writer.write(data if sent is None else sent)


def _page(folders: list[str], keys: list[tuple[str, int]], following: str) -> str:
    """As S3 and Google Cloud Storage list."""
    entries = [f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>" for folder in folders]
    entries += [
        f"<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"1"</ETag><Size>{size}</Size></Contents>'
        for key, size in keys
    ]
    token = f"<NextContinuationToken>{following}</NextContinuationToken>" if following else ""
    return (
        f"<ListBucketResult><IsTruncated>{'true' if following else 'false'}</IsTruncated>{token}"
        f"{''.join(entries)}</ListBucketResult>"
    )


def _azure_page(folders: list[str], keys: list[tuple[str, int]], following: str) -> str:
    """As Azure lists the blobs of a container."""
    entries = [f"<BlobPrefix><Name>{folder}</Name></BlobPrefix>" for folder in folders]
    entries += [
        f"<Blob><Name>{key}</Name><Properties><Last-Modified>{LONG_AGO}</Last-Modified>"
        f"<Content-Length>{size}</Content-Length><Content-Type>x</Content-Type><Etag>1</Etag></Properties></Blob>"
        for key, size in keys
    ]
    return (
        f"<EnumerationResults><Blobs>{''.join(entries)}</Blobs><NextMarker>{following}</NextMarker>"
        "</EnumerationResults>"
    )


if __name__ == "__main__":
    server = BucketServer(float(sys.argv[1]))
    for path in Path(sys.argv[2]).rglob("*"):
        if path.is_file():
            server.put(path.relative_to(sys.argv[2]).as_posix(), path.read_bytes())
    for folder, _, count in (text.partition("=") for text in sys.argv[3:]):
        for number in range(int(count)):
            server.put(f"{folder}{number // 100}/{number % 100}", bytes(4))
    with server.serving():
        print(server.port, flush=True)
        sys.stdin.read()
