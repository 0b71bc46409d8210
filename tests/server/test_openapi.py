"""The OpenAPI document says what the API does: requests made from it by chance are answered as it says."""

import re
import subprocess
import sysconfig
from pathlib import Path

import pytest
from support.server import Client, running

from r2tuning import Library


def test_every_address_has_a_summary_and_problems(client: Client) -> None:
    document = client.get("/openapi.json").check(200)
    names = set()
    for path, item in document["paths"].items():
        for operation in item.values():
            names.add(operation["operationId"])
            assert operation["description"], path
            assert list(operation["responses"]["default"]["content"]) == ["application/problem+json"]
            assert "422" not in operation["responses"]
            assert operation.get("security") == ([{"token": []}] if path.startswith("/api") else None)
    assert len(names) == sum(len(item) for item in document["paths"].values())
    text = str(document)
    assert "HTTPValidationError" not in text
    assert text.count("'examples'") > 10


@pytest.mark.slow
def test_random_requests_are_answered_as_the_document_says(place: Path) -> None:
    """Schemathesis sends about 2,000. No schema can say that bounds belong together, as an end after its start."""
    Library(place / "library", model="demo").add(place / "videos")
    tool = Path(sysconfig.get_path("scripts")) / "schemathesis"
    with running(
        place / "library", "--root", place / "videos", "--rate", 100_000, "--token", "a-secret-token"
    ) as server:
        server.client.wait_until_ready()
        command = [
            str(tool),
            "run",
            f"http://127.0.0.1:{server.client.port}/api/v1/openapi.json",
            *("--header", "Authorization: Bearer a-secret-token"),
            *("--checks", "all", "--exclude-checks", "unsupported_method,positive_data_acceptance"),
            *("--max-examples", "30", "--request-timeout", "120", "--seed", "1", "--continue-on-failure"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=place)
        assert done.returncode == 0, done.stdout[-5000:]
        generated = re.search(r"([\d,]+) generated", done.stdout)
        assert generated is not None
        assert int(generated[1].replace(",", "")) > 1000
