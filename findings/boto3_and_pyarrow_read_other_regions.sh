#!/usr/bin/env bash
# boto3 1.44.5, pyarrow 26.0.1 (Python 3.11, Linux).
#
# The environment names the region of a bucket, as AWS's other SDKs read it (AWS_REGION), or with both variables.
#
# Expected: the two clients of one process sign for the same region.
# Seen: boto3 does not read AWS_REGION and signs for us-east-1, where pyarrow takes it. With both variables boto3 and
# pyarrow take AWS_DEFAULT_REGION. A program that uses both clients is refused by a server that checks the region of a
# signature, for one half of its requests.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install boto3==1.44.5 pyarrow==26.0.1 2>/dev/null
cat > "$work/try.py" <<'PY'
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

CLIENTS = {
    "boto3": "import boto3, sys; boto3.client('s3', endpoint_url='http://' + sys.argv[1]).head_object(Bucket='b', Key='k')",
    "pyarrow": "import sys; from pyarrow import fs;"
    "fs.S3FileSystem(endpoint_override=sys.argv[1], scheme='http').get_file_info('b/k')",
}
signed_for = []


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        signed_for.append(re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers["Authorization"])[1])
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.send_header("Last-Modified", "Wed, 21 Oct 2026 07:28:00 GMT")
        self.end_headers()

    def log_message(self, *arguments):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
found = {}
for names in ({"AWS_REGION": "eu-central-1"}, {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "us-west-2"}):
    for client, code in CLIENTS.items():
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
        environment |= {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_CONFIG_FILE": os.devnull, **names}
        signed_for.clear()
        subprocess.run([sys.executable, "-c", code, f"127.0.0.1:{server.server_port}"], env=environment, check=True)
        found[client, len(names)] = signed_for[0]
        print(f"{' and '.join(names):<33} {client:<8} signs for {signed_for[0]}")
assert found == {
    ("boto3", 1): "us-east-1",
    ("pyarrow", 1): "eu-central-1",
    ("boto3", 2): "us-west-2",
    ("pyarrow", 2): "us-west-2",
}, "the behaviour has changed"
PY
"$work/venv/bin/python" "$work/try.py"
