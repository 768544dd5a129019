#!/usr/bin/env bash
# nanio 0.1.7, pys3local 0.2.1, localbucket 1.2.1, with boto3 1.44.5 (Python 3.11, Linux).
#
# Two puts of one key with If-None-Match: *, then one with If-Match of another ETag. Amazon S3 answers the second and the
# third with 412.
#
# Expected of a server that does not know a condition: 501, as S3's documentation has it for headers without a function.
# Seen: nanio and pys3local answer 200 to all three and overwrite the object. localbucket keeps If-None-Match and answers
# 200 to the If-Match that does not match. Locks and commits that rest on a condition are lost without an error.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
for server in nanio==0.1.7 pys3local==0.2.1 localbucket==1.2.1; do
  python3 -m venv "$work/${server%%=*}"
  "$work/${server%%=*}/bin/pip" -q --disable-pip-version-check install "$server" 2>/dev/null
done
"$work/nanio/bin/pip" -q --disable-pip-version-check install boto3==1.44.5 2>/dev/null
cat > "$work/try.py" <<'PY'
import os
import pathlib
import socket
import subprocess
import sys
import time

import boto3
from botocore.exceptions import ClientError

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
        "localbucket": [program, "--port", str(port), folder],
    }[name]


def status(client, **condition):
    try:
        return client.put_object(Bucket="bucket", Key="key", Body=b"x", **condition)["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]


found = {}
for name in ("nanio", "pys3local", "localbucket"):
    port, folder = free_port(), work / f"{name}-data"
    folder.mkdir()
    environment = {**os.environ, "NANIO_ACCESS_KEY": "key", "NANIO_SECRET_KEY": "secret"}
    with (work / "log").open("ab") as log:
        server = subprocess.Popen(command(name, port, str(folder)), env=environment, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        client = boto3.client("s3", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{port}",
                              aws_access_key_id="key", aws_secret_access_key="secret")
        client.create_bucket(Bucket="bucket")
        once = [status(client, IfNoneMatch="*") for _ in range(2)]
        found[name] = (*once, status(client, IfMatch='"00000000000000000000000000000000"'))
    finally:
        server.kill()
        server.wait()
    print(f"{name:<12} first, second If-None-Match: *, wrong If-Match: {found[name]}")
assert found == {
    "nanio": (200, 200, 200),
    "pys3local": (200, 200, 200),
    "localbucket": (200, 412, 200),
}, "the behaviour has changed"
PY
"$work/nanio/bin/python" "$work/try.py" "$work"
