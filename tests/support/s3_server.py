"""A small S3 server on loopback that can lack what some real servers lack.

It keeps objects in memory and knows what our two clients ask: puts, uploads in parts, gets, deletes, lists.
"""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["S3Server", "running_s3"]

_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([^/]+)/s3/aws4_request")
_CODES = {
    400: "AuthorizationHeaderMalformed",
    404: "NoSuchKey",
    411: "MissingContentLength",
    412: "PreconditionFailed",
    501: "NotImplemented",
    503: "SlowDown",
}


@dataclass(slots=True)
class S3Server:
    """`chunks` is what it does with a body in pieces: reads it, refuses it with 411, or stores its frame."""

    region: str = "us-east-1"  # a signature for another one is refused
    chunks: Literal["read", "refuse", "store"] = "read"
    keeps_conditions: bool = True
    uploads: Literal["listed", "unlisted"] = "listed"
    num_busy_reads: int = 0  # how many of the next GETs are answered with 503
    port: int = 0
    objects: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(
        default_factory=dict
    )  # of uploads under way, by upload and number
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_MAX_ATTEMPTS": "2",
        }


@contextmanager
def running_s3(server: S3Server) -> Iterator[S3Server]:
    class Handler(_Handler):
        store = server

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.port = httpd.server_address[1]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: S3Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int) -> None:
        body = f"<Error><Code>{_CODES[status]}</Code><Message>{_CODES[status]}</Message></Error>"
        self._reply(status, body.encode())

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline(), 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return data
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _is_signed(self) -> bool:
        scope = _SCOPE.search(self.headers.get("Authorization", ""))
        return scope is not None and scope[1] == self.store.region

    def _handle(self) -> None:
        body = self._body()
        if not self._is_signed():
            return self._refuse(400)
        where = urlsplit(self.path)
        asked = parse_qs(where.query, keep_blank_values=True)
        bucket, _, key = unquote(where.path).strip("/").partition("/")
        with self.store.lock:
            if "uploads" in asked or "uploadId" in asked:
                self._upload(f"{bucket}/{key}", asked, body)
            elif not key:
                self._list(bucket, asked.get("prefix", [""])[0], asked.get("delimiter", [""])[0])
            else:
                self._object(f"{bucket}/{key}", body)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST = _handle

    def _upload(self, key: str, asked: dict[str, list[str]], body: bytes) -> None:
        """Ids of uploads are their keys: one of a key at a time is enough here."""
        parts = self.store.parts
        _, _, name = key.partition("/")
        if self.command == "GET":
            if self.store.uploads == "unlisted":
                return self._refuse(501)
            named = [(one.partition("/")[2], one) for one in parts]
            found = "".join(
                f"<Upload><Key>{key}</Key><UploadId>{one}</UploadId></Upload>"
                for key, one in named
                if key.startswith(asked["prefix"][0])
            )
            return self._reply_xml(f"<ListMultipartUploadsResult>{found}</ListMultipartUploadsResult>")
        if self.command == "PUT":
            parts[key][int(asked["partNumber"][0])] = self._whole(body)
            return self._reply(200, ETag=_etag(body))
        if self.command == "DELETE":
            parts.pop(key, None)
            return self._reply(204)
        if "uploadId" in asked:
            self.store.objects[key] = b"".join(data for _, data in sorted(parts.pop(key).items()))
            return self._reply_xml(
                f"<CompleteMultipartUploadResult><Key>{name}</Key></CompleteMultipartUploadResult>"
            )
        parts[key] = {}
        self._reply_xml(
            f"<InitiateMultipartUploadResult><Key>{name}</Key><UploadId>{key}</UploadId></InitiateMultipartUploadResult>"
        )

    def _reply_xml(self, text: str) -> None:
        self._reply(200, text.encode(), Content_Type="application/xml")

    def _whole(self, body: bytes) -> bytes:
        is_framed = "aws-chunked" in self.headers.get("Content-Encoding", "")
        return _unframed(body) if is_framed and self.store.chunks == "read" else body

    def _object(self, key: str, body: bytes) -> None:
        objects = self.store.objects
        if self.command == "PUT":
            return self._put(key, body)
        if self.command == "DELETE":
            objects.pop(key, None)
            return self._reply(204)
        if key not in objects:
            return self._refuse(404)
        if self.command == "GET" and self.store.num_busy_reads:
            self.store.num_busy_reads -= 1
            return self._refuse(503)
        data = objects[key]
        first, last = 0, len(data) - 1
        if asked := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(asked[1]), min(last, int(asked[2] or last))
        more = {"Content_Range": f"bytes {first}-{last}/{len(data)}"} if asked else {}
        dates = {"Last_Modified": "Wed, 21 Oct 2026 07:28:00 GMT", "Accept_Ranges": "bytes"}
        self._reply(206 if asked else 200, data[first : last + 1], ETag=_etag(data), **dates, **more)

    def _put(self, key: str, body: bytes) -> None:
        if "aws-chunked" in self.headers.get("Content-Encoding", "") and self.store.chunks == "refuse":
            return self._refuse(411)
        body = self._whole(body)
        if self.store.keeps_conditions and self.headers.get("If-None-Match") and key in self.store.objects:
            return self._refuse(412)
        self.store.objects[key] = body
        self._reply(200, ETag=_etag(body))

    def _list(self, bucket: str, prefix: str, delimiter: str) -> None:
        start = len(bucket) + 1
        keys = sorted(key[start:] for key in self.store.objects if key.startswith(f"{bucket}/{prefix}"))
        whole = [key for key in keys if not delimiter or delimiter not in key[len(prefix) :]]
        folders = {prefix + key[len(prefix) :].split(delimiter)[0] for key in keys if key not in whole}
        found = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-10-21T07:28:00Z</LastModified><ETag>x</ETag>"
            f"<Size>{len(self.store.objects[f'{bucket}/{key}'])}</Size></Contents>"
            for key in whole
        ) + "".join(
            f"<CommonPrefixes><Prefix>{escape(one + delimiter)}</Prefix></CommonPrefixes>" for one in folders
        )
        self._reply_xml(
            f"<ListBucketResult><Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<IsTruncated>false</IsTruncated>{found}</ListBucketResult>"
        )


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _unframed(body: bytes) -> bytes:
    """The data of a body in the pieces of aws-chunked."""
    data = b""
    while body:
        line, _, body = body.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if not size:
            break
        data, body = data + body[:size], body[size + 2 :]
    return data
