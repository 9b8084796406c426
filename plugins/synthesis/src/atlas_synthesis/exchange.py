"""One exchange with a server: one upload over a new connection, the bytes of both ways, and its end.

The rules of one upload and one answer are held here, for every client alike:

1. A connection that fails before the server has sent a byte is tried again, at most `TRIES` times in all;
   each try is journaled and has a client and a connection of its own. A stall is no such failure: the
   server has the upload and may be at work.
2. Once a byte of an answer has come, the package is never sent again, by this attempt or a later one.
3. Redirects are not followed, bodies are capped, and what is raised holds no key: errors are told in our
   words, with the library's own text scrubbed, and without the chain of exceptions behind them.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any, TypeVar
from urllib.parse import urlsplit

from attrs import define, field, frozen

from atlas.contracts import Interaction, Package
from atlas.errors import InstrumentFailed
from atlas_synthesis.package import token_estimate
from atlas_synthesis.secret import Secret

__all__ = ["LARGEST_BODY", "TRIES", "Endpoint", "Unreadable", "Wire", "exchange", "recording"]

TRIES = 3
PAUSE_S = 0.5
LARGEST_BODY = 8 * 2**20
"""Bytes of a response beyond which it is given up: four times the largest answer, for JSON's escapes."""
_LARGEST_COMPLAINT = 2**16

T = TypeVar("T")
_NOT_SENT_AGAIN = 'atlas skip RUN STEP --reason "...": a package is uploaded once, and its answer has begun'
_RETRIED = ("ConnectError", "ConnectTimeout", "ReadError", "WriteError", "RemoteProtocolError")
_REMEDIES = {
    401: "check the key in the variable that `key_from` names, then atlas resume",
    403: "check the key in the variable that `key_from` names, then atlas resume",
    404: "check `base_url` and `model`",
    429: "wait, then atlas resume",
}


class Unreadable(Exception):
    """A response that is not what the interface promises; the text says how."""


class _Stopped(Exception):
    """A body that is too long or took too long; the text says which."""


@frozen
class Endpoint:
    """Where a package goes.

    Attributes:
        url: Base URL, without key, query or fragment.
        timeout_s: Seconds of silence, and of the whole answer, after which it is given up.
        secret: The key.
    """

    url: str
    timeout_s: float
    secret: Secret

    @property
    def loopback(self) -> bool:
        """Whether it is on this machine, which no proxy of the environment leads to."""
        host = urlsplit(self.url).hostname or ""
        return host in ("localhost", "::1") or host.startswith("127.")


@define
class Wire:
    """What went over the connection of one try.

    Attributes:
        request: Body of the request.
        status: HTTP status, or None while nothing has come.
        body: Body of the response as far as it came, decoded.
        complete: Whether all of it came.
    """

    request: bytes = b""
    status: int | None = None
    body: bytearray = field(factory=bytearray)
    complete: bool = False

    @property
    def answered(self) -> bool:
        """Whether the server said that its body is an answer."""
        return self.status is not None and 200 <= self.status < 300


def recording(base: Any, endpoint: Endpoint, wire: Wire, begun: Callable[[str], None]) -> Any:
    """Return an HTTP client of the library that `base` belongs to, whose exchange `wire` records.

    Args:
        base: `httpx.Client`, of whichever version the official client uses.
        endpoint: Where it connects to.
        wire: Filled while it sends.
        begun: Told once, when the first byte of an answer has come.
    """

    class Recording(base):  # type: ignore[misc] # the base is known at run time only
        def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
            request.headers["accept-encoding"] = "identity"
            wire.request = request.read()
            options["follow_redirects"] = False
            deadline = time.monotonic() + endpoint.timeout_s
            response = super().send(request, stream=True, **options)
            wire.status = response.status_code
            try:
                for chunk in response.iter_bytes():
                    if wire.answered and chunk and not wire.body:
                        begun(f"HTTP {wire.status}")
                    wire.body += chunk
                    if not _goes_on(wire, deadline, endpoint.timeout_s):
                        break
                wire.complete = True
            finally:
                response.close()
            told = {"content-encoding", "content-length", "transfer-encoding"}
            headers = [(k, v) for k, v in response.headers.items() if k.lower() not in told]
            return type(response)(
                response.status_code, headers=headers, content=bytes(wire.body), request=request
            )

    return Recording(timeout=endpoint.timeout_s, trust_env=not endpoint.loopback)


def _goes_on(wire: Wire, deadline: float, limit: float) -> bool:
    """Return whether more of the body is wanted.

    Raises:
        _Stopped: The answer is too long, or took too long.
    """
    if not wire.answered:
        return len(wire.body) < _LARGEST_COMPLAINT
    if len(wire.body) > LARGEST_BODY:
        raise _Stopped(f"the answer is longer than {LARGEST_BODY} bytes")
    if time.monotonic() > deadline:
        raise _Stopped(f"the answer was not complete after {limit:g} s")
    return True


def exchange(
    ask: Callable[[Wire, Callable[[str], None]], T],
    package: Package,
    endpoint: Endpoint,
    interaction: Interaction,
) -> tuple[T, Wire, int]:
    """Carry out one upload.

    Args:
        ask: Sends the package with a client of its own that records into the wire, and reads the response.
        package: What is sent.
        endpoint: Where to.
        interaction: What is told of it.

    Returns:
        What `ask` returned, the wire of the try that got through, and the number of tries.

    Raises:
        InstrumentFailed: The server could not be reached, refused, broke off, stalled, or answered with
            something that is no answer.
    """
    tokens = token_estimate(package.upload.decode("utf-8"))
    what = f"package {package.digest[:12]}, {len(package.upload)} bytes, about {tokens} tokens"
    for number in range(1, TRIES + 1):
        wire = Wire()
        interaction.note("one upload", f"{what}, to {endpoint.url}, try {number} of {TRIES}")
        try:
            with _muted(endpoint.secret):
                return ask(wire, interaction.begun), wire, number
        except Exception as error:
            fault, again = _judge(error, wire, endpoint)
        finally:
            _witness(wire, endpoint.secret, interaction)
        if not again or number == TRIES:
            break
        interaction.note("no output before a retry", fault.what)
        time.sleep(PAUSE_S * number)
    raise fault from None


@contextmanager
def _muted(secret: Secret) -> Iterator[None]:
    """Let what libraries print through to the logs only after it was scrubbed."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            yield
    finally:
        for text, stream in ((out.getvalue(), sys.stdout), (err.getvalue(), sys.stderr)):
            print(secret.scrub(text), end="", file=stream)


def _witness(wire: Wire, secret: Secret, interaction: Interaction) -> None:
    """Journal what came of an answer, so that one which is lost has left its digest."""
    if wire.answered and wire.body:
        digest = hashlib.sha256(secret.scrub_bytes(bytes(wire.body))).hexdigest()
        cut = "" if wire.complete else ", cut short"
        interaction.note("output ended", f"{len(wire.body)} bytes, sha256 {digest}{cut}")


def _judge(error: Exception, wire: Wire, endpoint: Endpoint) -> tuple[InstrumentFailed, bool]:
    """Return what to tell of a failed try, and whether another may be made."""
    said = _said(error, endpoint.secret)
    if not wire.request:
        return InstrumentFailed(f"no request to {endpoint.url} could be made: {said}"), False
    if wire.status is None:
        kind = type(_cause(error)).__name__
        again = kind in _RETRIED and ("Protocol" not in kind or "without sending" in said)
        what = f"{endpoint.url} sent nothing: {said}"
        fix = "see that the server runs and `base_url` names it, then atlas resume"
        if "Timeout" in kind and kind != "ConnectTimeout":
            what = f"{endpoint.url} took the package and sent nothing within {endpoint.timeout_s:g} s"
            fix = "give it longer next time (`timeout_s`); atlas resume uploads the package again"
        return InstrumentFailed(what, fix=fix), again
    if not wire.answered:
        complaint = _complaint(bytes(wire.body), endpoint.secret)
        fix = _REMEDIES.get(wire.status, "atlas resume tries again, which the journal shows")
        if 300 <= wire.status < 400:
            fix = "redirects are not followed: write the final address as `base_url`"
        return InstrumentFailed(f"{endpoint.url} refused with HTTP {wire.status}{complaint}", fix=fix), False
    broken = f"broke off after {len(wire.body)} bytes of the answer"
    what = f"{endpoint.url} {'sent no answer' if wire.complete else broken}: {said}"
    return InstrumentFailed(what, fix=_NOT_SENT_AGAIN if wire.body else None), False


def _cause(error: BaseException) -> BaseException:
    """Return the error of the HTTP library behind that of a client, or the error itself."""
    found: BaseException | None = error
    while found is not None:
        if type(found).__module__.startswith("httpx") or isinstance(found, _Stopped):
            return found
        found = found.__cause__ or found.__context__
    return error


def _said(error: Exception, secret: Secret) -> str:
    cause = _cause(error)
    text = secret.scrub(" ".join(str(cause).split()))[:300]
    return text if isinstance(cause, (Unreadable, _Stopped)) else f"{type(cause).__name__}: {text}"


def _complaint(body: bytes, secret: Secret) -> str:
    """Return what a server gives as its reason, on one line and without the key, or nothing."""
    text = body.decode("utf-8", "replace")
    try:
        tree = json.loads(text)
        error = tree.get("error", tree)
        text = str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError):
        pass  # a reason in plain text or HTML
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return f": {secret.scrub(text)[:300]}" if text else ""
