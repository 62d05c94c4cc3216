"""What a request gets back: envelopes, statuses, and who may change something from where."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pop_actors.core import events as e
from support.memory_control import AT, Service


def refused(reply: httpx2.Response, status: int, code: str) -> str:
    """The message of a fault of this status and code."""
    document = reply.json()
    assert (reply.status_code, document["ok"], document["code"]) == (status, False, code)
    assert document["message"]
    return str(document["message"])


@pytest.mark.parametrize("name", ["tree", "gateway", "state", "meta", "concurrency", "pipelines", "runs", "jobs"])
def test_every_reading_route_answers_in_the_envelope(tcp: httpx2.Client, name: str) -> None:
    """Programs can read every answer the same way."""
    reply = tcp.get(f"/api/{name}")
    assert reply.status_code == 200
    assert reply.json()["ok"] is True
    assert "data" in reply.json()


def test_a_job_is_its_status_document(service: Service, unix: httpx2.Client) -> None:
    """`data` of a job has the shape of tasks-status.json."""
    service.control.create("job-1")
    assert unix.get("/api/jobs/job-1").json()["data"] == service.control.documents["job-1"]


def test_the_list_leaves_out_finished_jobs_unless_asked(service: Service, unix: httpx2.Client) -> None:
    """`all=true` and `state=done` bring finished jobs back."""
    service.control.create("open")
    service.control.create("closed")
    service.control.happen("closed", e.JobDone(at=AT))

    def ids(**query: str) -> list[str]:
        return [job["id"] for job in unix.get("/api/jobs", params=query).json()["data"]]

    assert ids() == ["open"]
    assert ids(all="true") == ["open", "closed"]
    assert ids(state="done") == ["closed"]


@pytest.mark.parametrize(
    "path", ["/api/jobs/nope", "/api/jobs/..%2Fetc", "/api/pipelines/nope", "/nowhere", "/api/jobs/nope/tasks/a/files"]
)
def test_what_is_not_there_is_a_404_in_the_envelope(tcp: httpx2.Client, path: str) -> None:
    """Unknown jobs, pipelines and routes are told alike."""
    refused(tcp.get(path), 404, "not_found")


@pytest.mark.parametrize("query", ["state=bogus", "limit=0", "limit=x"])
def test_a_wrong_query_is_a_422_that_names_it(tcp: httpx2.Client, query: str) -> None:
    """The message says which parameter is wrong."""
    assert query.partition("=")[0] in refused(tcp.get(f"/api/jobs?{query}"), 422, "invalid_request")


def test_a_wrong_method_is_a_405_in_the_envelope(unix: httpx2.Client) -> None:
    """Also what the framework refuses by itself comes in the envelope."""
    refused(unix.delete("/api/jobs"), 405, "method_not_allowed")


def test_tcp_only_reads(service: Service, tcp: httpx2.Client) -> None:
    """Whoever reaches the port cannot change anything unless http.allow_mutations says so."""
    service.control.create("job-1")
    for path in ("/api/jobs", "/api/jobs/job-1/stop", "/api/service/shutdown"):
        refused(tcp.post(path, content=b"{}"), 403, "read_only")
    assert service.control.orders == []


def test_tcp_changes_things_where_the_settings_allow_it(tmp_path: Path) -> None:
    """http.allow_mutations opens the port for orders."""
    with Service(tmp_path / "root", allow_mutations=True) as service:
        reply = httpx2.post(f"http://127.0.0.1:{service.server.port}/api/service/pause", trust_env=False)
        assert (reply.status_code, service.control.orders) == (200, [("pause",)])


def test_a_page_of_another_origin_may_not_order_anything(tmp_path: Path) -> None:
    """A browser that is led to post here is turned away, also where mutations are allowed."""
    with Service(tmp_path / "root", allow_mutations=True) as service:
        url = f"http://127.0.0.1:{service.server.port}/api/service/shutdown"
        for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
            refused(httpx2.post(url, headers={"Origin": origin}, trust_env=False), 403, "forbidden")
        assert service.control.orders == []


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:4000", "127.0.0.1.evil.example", "192.168.0.1", "[::2]"]
)
def test_a_foreign_host_header_is_turned_away(tcp: httpx2.Client, host: str) -> None:
    """A name that was bound to this address by somebody else reads nothing."""
    refused(tcp.get("/api/state", headers={"Host": host}), 403, "forbidden")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:99", "127.0.0.1", "127.9.9.9:4000", "[::1]:4000"])
def test_every_loopback_host_header_is_welcome(tcp: httpx2.Client, host: str) -> None:
    """All names of this machine itself are fine."""
    assert tcp.get("/api/state", headers={"Host": host}).status_code == 200


def test_the_unix_socket_takes_orders(service: Service, unix: httpx2.Client) -> None:
    """Every order reaches the daemon, with its arguments."""
    service.control.create("job-1")
    unix.post("/api/jobs", params={"jobId": "mine"}, content=b'{"data": {}}').raise_for_status()
    unix.post("/api/jobs/job-1/stop").raise_for_status()
    unix.post("/api/jobs/job-1/restart", json={"from": "write", "only": True}).raise_for_status()
    unix.post("/api/jobs/job-1/restart").raise_for_status()
    for order in ("pause", "resume", "reload", "shutdown"):
        unix.post(f"/api/service/{order}").raise_for_status()
    assert service.control.orders == [
        ("submit", b'{"data": {}}', "mine"),
        ("stop", "job-1"),
        ("restart", "job-1", "write", True),
        ("restart", "job-1", None, False),
        ("pause",),
        ("resume",),
        ("reload",),
        ("shutdown",),
    ]


def test_a_declared_no_becomes_a_conflict(service: Service, unix: httpx2.Client) -> None:
    """What the daemon refuses keeps its code and message."""
    service.control.create("job-1")
    service.control.happen("job-1", e.JobStarted(at=AT, pid=1))
    assert "stop it first" in refused(unix.post("/api/jobs/job-1/restart"), 409, "wrong_state")


def test_a_decision_reaches_the_daemon_whole(service: Service, unix: httpx2.Client) -> None:
    """With its note and the task it is meant for; without a gate, or with words that are no decision, it is refused."""
    service.control.create("job-1")
    place = "/api/jobs/job-1/gate"
    refused(unix.post(place, json={"decision": "approve"}), 409, "not_waiting")
    service.control.happen("job-1", e.JobWaiting(at=AT, task="draft"))
    for body in ({}, {"decision": "perhaps"}, {"decision": "approve", "note": 3}, {"decision": "approve", "why": "x"}):
        refused(unix.post(place, json=body), 422, "invalid_request")
    reply = unix.post(place, json={"decision": "approve", "note": "fine", "task": "draft"})
    assert reply.json()["data"] == {"id": "job-1", "state": "pending"}
    unix.post(place, json={"decision": "reject"}).raise_for_status()
    assert service.control.orders == [("gate", "job-1", True, "fine", "draft"), ("gate", "job-1", False, "", None)]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"from": 5}', 422, "invalid_request"),
        (b'{"bogus": true}', 422, "invalid_request"),
        (b'{"only": true}', 422, "invalid_request"),
    ],
)
def test_a_bad_body_is_told_what_is_wrong(
    service: Service, unix: httpx2.Client, body: bytes, status: int, code: str
) -> None:
    """Not JSON is a 400, a wrong shape a 422, both in the envelope."""
    service.control.create("job-1")
    headers = {"content-type": "application/json"}
    refused(unix.post("/api/jobs/job-1/restart", content=body, headers=headers), status, code)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_a_413(service: Service, unix: httpx2.Client, chunked: bool) -> None:
    """Whether its length is announced or not; the answer arrives, and the daemon never sees the body."""
    body: Any = (b"x" * 65536 for _ in range(64)) if chunked else b"x" * 4_000_000
    assert "seed_max_bytes" in refused(unix.post("/api/jobs", content=body), 413, "too_large")
    assert service.control.orders == []
    assert unix.get("/healthz").status_code == 200


def test_a_file_is_read_in_pieces_that_never_cut_a_character(service: Service, unix: httpx2.Client) -> None:
    """Joined, the pieces are the file."""
    service.control.create("job-1")
    text = "a" + "é" * 700_000
    service.control.write_file("job-1", "research", "logs", "research-parsing.log", text.encode())
    pieces, offset, size = [], 0, 1
    while offset < size:
        query: dict[str, Any] = {"type": "logs", "filename": "research-parsing.log", "offset": offset}
        data = unix.get("/api/jobs/job-1/tasks/research/file", params=query).json()["data"]
        assert data["encoding"] == "utf8"
        pieces.append(data["content"])
        offset, size = data["nextOffset"], data["size"]
    assert len(pieces) > 1
    assert "".join(pieces) == text


def test_files_are_listed_and_bytes_come_as_base64(service: Service, unix: httpx2.Client) -> None:
    """A picture is not mangled into text."""
    service.control.create("job-1")
    service.control.write_file("job-1", "research", "artifacts", "plot.png", b"\x89PNG\xff")
    listed = unix.get("/api/jobs/job-1/tasks/research/files?type=artifacts").json()["data"]["files"]
    assert [(one["name"], one["size"], one["mime"]) for one in listed] == [("plot.png", 5, "image/png")]
    data = unix.get("/api/jobs/job-1/tasks/research/file?type=artifacts&filename=plot.png").json()["data"]
    assert (data["encoding"], data["content"]) == ("base64", "iVBOR/8=")


@pytest.mark.parametrize("name", ["../../../outside", "/etc/passwd", "link", "pipe", "folder"])
def test_nothing_but_regular_files_of_the_job_is_read(service: Service, tcp: httpx2.Client, name: str) -> None:
    """Paths that leave the job, links that do, and what is no file at all are not there."""
    service.control.create("job-1")
    inside = service.control.write_file("job-1", "research", "artifacts", "fine.txt", b"fine").parent
    (service.workspace.current / "outside").write_text("secret")
    (inside / "link").symlink_to("/etc/passwd")
    (inside / "folder").mkdir()
    os.mkfifo(inside / "pipe")
    query = {"type": "artifacts", "filename": name}
    refused(tcp.get("/api/jobs/job-1/tasks/research/file", params=query), 404, "not_found")


def test_an_unknown_kind_of_file_is_refused(service: Service, unix: httpx2.Client) -> None:
    """`type` is artifacts, logs or tmp."""
    service.control.create("job-1")
    refused(unix.get("/api/jobs/job-1/tasks/research/files?type=secrets"), 422, "invalid_request")


def test_health_and_readiness_give_their_reasons(service: Service, tcp: httpx2.Client) -> None:
    """503 and every reason; 200 when there is none."""
    assert (tcp.get("/healthz").status_code, tcp.get("/readyz").status_code) == (200, 200)
    service.control.reasons = ["gateway is down", "disk is full"]
    assert "gateway is down; disk is full" in refused(tcp.get("/readyz"), 503, "unready")
    assert tcp.get("/healthz").json()["reasons"] == ["gateway is down", "disk is full"]


def test_health_answers_while_every_other_call_hangs(service: Service, tcp: httpx2.Client, unix: httpx2.Client) -> None:
    """Busy worker threads are no illness."""
    service.control.hold.clear()
    hung = [httpx2.Client(base_url=f"http://127.0.0.1:{service.server.port}", trust_env=False) for _ in range(6)]
    try:
        for client in hung:
            with pytest.raises(httpx2.ReadTimeout):
                client.get("/api/jobs", timeout=0.05)
        assert tcp.get("/healthz").status_code == 200
    finally:
        service.control.hold.set()
        for client in hung:
            client.close()


def test_the_page_is_self_contained_and_fenced_in(tcp: httpx2.Client) -> None:
    """Nothing is loaded from elsewhere, and only its own script runs."""
    reply = tcp.get("/")
    policy = reply.headers["content-security-policy"]
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert reply.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in policy
    assert f'<script nonce="{nonce}">' in reply.text
    assert "innerHTML" not in reply.text
    assert "http://" not in reply.text
    assert "https://" not in reply.text
    assert tcp.get("/").headers["content-security-policy"] != policy


def test_the_openapi_document_lists_the_contracts_routes(tcp: httpx2.Client) -> None:
    """Programs find every route there."""
    paths = tcp.get("/openapi.json").json()["paths"]
    assert {"/api/jobs", "/api/jobs/{job_id}", "/api/events", "/api/jobs/{job_id}/restart", "/metrics"} <= paths.keys()
    assert "/api/service/pause" in paths


def test_metrics_are_served_as_prometheus_text(service: Service, tcp: httpx2.Client) -> None:
    """The scrape samples the daemon's gauges."""
    service.control.create("job-1")
    reply = tcp.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'pop_jobs{state="running"} 1.0' in reply.text
    assert "job-1" not in reply.text


def test_limits_are_set_and_providers_probed_over_the_socket(service: Service, unix: httpx2.Client) -> None:
    """What the daemon answers comes back; what it refuses has its code and status."""
    body = {"provider": "offline", "limits": {"requests_per_minute": 60, "tokens_per_minute": None}}
    reply = unix.post("/api/service/gateway/set", json=body)
    assert reply.json()["data"] == {"requestsPerMinute": 60}
    assert len(unix.post("/api/service/gateway/probe").json()["data"]) == 2
    assert len(unix.post("/api/service/gateway/probe", json={"provider": "openai"}).json()["data"]) == 1
    assert service.control.orders[-3:] == [
        ("set_limits", "offline", body["limits"]),
        ("probe", None),
        ("probe", "openai"),
    ]
    refused(unix.post("/api/service/gateway/set", json={**body, "provider": "nobody"}), 422, "unknown_provider")


@pytest.mark.parametrize(
    "body",
    [{}, {"provider": "offline"}, {"provider": "offline", "limits": {}}, {"provider": "", "limits": {"a": 1}},
     {"provider": "offline", "limits": {"a": "1"}}, {"provider": "offline", "limits": {"a": 1}, "more": 1}],
)  # fmt: skip
def test_an_order_for_limits_that_is_none_is_refused(
    service: Service, unix: httpx2.Client, body: dict[str, Any]
) -> None:
    """Nothing reaches the daemon."""
    refused(unix.post("/api/service/gateway/set", json=body), 422, "invalid_request")
    assert service.control.orders == []


@pytest.mark.parametrize("path", ["set", "probe"])
def test_loopback_neither_sets_limits_nor_spends_money(service: Service, tcp: httpx2.Client, path: str) -> None:
    """It reads budgets, as everything else."""
    refused(tcp.post(f"/api/service/gateway/{path}", json={}), 403, "read_only")
    assert service.control.orders == []
    assert tcp.get("/api/gateway/budgets").json()["data"][0]["scope"] == "global"
