"""A process that lacks memory or threads ends, wherever that strikes; any other error is only printed."""

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, ctypes, logging, os, resource, threading
from concurrent.futures import Future
import psutil
import ray  # whose loggers are its own
from drsft.process.exhaustion import end_where_exhausted

def end(error):
    os.write(1, f"ended by {{type(error).__name__}}\\n".encode())
    os._exit(1)

def take_memory():
    bytearray(1 << 40)

def take_thread():
    used = psutil.Process().memory_info().vms  # a thread wants a stack
    resource.setrlimit(resource.RLIMIT_AS, (used, used))
    threading.Thread(target=print).start()

def take_address_space():  # without an error
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used, used))
    threading.Event().wait()

def fail():
    raise ValueError("of another kind")

def in_thread(act):
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()

def in_callback(act):
    async def run():
        asyncio.get_running_loop().call_soon(act)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    asyncio.run(run())

def in_call_from_c(act):
    ctypes.CFUNCTYPE(None)(act)()

def in_callback_of_future(act):
    future = Future()
    future.add_done_callback(lambda done: act())
    future.set_result(None)

def in_callback_of_ray(act):
    try:
        act()
    except Exception:
        logging.getLogger("ray._raylet").exception("failed to run async callback (user func)")

logging.basicConfig()
end_where_exhausted(end)
{place}({act})
print("went on")
"""
PLACES = ("in_thread", "in_callback", "in_call_from_c", "in_callback_of_future", "in_callback_of_ray")


def outcome(place: str, act: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(place=place, act=act)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("act", "error"), [("take_memory", "MemoryError"), ("take_thread", "RuntimeError")])
def test_the_process_ends(place: str, act: str, error: str) -> None:
    done = outcome(place, act)
    assert done.stdout == f"ended by {error}\n"
    assert error in done.stderr


def test_it_ends_without_an_error_too() -> None:
    assert outcome("in_callback", "take_address_space").stdout == "ended by OSError\n"


@pytest.mark.parametrize("place", PLACES)
def test_another_error_is_printed_as_ever(place: str) -> None:
    done = outcome(place, "fail")
    assert done.stdout == "went on\n"
    assert "ValueError: of another kind" in done.stderr
