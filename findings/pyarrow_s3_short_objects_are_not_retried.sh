#!/usr/bin/env bash
# pyarrow 26.0.1, boto3 1.44.5 (Python 3.11, Linux).
#
# An S3 server answers one GetObject with 503 SlowDown (or a 500) and an XML body, and the next one with the object. It is
# what busy servers do; RADOS Gateway answers a read that meets an overwrite so.
#
# Expected: pyarrow's S3FileSystem tries again, as boto3 does, since its retry strategy names five attempts.
# Seen: it does for objects that are at least as long as the error's XML. It reads into a buffer of the object's length,
# so for a shorter object the error does not fit: one request, "Failed to flush response stream", INTERNAL_FAILURE, and no
# word of SlowDown. Flags, counters, leases and other objects of a few bytes are read without any retry.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install pyarrow==26.0.1 boto3==1.44.5
cat > "$work/try.py" <<'PY'
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pyarrow.fs as pafs
from botocore.config import Config

os.environ.update(AWS_ACCESS_KEY_ID="id", AWS_SECRET_ACCESS_KEY="secret", AWS_EC2_METADATA_DISABLED="true")
ERROR = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class Server(BaseHTTPRequestHandler):
    """One object, whose first GET is answered with 503."""

    protocol_version, length, num_gets = "HTTP/1.1", 0, 0

    def log_message(self, *_):
        pass

    def answer(self, code, body, **headers):
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), "ETag": '"1"', **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.answer(200, b"x" * Server.length)

    def do_GET(self):
        Server.num_gets += 1
        if Server.num_gets == 1:
            return self.answer(503, ERROR, Content_Type="application/xml")
        last = Server.length - 1
        whole = {} if "Range" not in self.headers else {"Content_Range": f"bytes 0-{last}/{last + 1}"}
        self.answer(206 if whole else 200, b"x" * Server.length, **whole)


server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"127.0.0.1:{server.server_port}"
files = pafs.S3FileSystem(
    endpoint_override=address, scheme="http", region="us-east-1",
    retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=5),
)
client = boto3.client(
    "s3", endpoint_url=f"http://{address}", region_name="us-east-1",
    config=Config(retries={"total_max_attempts": 5, "mode": "standard"}),
)


def by_pyarrow():
    try:
        with files.open_input_stream("bucket/key") as stream:
            return f"{len(stream.read())} bytes"
    except OSError as error:
        return str(error)


def by_boto3():
    return f"{len(client.get_object(Bucket='bucket', Key='key')['Body'].read())} bytes"


seen = {}
for name, read in (("pyarrow", by_pyarrow), ("boto3", by_boto3)):
    for length in (3, len(ERROR)):
        Server.length, Server.num_gets = length, 0
        seen[name, length] = (read(), Server.num_gets)
        print(f"{name}, object of {length} bytes, error of {len(ERROR)}: {seen[name, length]}", flush=True)
message, num_gets = seen["pyarrow", 3]
assert num_gets == 1 and "Failed to flush response stream" in message and "SlowDown" not in message
assert seen["pyarrow", len(ERROR)] == (f"{len(ERROR)} bytes", 2)
assert seen["boto3", 3] == ("3 bytes", 2)
os._exit(0)
PY
"$work/venv/bin/python" "$work/try.py"
