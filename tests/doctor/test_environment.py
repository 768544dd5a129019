"""The checks of the environment, each where it can fail on any machine."""

import socket

from drsft.doctor import environment
from drsft.doctor.checks import Check


def test_a_package_that_does_not_import_is_wrong_and_has_a_cure() -> None:
    check = environment._imports("no_such_package_here", "", "install it")
    assert check.state == "wrong"
    assert "no_such_package_here" in check.found
    assert check.cure == "install it"
    assert environment._imports("json", "print('found')", "").found == "found"


def test_requirements_are_read_from_the_package_itself() -> None:
    assert environment._unmet("typer>=0.1") is None
    assert environment._unmet("typer>=999") is not None
    assert environment._unmet("no-such-package-here") == "no-such-package-here is missing"
    assert environment._unmet("no-such-package-here; extra == 'gpu'") is None


def test_a_port_in_use_is_told() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert environment._port(port, "a test").state == "warning"
    assert environment._port(port, "a test").state == "ok"


def test_the_cheap_checks_say_what_they_found() -> None:
    checks: list[Check] = [
        environment._python(),
        environment._accelerator(),
        environment._memory(),
        *environment._versions(),
    ]
    assert all(check.found for check in checks)
    assert environment._python().state == "ok"
