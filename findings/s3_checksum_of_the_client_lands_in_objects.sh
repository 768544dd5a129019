#!/usr/bin/env bash
# nanio 0.1.7, pys3local 0.2.1, with pyarrow 26.0.1 (Python 3.11, Linux).
#
# pyarrow's S3 client sends a body in pieces (Content-Encoding: aws-chunked) with a checksum behind it, by default.
#
# Expected of a server that does not read such bodies: an error.
# Seen: the put succeeds, and the object is the frame, "1\r\n1\r\n0\r\nx-amz-checksum-crc64nvme:...": a file of one byte has
# 49, and every Parquet file is damaged. With AWS_REQUEST_CHECKSUM_CALCULATION=when_required the object is right.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
for server in nanio==0.1.7 pys3local==0.2.1; do
  python3 -m venv "$work/${server%%=*}"
  "$work/${server%%=*}/bin/pip" -q --disable-pip-version-check install "$server" 2>/dev/null
done
"$work/nanio/bin/pip" -q --disable-pip-version-check install pyarrow==26.0.1 2>/dev/null
cat > "$work/put.py" <<'PY'
import sys

from pyarrow import fs

client = fs.S3FileSystem(endpoint_override=sys.argv[1], scheme="http", region="us-east-1", access_key="key",
                         secret_key="secret", allow_bucket_creation=True, allow_delayed_open=True)
client.create_dir("bucket")
with client.open_output_stream("bucket/key") as stream:
    stream.write(b"1")
with client.open_input_stream("bucket/key") as stream:
    print(stream.read())
PY
cat > "$work/try.py" <<'PY'
import os
import pathlib
import socket
import subprocess
import sys
import time

work = pathlib.Path(sys.argv[1])


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def command(name, port, folder):
    program = str(work / name / "bin" / name)
    return {
        "nanio": [program, "serve", "--data-dir", folder, "--host", "127.0.0.1", "--port", str(port)],
        "pys3local": [program, "serve", "--path", folder, "--listen", f"127.0.0.1:{port}", "--access-key-id", "key",
                      "--secret-access-key", "secret", "--allow-bucket-creation"],
    }[name]


def put(port, **more):
    done = subprocess.run([sys.executable, str(work / "put.py"), f"127.0.0.1:{port}"], env={**os.environ, **more},
                          capture_output=True, text=True, check=True)
    return done.stdout.strip()


found = {}
for name in ("nanio", "pys3local"):
    port, folder = free_port(), work / f"{name}-data"
    folder.mkdir()
    environment = {**os.environ, "NANIO_ACCESS_KEY": "key", "NANIO_SECRET_KEY": "secret"}
    with (work / "log").open("ab") as log:
        server = subprocess.Popen(command(name, port, str(folder)), env=environment, stdout=log, stderr=log)
    try:
        for _ in range(300):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        found[name] = put(port), put(port, AWS_REQUEST_CHECKSUM_CALCULATION="when_required")
    finally:
        server.kill()
        server.wait()
    print(f"{name:<10} by default {found[name][0]}, when_required {found[name][1]}")
for by_default, when_required in found.values():
    assert by_default.startswith("b'1\\r\\n1\\r\\n0\\r\\nx-amz-checksum-crc64nvme:"), "the behaviour has changed"
    assert when_required == "b'1'", "the behaviour has changed"
PY
env -u AWS_REQUEST_CHECKSUM_CALCULATION "$work/nanio/bin/python" "$work/try.py" "$work"
