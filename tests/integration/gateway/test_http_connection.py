"""HTTP over real sockets: whatever a server does with a connection comes to a reply, or to the failure it is."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from pop_actors.core.chat import ChatRequest
from pop_actors.providers.address import address_of
from pop_actors.providers.catalogue import COMPATIBLE, VENDORS
from pop_actors.providers.h11_connection import MAX_HEAD_BYTES, MOST_UNREAD, PIECE, DirectLine, H11Connection
from pop_actors.providers.http_connection import Broken, NotSent
from pop_actors.providers.http_transport import Endpoint, HttpProvider
from pop_actors.providers.prices import Prices
from pop_actors.providers.registry import WIRES
from pop_actors.providers.types import AttemptFailed
from support.daemon import wait_until
from support.provider_server import ProviderServer
from support.raw_server import Peer, RawServer
from support.tls_front import TlsFront

SECONDS = 20.0
KEY = "sk-very-secret-1234567890"
T = TypeVar("T")

BODY = json.dumps(
    {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1}}
).encode()
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SIZED = b"Content-Length: %d\r\n\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
PLAIN = OK + SIZED + BODY


def chunks(body: bytes, size: int = 7) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x;why=not\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def packed(body: bytes, wbits: int) -> bytes:
    press = zlib.compressobj(wbits=wbits)
    return press.compress(body) + press.flush()


def coded(name: bytes, body: bytes) -> bytes:
    return OK + b"Content-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s" % (name, len(body), body)


def answering(*answers: bytes) -> Callable[[Peer], None]:
    """One answer to each request of a connection, and then its end."""

    def serve(peer: Peer) -> None:
        for answer in answers:
            if peer.request() is None:
                return
            peer.say(answer)

    return serve


def with_provider(
    base_url: str, use: Callable[[HttpProvider], Awaitable[T]], *, vendor: str | None = None, **how: Any
) -> T:
    async def run() -> T:
        known = VENDORS[vendor] if vendor else COMPATIBLE["openai"]
        idle = how.pop("idle", 10.0)
        provider = HttpProvider(Endpoint("mine", base_url, SecretStr(KEY), known, idle, **how), wire, Prices(None))
        try:
            return await use(provider)
        finally:
            await provider.close()

    wire = WIRES["openai", "chat"]
    return asyncio.run(run())


def ask(provider: HttpProvider, text: str = "hello", seconds: float = SECONDS) -> Awaitable[Any]:
    request = ChatRequest.model_validate({"messages": [{"role": "user", "content": text}]})
    return provider.chat(request, "m", asyncio.get_running_loop().time() + seconds)


def said(script: Callable[[Peer], None], text: str = "hello", seconds: float = SECONDS, **how: Any) -> str:
    """The content that one call gets."""
    with RawServer(script) as server:
        return str(with_provider(server.base_url, lambda provider: ask(provider, text, seconds), **how).content)


def failure(script: Callable[[Peer], None], text: str = "hello", seconds: float = SECONDS, **how: Any) -> AttemptFailed:
    with pytest.raises(AttemptFailed) as failed:
        said(script, text, seconds, **how)
    return failed.value


@pytest.mark.parametrize(
    "answer",
    {
        "with a length": PLAIN,
        "in chunks, with extensions and trailers": OK + CHUNKED + chunks(BODY) + b"0\r\nX-After: all\r\n\r\n",
        "until the end, as HTTP/1.0 has it": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
        "until the end, without a length": OK + b"\r\n" + BODY,
        "after a 100 and a 103": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + PLAIN,
        "with a header twice": OK + b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n" + SIZED + BODY,
        "with odd cases and spaces": b"HTTP/1.1 200 \r\ncOnTeNt-LeNgTh:   %d  \r\n\r\n" % len(BODY) + BODY,
        "with no phrase, and bytes that are no ASCII": b"HTTP/1.1 200\r\nX: \xff\xe9\r\n" + SIZED + BODY,
        "and an end of the connection": OK + b"Connection: close\r\n" + SIZED + BODY,
        "packed as gzip, unasked": coded(b"gzip", gzip.compress(BODY)),
        "packed as deflate": coded(b"deflate", packed(BODY, zlib.MAX_WBITS)),
        "packed as bare deflate": coded(b"Deflate", packed(BODY, -zlib.MAX_WBITS)),
        "not packed, and says so": coded(b"identity", BODY),
    }.items(),
    ids=lambda item: item[0],
)
def test_a_reply_is_understood(answer: tuple[str, bytes]) -> None:
    """In all the ways HTTP has to say it, and some it has not."""
    assert said(answering(answer[1])) == "hello"


@pytest.mark.parametrize("size", [1, 3])
def test_cuts_make_no_difference(size: int) -> None:
    """A reply that comes byte by byte is the same reply."""
    answer = OK + CHUNKED + chunks(BODY) + b"0\r\n\r\n"

    def drip(peer: Peer) -> None:
        peer.request()
        for at in range(0, len(answer), size):
            peer.say(answer[at : at + size])

    assert said(drip) == "hello"


LOST = ("disconnected", "ambiguous")
NONSENSE = ("bad_reply", "permanent")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b"", LOST, id="nothing"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x46", LOST, id="TLS's alert"),
        pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", LOST, id="another protocol"),
        pytest.param(b"HTTP/1.1 OK\r\n\r\n", LOST, id="no status"),
        pytest.param(OK, LOST, id="half a head"),
        pytest.param(OK + b"no colon\r\n\r\n", LOST, id="a header that is none"),
        pytest.param(OK + b"X: " + b"x" * MAX_HEAD_BYTES, LOST, id="a head without end"),
        pytest.param(OK + SIZED + BODY[:-1], LOST, id="a body that ends early"),
        pytest.param(OK + CHUNKED + chunks(BODY), LOST, id="chunks that end early"),
        pytest.param(OK + CHUNKED + b"zz\r\n", LOST, id="a chunk of no size"),
        pytest.param(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", LOST, id="two lengths"),
        pytest.param(OK + b"Transfer-Encoding: br\r\n\r\n", LOST, id="an unknown transfer"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", LOST, id="another protocol, politely"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", NONSENSE, id="no content"),
        pytest.param(b"HTTP/1.0 200 OK\r\n\r\n" + BODY[:-1], NONSENSE, id="an end that says nothing, too early"),
        pytest.param(coded(b"gzip", BODY), NONSENSE, id="packed, it says"),
        pytest.param(coded(b"gzip", gzip.compress(b"x" * 2**28)), NONSENSE, id="a bomb"),
        pytest.param(coded(b"zstd", b"\x28\xb5\x2f\xfd"), NONSENSE, id="packed in an unknown way"),
    ],
)
def test_what_is_no_reply_is_a_failure(answer: bytes, expected: tuple[str, str]) -> None:
    """The request may have been worked on; where the reply came whole and means nothing, it would be the same again."""
    failed = failure(answering(answer))
    assert (failed.code, failed.fate) == expected


def test_a_request_is_what_servers_expect() -> None:
    """Its first line, and each header once."""

    def noting(peer: Peer) -> None:
        server.heads.append((peer.request() or (b"",))[0])
        peer.say(PLAIN)

    with RawServer(noting) as server:
        with_provider(server.base_url, ask, headers={"x-title": SecretStr("mine"), "user-agent": SecretStr("me/1")})
        first, *lines = server.heads[0].decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert len(headers) == len(lines)
    assert headers.pop("content-length").isdecimal()
    assert headers == {
        "host": f"127.0.0.1:{server.port}",
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": f"Bearer {KEY}",
        "x-title": "mine",
        "user-agent": "me/1",
    }


def test_a_header_that_cannot_be_sent_is_named_and_not_shown() -> None:
    """Before anything is sent, and for good."""
    with RawServer(answering(PLAIN)) as server, pytest.raises(AttemptFailed, match="x-title") as failed:
        with_provider(server.base_url, ask, headers={"x-title": SecretStr("a secret\nof two lines")})
    assert (failed.value.code, failed.value.fate) == ("connect", "permanent")
    assert "secret" not in str(failed.value)


def test_who_hangs_up_politely_is_asked_on_another_connection() -> None:
    """`Connection: close` is heeded."""
    with RawServer(answering(OK + b"Connection: close\r\n" + SIZED + BODY, PLAIN)) as server:

        async def twice(provider: HttpProvider) -> None:
            for _ in range(2):
                await ask(provider)

        with_provider(server.base_url, twice)
        assert server.opened == 2


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
@pytest.mark.parametrize("is_heard", [True, False])
def test_a_server_that_hung_up_meanwhile_costs_nothing(farewell: bytes, is_heard: bool) -> None:
    """With or without a word; and whether the loop has heard of it yet or not."""
    gone = threading.Event()

    def once(peer: Peer) -> None:
        answering(PLAIN)(peer)
        peer.say(farewell)
        peer.wire.close()
        gone.set()

    async def twice(provider: HttpProvider) -> None:
        await ask(provider)
        if is_heard:
            await asyncio.to_thread(gone.wait, SECONDS)
        else:
            gone.wait(SECONDS)  # the loop stands still meanwhile, and hears nothing
        assert (await ask(provider)).content == "hello"

    with RawServer(once) as server:
        with_provider(server.base_url, twice)
        assert server.opened == 2


def test_what_a_server_says_unasked_is_no_answer_to_what_is_asked_later() -> None:
    """A connection with bytes left over serves nobody else."""
    with RawServer(answering(PLAIN + PLAIN.replace(b"hello", b"wrong"))) as server:

        async def twice(provider: HttpProvider) -> list[str]:
            return [(await ask(provider)).content for _ in range(2)]

        assert with_provider(server.base_url, twice) == ["hello", "hello"]
        assert server.opened == 2


def test_a_refusal_with_its_body_leaves_the_connection_to_the_next() -> None:
    """It is an answer like any other."""
    refusal = b"HTTP/1.1 429 No\r\nContent-Length: 2\r\n\r\n{}"
    with RawServer(answering(refusal, PLAIN)) as server:

        async def twice(provider: HttpProvider) -> str:
            with pytest.raises(AttemptFailed):
                await ask(provider)
            return str((await ask(provider)).content)

        assert with_provider(server.base_url, twice) == "hello"
        assert server.opened == 1


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (PLAIN[:-3], "closed the connection before its reply was whole"),
        (OK + CHUNKED + chunks(BODY), "closed the connection before its reply was whole"),
        (OK[:20], "closed the connection before it replied"),
        (b"", "closed the connection before it replied"),
        (b"HTTP/9 what\r\n\r\n", "what came is no HTTP"),
    ],
)
def test_an_end_that_comes_too_soon_is_called_that(answer: bytes, why: str) -> None:
    """And not taken for bytes that are no HTTP."""
    failed = failure(answering(answer))
    assert failed.code == "disconnected"
    assert why in failed.message


def test_a_cancelled_call_hangs_up_at_once() -> None:
    """The server hears it, and need not work on."""
    asked, left = threading.Event(), threading.Event()

    def hold(peer: Peer) -> None:
        peer.request()
        asked.set()
        peer.wait_for_the_end()
        left.set()

    async def cancelled(provider: HttpProvider) -> None:
        call = asyncio.ensure_future(ask(provider))
        await asyncio.to_thread(asked.wait, SECONDS)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(left.wait, SECONDS)

    with RawServer(hold) as server:
        with_provider(server.base_url, cancelled)


def test_a_reply_that_nobody_waits_for_any_more_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is here whole at the very moment its call is cancelled: the next call gets its own."""
    words = iter(["the first", "the second"])
    calls: list[asyncio.Task[Any]] = []
    received = H11Connection.data_received

    def cancelled_as_it_comes(connection: H11Connection, data: bytes) -> None:
        received(connection, data)
        calls[-1].cancel()
        monkeypatch.undo()

    def serve(peer: Peer) -> None:
        while peer.request() is not None:
            body = BODY.replace(b"hello", next(words).encode())
            peer.say(OK + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    async def use(provider: HttpProvider) -> str:
        calls.append(asyncio.ensure_future(ask(provider)))
        with pytest.raises(asyncio.CancelledError):
            await calls[-1]
        return str((await ask(provider)).content)

    monkeypatch.setattr(H11Connection, "data_received", cancelled_as_it_comes)
    with RawServer(serve) as server:
        assert with_provider(server.base_url, use) == "the second"


def test_what_a_stream_told_of_its_bill_is_kept_when_the_rest_cannot_be_unpacked() -> None:
    """It was billed, whatever came behind it."""
    bill = b'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}\n\n'
    press = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    body = press.compress(bill + b": still here\n" * 100_000) + press.flush(zlib.Z_SYNC_FLUSH) + b"\xff" * 64
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n"
    lost = failure(answering(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body)), stream="always")
    assert (lost.code, lost.fate) == NONSENSE
    assert lost.usage is not None
    assert (lost.usage.input_tokens, lost.usage.output_tokens) == (5, 7)


# What takes its time


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_a_deadline_that_has_passed_sends_nothing(seconds: float) -> None:
    """Nothing is paid for a reply that nobody can wait for."""
    with RawServer(answering(PLAIN)) as server:
        with pytest.raises(AttemptFailed) as failed:
            with_provider(server.base_url, lambda provider: ask(provider, seconds=seconds))
        assert (failed.value.code, failed.value.fate) == ("timeout", "never_sent")
        assert server.opened == 0


def hole(peer: Peer) -> None:
    """Answers once, and nobody after that."""
    answering(PLAIN)(peer)
    peer.request()
    peer.wait_for_the_end()


def silence(seconds: float, idle: float, vendor: str | None, stream: Any) -> AttemptFailed:
    """How a call fails that nobody answers."""

    async def twice(provider: HttpProvider) -> None:
        await ask(provider)
        await ask(provider, seconds=seconds)

    with RawServer(hole) as server, pytest.raises(AttemptFailed) as failed:
        with_provider(server.base_url, twice, vendor=vendor, stream=stream, idle=idle)
    return failed.value


def test_silence_of_a_vendor_that_is_never_silent_ends_by_the_idle_time() -> None:
    """Before the head as after it: a server that takes requests and answers none does not keep its place."""
    failed = silence(SECONDS, 0.3, "deepseek", "always")
    assert (failed.code, failed.fate) == ("timeout", "ambiguous")
    assert "0.3 s" in failed.message


@pytest.mark.parametrize(("vendor", "stream"), [(None, "always"), (None, "never"), ("deepseek", "never")])
def test_silence_of_others_may_be_thought(vendor: str | None, stream: Any) -> None:
    """Only the deadline ends it."""
    failed = silence(0.5, 0.1, vendor, stream)
    assert (failed.code, failed.fate) == ("timeout", "ambiguous")
    assert "deadline" in failed.message


LONG = "x" * 20_000_000


def test_a_large_request_arrives_whole_at_a_server_that_reads_slowly() -> None:
    """Twenty megabytes, taken in small pieces; each piece is a sign of life."""
    length = 0

    def slow(peer: Peer) -> None:
        nonlocal length
        head = peer.head() or b""
        length = len(peer.body(head))
        peer.say(PLAIN)

    assert said(slow, LONG, idle=5.0) == "hello"
    assert length > len(LONG)


@pytest.mark.parametrize(
    ("idle", "seconds", "why"), [(0.3, SECONDS, "did not take the request"), (SECONDS, 1.5, "deadline")]
)
def test_a_server_that_stops_reading_is_given_up(idle: float, seconds: float, why: str) -> None:
    """After the idle time, for nobody thinks before having been asked; and by the deadline in any case."""
    over = threading.Event()
    with RawServer(lambda peer: (peer.head(), over.wait(SECONDS), None)[2]) as server:
        with pytest.raises(AttemptFailed, match=why) as failed:
            with_provider(server.base_url, lambda provider: ask(provider, LONG, seconds), idle=idle)
        over.set()
    assert (failed.value.code, failed.value.fate) == ("timeout", "ambiguous")


@pytest.mark.parametrize("is_rude", [False, True])
def test_a_refusal_is_heard_in_the_middle_of_a_large_request(is_rude: bool) -> None:
    """The rest is not sent."""
    refusal = b'HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 30\r\n\r\n{"error": {"message": "huge"}}'

    def refuse(peer: Peer) -> None:
        peer.head()
        peer.say(refusal)
        if not is_rude:
            peer.wait_for_the_end()

    failed = failure(refuse, LONG)
    assert (failed.code, failed.fate) == ("bad_request", "permanent")
    assert "huge" in failed.message


def on_one_connection(server: RawServer, use: Callable[[H11Connection], Awaitable[T]]) -> T:
    async def run() -> T:
        line = DirectLine(address_of(server.base_url), None)
        connection = await line.open(asyncio.get_running_loop().time() + SECONDS)
        try:
            return await asyncio.wait_for(use(connection), SECONDS)
        finally:
            connection.abort()
            await connection.closed()

    return asyncio.run(run())


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():  # noqa: ASYNC110  # what the loop does to a connection sets no event
        await asyncio.sleep(0)


def headers(length: int) -> list[tuple[bytes, bytes]]:
    return [(b"host", b"x"), (b"content-length", b"%d" % length)]


def test_a_request_nothing_of_which_was_taken_was_not_sent() -> None:
    """The server reset the connection before: this one may be made again without regret."""
    made, gone = threading.Event(), threading.Event()

    def reset(peer: Peer) -> None:
        made.wait(SECONDS)
        peer.reset()
        gone.set()

    async def post(connection: H11Connection) -> None:
        made.set()
        gone.wait(SECONDS)  # the loop hears nothing of it
        with pytest.raises(NotSent):
            await connection.post("/", headers(1), b"x")

    with RawServer(reset) as server:
        on_one_connection(server, post)


def test_a_reply_that_nobody_takes_is_not_read_into_memory() -> None:
    """Beyond its bound the server waits; when it is taken, it comes whole."""
    size = 64 * 2**20
    sent = 0

    def pour(peer: Peer) -> None:
        nonlocal sent
        peer.request()
        peer.say(OK + b"Content-Length: %d\r\n\r\n" % size)
        for _ in range(size // 65536):
            peer.say(b"x" * 65536)
            sent += 65536

    async def take(connection: H11Connection) -> int:
        await connection.post("/", headers(1), b"x")
        await until(lambda: not connection._transport.is_reading())
        assert connection._unread < MOST_UNREAD + 2**20
        taken = 0
        while chunk := await connection.chunk():
            taken += len(chunk)
        return taken

    with RawServer(pour) as server:
        assert on_one_connection(server, take) == size


def test_a_request_is_not_copied_into_a_buffer_before_a_slow_server() -> None:
    """What waits to be written has a bound."""
    over = threading.Event()

    async def post(connection: H11Connection) -> None:
        posting = asyncio.ensure_future(connection.post("/", headers(len(LONG)), LONG.encode()))
        await until(lambda: not connection._may_write)
        assert connection.is_sending
        assert connection._transport.get_write_buffer_size() <= 2 * PIECE
        connection.abort()
        with pytest.raises(Broken):
            await posting

    with RawServer(lambda peer: (over.wait(SECONDS), None)[1]) as server:
        on_one_connection(server, post)
        over.set()


def test_tls_is_spoken_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three calls, one handshake, with a certificate that the environment's file vouches for."""
    with ProviderServer() as server, TlsFront(tmp_path, server.port) as front:
        monkeypatch.setenv("SSL_CERT_FILE", str(front.authority))

        async def thrice(provider: HttpProvider) -> list[str]:
            return [(await ask(provider)).content for _ in range(3)]

        assert all(with_provider(f"https://localhost:{front.port}/v1", thrice))
        assert front.handshakes == 1


def test_ten_megabytes_pass_through_tls_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds hold behind TLS as before it."""
    with ProviderServer() as server, TlsFront(tmp_path, server.port) as front:
        monkeypatch.setenv("SSL_CERT_FILE", str(front.authority))
        server.mood = "big-10mb"
        reply = with_provider(
            f"https://localhost:{front.port}/v1", lambda provider: ask(provider, LONG[: len(LONG) // 2])
        )
        assert len(reply.content) == 10_000_000


def test_no_certificate_file_is_said_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is for a person to mend."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    with pytest.raises(AttemptFailed) as failed:
        with_provider("https://localhost:1/v1", ask)
    assert (failed.value.code, failed.value.fate) == ("connect", "permanent")


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1/v1", "http://no-such-host.invalid/v1"])
def test_nobody_there_means_nothing_was_sent(base_url: str) -> None:
    """No server, or no such name."""
    with pytest.raises(AttemptFailed) as failed:
        with_provider(base_url, ask)
    assert (failed.value.code, failed.value.fate) == ("connect", "never_sent")


def test_every_connection_is_closed_when_the_provider_is() -> None:
    """After `close`, the server has none open."""
    with RawServer(answering(PLAIN, PLAIN, PLAIN)) as server:

        async def many(provider: HttpProvider) -> None:
            await asyncio.gather(*(ask(provider) for _ in range(10)))

        with_provider(server.base_url, many)
        wait_until(lambda: server.open == 0, SECONDS)
