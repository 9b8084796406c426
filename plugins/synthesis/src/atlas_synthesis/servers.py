"""The adapters `openai` and `anthropic`: a server asked once through its official client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attrs import frozen

from atlas.contracts import Answer, Interaction, Package
from atlas_synthesis.exchange import Endpoint, Unreadable, Wire, exchange, recording
from atlas_synthesis.extras import library
from atlas_synthesis.secret import take

__all__ = ["AnthropicServer", "OpenAIServer"]


LEFT = "left to the server"
NO_SEED = "the interface takes none"


@frozen
class Reply:
    """What a response says, read from the client's own values.

    Attributes:
        text: The answer.
        facts: The model that the server names, why it stopped, tokens as it counts them.
    """

    text: str
    facts: Mapping[str, str]


class OpenAIServer:
    """Any server that speaks OpenAI's chat completions: hosted, vLLM, llama.cpp, Ollama, transformers."""

    def submit(self, package: Package, params: Mapping[str, Any], interaction: Interaction) -> Answer:
        """Upload the package as the one message of a new conversation, and return the answer.

        Raises:
            BadInput: The client or the key is missing.
            InstrumentFailed: As `exchange` says.
        """
        client = library("openai", "openai")
        asked = {name: params[name] for name in ("model", "temperature", "seed", "max_tokens")}

        def ask(connection: Any, endpoint: Endpoint, content: str) -> Reply:
            with client.OpenAI(
                api_key=endpoint.secret.value or "none",
                base_url=endpoint.url,
                timeout=endpoint.timeout_s,
                max_retries=0,
                http_client=connection,
            ) as server:
                message = {"role": "user", "content": content}
                return _completion(server.chat.completions.create(messages=[message], **_set(asked)))

        return _submit(client, ask, asked, package, params, interaction)


class AnthropicServer:
    """A server that speaks Anthropic's messages."""

    def submit(self, package: Package, params: Mapping[str, Any], interaction: Interaction) -> Answer:
        """Upload the package as the one message of a new conversation, and return the answer.

        Raises:
            BadInput: The client or the key is missing.
            InstrumentFailed: As `exchange` says.
        """
        client = library("anthropic", "anthropic")
        asked = {name: params[name] for name in ("model", "max_tokens")}
        drawn = {"temperature": params["temperature"]}  # the client's own signature has lost it

        def ask(connection: Any, endpoint: Endpoint, content: str) -> Reply:
            with client.Anthropic(
                api_key=endpoint.secret.value or "none",
                base_url=endpoint.url,
                timeout=endpoint.timeout_s,
                max_retries=0,
                http_client=connection,
            ) as server:
                message = {"role": "user", "content": content}
                return _message(server.messages.create(messages=[message], extra_body=_set(drawn), **asked))

        return _submit(client, ask, {**asked, **drawn, "seed": NO_SEED}, package, params, interaction)


def _set(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are not left to the server."""
    return {name: value for name, value in settings.items() if value is not None}


def _submit(
    client: Any,
    ask: Callable[[Any, Endpoint, str], Reply],
    asked: Mapping[str, Any],
    package: Package,
    params: Mapping[str, Any],
    interaction: Interaction,
) -> Answer:
    """Carry out the one exchange and describe it."""
    secret = take(params["key_from"])
    endpoint = Endpoint(params["base_url"], float(params["timeout_s"]), secret)

    def once(wire: Wire, begun: Callable[[str], None]) -> Reply:
        connection = recording(client.DefaultHttpxClient, endpoint, wire, begun)
        return ask(connection, endpoint, package.upload.decode("utf-8"))

    reply, wire, tries = exchange(once, package, endpoint, interaction)
    response = secret.scrub_bytes(bytes(wire.body))
    facts = {
        "client": f"{client.__name__} {client.__version__}",
        "endpoint": endpoint.url,
        "key_from": secret.name or "none",
        "key_echoed": "no" if response == wire.body else "yes: removed from the sealed response and answer",
        "tries": str(tries),
        **{f"asked.{name}": LEFT if value is None else str(value) for name, value in asked.items()},
        **{name: secret.scrub(value) for name, value in reply.facts.items()},
    }
    files = {"request.json": secret.scrub_bytes(wire.request), "response.json": response}
    return Answer(secret.scrub(reply.text), facts, files)


def _completion(completion: Any) -> Reply:
    """Read a chat completion.

    Raises:
        Unreadable: It holds no text.
    """
    choices = getattr(completion, "choices", None)
    if not isinstance(choices, list) or not choices:
        raise Unreadable("it is no chat completion: there are no choices")
    message = getattr(choices[0], "message", None)
    text = getattr(message, "content", None) or getattr(message, "refusal", None)
    if not isinstance(text, str):
        raise Unreadable("its first choice holds no text")
    usage = getattr(completion, "usage", None)
    return Reply(
        text,
        _stated(
            model=getattr(completion, "model", None),
            fingerprint=getattr(completion, "system_fingerprint", None),
            stopped_by=getattr(choices[0], "finish_reason", None),
            tokens_in=getattr(usage, "prompt_tokens", None),
            tokens_out=getattr(usage, "completion_tokens", None),
        ),
    )


def _message(message: Any) -> Reply:
    """Read a message.

    Raises:
        Unreadable: It holds no text.
    """
    content = getattr(message, "content", None)
    blocks = content if isinstance(content, list) else []
    texts = [getattr(block, "text", None) for block in blocks if getattr(block, "type", None) == "text"]
    if not texts or not all(isinstance(text, str) for text in texts):
        raise Unreadable("it is no message with text")
    usage = getattr(message, "usage", None)
    return Reply(
        "".join(str(text) for text in texts),
        _stated(
            model=getattr(message, "model", None),
            stopped_by=getattr(message, "stop_reason", None),
            tokens_in=getattr(usage, "input_tokens", None),
            tokens_out=getattr(usage, "output_tokens", None),
        ),
    )


def _stated(**values: Any) -> dict[str, str]:
    """Return what the server stated; what it left out is left out."""
    return {f"server.{name}": str(value) for name, value in values.items() if value is not None}
