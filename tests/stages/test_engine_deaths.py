"""Who is blamed for an engine's death, and when work is given up."""

from drsft.stages.engine_deaths import KILLED, MAX_TRIES, EngineDeaths, Permit

ACTOR, NODE = "actor", "node"


def started(deaths: EngineDeaths, node: str = NODE) -> None:
    assert deaths.starts(ACTOR, node)
    deaths.ready(ACTOR)


def begins(deaths: EngineDeaths, work: str) -> bool:
    """As an actor does: suspects one by one."""
    permit = deaths.begins(ACTOR, work, is_alone=False)
    if permit is Permit.ALONE:
        permit = deaths.begins(ACTOR, work, is_alone=True)
    return permit is Permit.FREE


def test_only_the_work_that_kills_the_engine_each_time_is_given_up() -> None:
    deaths = EngineDeaths()
    num_deaths = 0
    started(deaths)
    for work in ("good", "bad"):
        assert begins(deaths, work)
    while True:
        deaths.dies(ACTOR, f"CUDA error at 0x{num_deaths:x} with {num_deaths} bytes")
        num_deaths += 1
        started(deaths)
        if begins(deaths, "good"):  # alone: a suspect has no other beside it
            deaths.ends(ACTOR, "good")
        if not begins(deaths, "bad"):
            break
    assert num_deaths == MAX_TRIES
    assert deaths.given_up == {"bad": "CUDA error at 0x2 with 2 bytes"}
    assert begins(deaths, "good")


def test_a_suspect_begins_alone_only() -> None:
    deaths = EngineDeaths()
    started(deaths)
    assert deaths.begins(ACTOR, "one", is_alone=False) is Permit.FREE
    deaths.dies(ACTOR, "a cause")
    started(deaths)
    assert deaths.begins(ACTOR, "one", is_alone=False) is Permit.ALONE
    assert deaths.begins(ACTOR, "one", is_alone=True) is Permit.FREE
    assert deaths.begins(ACTOR, "other", is_alone=False) is Permit.FREE


def test_a_process_that_ends_without_a_word_is_found_when_it_starts_again() -> None:
    deaths = EngineDeaths()
    for _ in range(MAX_TRIES):
        started(deaths)
        assert begins(deaths, "work")
    started(deaths)
    assert not begins(deaths, "work")
    assert deaths.given_up == {"work": KILLED}


def test_deaths_of_different_causes_and_lost_nodes_give_nothing_up() -> None:
    deaths = EngineDeaths()
    for cause in ("one cause", "another", "a third"):
        started(deaths)
        assert begins(deaths, "work")
        deaths.dies(ACTOR, cause)
    for number in range(2 * MAX_TRIES):
        started(deaths, f"node-{number}")
        assert begins(deaths, "work")
    assert deaths.given_up == {}


def test_a_death_that_was_told_is_not_counted_again_at_the_next_start() -> None:
    deaths = EngineDeaths()
    for _ in range(MAX_TRIES - 1):
        started(deaths)
        assert begins(deaths, "work")
        deaths.dies(ACTOR, KILLED)
    started(deaths)
    assert begins(deaths, "work")


def test_an_engine_that_never_gets_ready_is_not_started_for_ever() -> None:
    deaths = EngineDeaths()
    assert [deaths.starts(ACTOR, NODE) for _ in range(MAX_TRIES + 1)] == [True] * MAX_TRIES + [False]
    assert deaths.starts(ACTOR, "another node")
    assert deaths.starts("another actor", NODE)
    deaths.ready(ACTOR)
    assert deaths.starts(ACTOR, "another node"), "it was ready in between"
