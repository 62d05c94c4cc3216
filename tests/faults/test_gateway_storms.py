"""Five hundred calls of fifty jobs at once, before a provider that fails in every way and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fault_world import provider_process
from storm_world import HEALTHY, Storm, gateway_for, port_of, storm

from pop_actors.core.circuit import PROBE_PATIENCE_SECONDS
from pop_actors.core.limits import BURST_SHARE
from pop_actors.core.observations import CircuitChanged
from support.daemon import wait_until
from support.tls_front import TlsFront

HERE = Path(__file__).resolve().parent
JOBS, CALLS = 50, 10
PLACES = 64
MACHINE_SECONDS = 5.0  # what a slow machine may add to a wait
# What a mood answers in the provider's own log, and the mood.
SURVIVED = {
    "refusals that say when": ("fail", "fail-429+after-500ms"),
    "refusals that say nothing": ("fail", "fail-429"),
    "errors": ("fail", "fail-500"),
    "overload": ("fail", "fail-529"),
    "resets": ("reset", "reset"),
    "bodies that end early": ("cut", "cut"),
    "bodies that stop": ("stall", "stall"),
}
NONSENSE = ["garbage", "nochoices", "empty"]


def blow(weather: Storm, mood: str, answer: str, requests: int) -> None:
    """The mood until so many requests have met it, and back; the next request is answered in one probe's time."""
    before = count(weather, answer)
    weather.mood(mood)
    weather.wait_for_arrivals(before + requests, answer)
    back = weather.mood(HEALTHY)
    hold = weather.paused()
    weather.wait_for_arrivals(count(weather, "ok") + 1, "ok")
    first = next(line["at"] for line in weather.arrived() if line["answer"] == "ok" and line["at"] >= back)
    assert first - back <= hold + MACHINE_SECONDS


def count(weather: Storm, answer: str) -> int:
    return sum(line["answer"] == answer for line in weather.arrived())


def test_two_hundred_calls_live_through_an_outage(tmp_path: Path) -> None:
    """Errors only, and back: every call is answered, once, within the provider's places, and no job is left behind."""
    with storm(tmp_path, max_concurrency=PLACES) as weather:
        begun = time.monotonic()
        weather.begin(JOBS, 4)
        weather.wait_for_replies(20)
        blow(weather, "fail-500", "fail", 5)
        assert weather.failures() == []
        weather.check_books()
        weather.check_places(PLACES)
        weather.check_fairness(begun)


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", SURVIVED)
def test_what_may_be_asked_again_is_answered_in_the_end(tmp_path: Path, kind: str) -> None:
    """Whatever it was, twice in a storm: no call is lost, none is bought twice, nobody starves."""
    answer, mood = SURVIVED[kind]
    with storm(tmp_path, max_concurrency=PLACES, idle_seconds=1.0) as weather:
        begun = time.monotonic()
        weather.begin(JOBS, CALLS)
        for replies in (50, 200):
            weather.wait_for_replies(replies)
            blow(weather, mood, answer, 5)
        assert weather.failures() == []
        weather.check_books()
        weather.check_places(PLACES)
        weather.check_fairness(begun)


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("answer", ["unfinished", "streamerror", "streamstall"])
def test_streams_that_break_are_asked_for_again(tmp_path: Path, answer: str) -> None:
    """A stream without its terminator is no reply, however much of it came."""
    with storm(tmp_path, max_concurrency=PLACES, idle_seconds=1.0, stream="always") as weather:
        weather.begin(JOBS, CALLS)
        weather.wait_for_replies(50)
        blow(weather, answer, answer, 5)
        weather.check_books()
        weather.check_places(PLACES)


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize("mood", NONSENSE)
def test_nonsense_fails_those_who_got_it_and_nobody_else(tmp_path: Path, mood: str) -> None:
    """It may have been billed, so it is not asked for again; the rest of the storm goes on."""
    with storm(tmp_path, max_concurrency=PLACES) as weather:
        weather.begin(JOBS, CALLS)
        weather.wait_for_replies(50)
        blow(weather, mood, mood, 5)
        assert {failure.code for failure in weather.failures()} == {"bad_reply"}
        assert len(weather.failures()) == count(weather, mood)
        weather.check_books()
        weather.check_places(PLACES)


@pytest.mark.faults
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("mood", "answer"), [("hole", "hole"), ("drip-1s", "drip")])
def test_silence_costs_the_calls_it_swallows_and_no_others(tmp_path: Path, mood: str, answer: str) -> None:
    """Requests that nobody answers, or a byte a second, end at their deadline; those who come after are answered."""
    with storm(tmp_path, max_concurrency=PLACES) as weather:
        weather.mood(mood)
        weather.begin(10, CALLS, seconds=3.0, prefix="swallowed")
        weather.wait_for_arrivals(PLACES, answer)
        weather.wait_for_observation(CircuitChanged)
        back = weather.mood(HEALTHY)
        after = weather.begin(JOBS, CALLS - 2)
        weather.wait_for_arrivals(1, "ok")
        first = next(line["at"] for line in weather.arrived() if line["answer"] == "ok")
        assert first - back <= PROBE_PATIENCE_SECONDS + MACHINE_SECONDS
        assert {failure.code for failure in weather.failures()} == {"timeout"}
        assert [asked.failure for asked in after if asked.failure is not None] == []
        weather.check_books()
        weather.check_places(PLACES)


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_replies_of_ten_megabytes_pass_among_the_others(tmp_path: Path) -> None:
    """They are answers like any other: written down whole, delivered whole, and nobody starves behind them."""
    with storm(tmp_path, max_concurrency=8) as weather:
        weather.begin(JOBS, 4)
        weather.wait_for_replies(20)
        weather.mood("big-10mb")
        met = weather.begin(4, 1, prefix="big")
        wait_until(lambda: any(asked.answer.done() for asked in met), 60, "a reply among them")
        weather.mood(HEALTHY)
        assert weather.failures() == []
        assert max(len(asked.answer.result()["content"]) for asked in weather.asked) == 10_000_000
        weather.check_books()
        weather.check_places(8)


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_requests_of_a_minute_hold_in_every_window(tmp_path: Path) -> None:
    """1,200 a minute, through refusals that say when and back: no window of the provider's log has more than the
    limit's share of it, the small burst, and a tenth for the way."""
    limit = 1200
    with storm(tmp_path, requests_per_minute=limit) as weather:
        weather.begin(JOBS, CALLS)
        weather.wait_for_replies(100)
        blow(weather, "fail-429+after-500ms", "fail", 5)
        assert weather.failures() == []
        weather.check_books()
        times = [line["at"] for line in weather.arrived()]
        least = min(
            (at - times[first]) * limit / 60 + (BURST_SHARE + 0.1) * limit - (last - first + 1)
            for first in range(len(times))
            for last, at in enumerate(times[first:], first)
        )
        assert least >= 0


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_a_certificate_that_does_not_hold_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS fails before anything is sent: every call is answered when the certificate holds again, and none twice."""
    place = tmp_path / "provider"
    place.mkdir()
    with provider_process(place) as provider, TlsFront(tmp_path, port_of(provider)) as front:
        monkeypatch.setenv("SSL_CERT_FILE", str(front.authority))
        where = f"https://localhost:{front.port}/v1"
        with gateway_for(tmp_path / "gateway", provider, where, max_concurrency=PLACES) as weather:
            begun = time.monotonic()
            weather.begin(JOBS, CALLS)
            weather.wait_for_replies(50)
            front.trust(yes=False)
            weather.wait_for_observation(CircuitChanged)
            front.trust(yes=True)
            assert weather.failures() == []
            weather.check_books()
            weather.check_places(PLACES)
            weather.check_fairness(begun)


@pytest.mark.faults
@pytest.mark.timeout(240)
def test_a_name_that_nobody_knows_is_waited_for(tmp_path: Path) -> None:
    """The resolver fails before anything is sent: every call is answered when it knows the name, and none twice."""
    hosts, resolver, place = tmp_path / "hosts", tmp_path / "resolv.conf", tmp_path / "provider"
    hosts.write_text("127.0.0.1 localhost\n")
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")  # where nobody listens
    mounts = f"mount --bind {hosts} /etc/hosts && mount --bind {resolver} /etc/resolv.conf"
    own_names = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]
    try:
        subprocess.run([*own_names, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"names of one's own need a mount namespace: {error}")
    place.mkdir()
    with provider_process(place) as provider:
        arguments = [hosts, tmp_path / "gateway", port_of(provider), provider.log]
        command = [*own_names, sys.executable, str(HERE / "storm_without_names.py"), *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (HERE.parents[1], HERE.parent, HERE)))}
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
