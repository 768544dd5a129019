#!/usr/bin/env bash
# limits 5.8.0 (Python 3.11, Linux; in-memory storage).
#
# A rate limit of 10 units a minute, with requests of different cost, as token budgets of a language model have.
#
# Expected: a hit that is rejected for its cost takes nothing, so that a smaller one still passes.
# Seen: FixedWindowRateLimiter.hit(cost=11) returns False and leaves 0 of 10 units: the next hit of cost 1 is
# rejected, too, until the window ends. MovingWindowRateLimiter leaves all 10.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" -q --disable-pip-version-check install limits==5.8.0 2>/dev/null
cat > "$work/try.py" <<'PY'
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

found = {}
for strategy in (FixedWindowRateLimiter, MovingWindowRateLimiter):
    limiter, limit = strategy(MemoryStorage()), RateLimitItemPerMinute(10)
    too_much = limiter.hit(limit, "key", cost=11)
    left = limiter.get_window_stats(limit, "key").remaining
    small = limiter.hit(limit, "key", cost=1)
    found[strategy.__name__] = (too_much, left, small)
    print(f"{strategy.__name__:<24} hit of 11: {too_much}, left: {left}, then a hit of 1: {small}")
assert found == {
    "FixedWindowRateLimiter": (False, 0, False),
    "MovingWindowRateLimiter": (False, 10, True),
}, "the behaviour has changed"
PY
"$work/venv/bin/python" "$work/try.py"
