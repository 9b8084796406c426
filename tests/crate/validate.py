"""Validates a crate by `roc-validator`, without network: `python validate.py CRATE`.

The validator fetches the context of RO-Crate 1.1 from the web. Here it gets the terms that our crates use, as
that context defines them; every other address is refused. It runs in an environment of its own, since it
wants an older `rich` than our linters do. Prints each issue and exits with their number.
"""

from __future__ import annotations

import io
import json
import sys
from email.message import Message
from typing import Any

CONTEXT = "https://w3id.org/ro/crate/1.1/context"
SCHEMA_ORG = [
    "about",
    "actionStatus",
    "agent",
    "author",
    "contentSize",
    "datePublished",
    "description",
    "encodingFormat",
    "endTime",
    "hasPart",
    "identifier",
    "instrument",
    "license",
    "mentions",
    "name",
    "object",
    "result",
    "softwareVersion",
    "startTime",
    "url",
    "version",
    "CreateAction",
    "CreativeWork",
    "Dataset",
    "Person",
    "SoftwareApplication",
    "affiliation",
    "Organization",
    "publisher",
]
TERMS = {
    **{name: f"http://schema.org/{name}" for name in SCHEMA_ORG},
    "File": "http://schema.org/MediaObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
}
CONTENT = json.dumps({"@context": TERMS}).encode()
KIND = "application/ld+json"


class Answer(io.BytesIO):
    """What a server would have answered."""

    def __init__(self, url: str) -> None:
        super().__init__(CONTENT)
        self.url, self.headers = url, Message()
        self.headers["Content-Type"] = KIND

    def geturl(self) -> str:
        """Return where it came from."""
        return self.url

    def info(self) -> Message:
        """Return the headers."""
        return self.headers


def opened(request: Any, *_: Any, **__: Any) -> Answer:
    """Stand in for `urlopen`."""
    url = request if isinstance(request, str) else request.full_url
    if url != CONTEXT:
        raise OSError(f"no network here, and {url} was asked for")
    return Answer(url)


def got(_: Any, url: str, **__: Any) -> Any:
    """Stand in for the validator's own requests."""
    from requests import Response

    if url != CONTEXT:
        raise OSError(f"no network here, and {url} was asked for")
    answer = Response()
    answer.status_code, answer.url, answer._content = 200, url, CONTENT
    answer.headers["Content-Type"] = KIND
    return answer


def main() -> int:
    """Validate the crate that is named."""
    import rdflib.parser
    from rocrate_validator import models, services
    from rocrate_validator.utils.http import HttpRequester

    rdflib.parser._urlopen = opened
    HttpRequester.get = got
    settings = services.ValidationSettings(
        rocrate_uri=sys.argv[1],
        profile_identifier="process-run-crate-0.5",
        requirement_severity=models.Severity.REQUIRED,
    )
    result = services.validate(settings)
    for issue in result.get_issues():
        print(f"{issue.check.name}: {issue.message}")
    print(f"{len(result.executed_checks)} checks")
    return len(result.get_issues())


if __name__ == "__main__":
    sys.exit(main())
