"""What every test shares: no hub, no token file in the home directory, one thread for each engine."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")  # a server that is not there is not waited for
os.environ.pop("RAY_ADDRESS", None)
