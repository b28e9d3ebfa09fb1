"""Problem documents as responses."""

from __future__ import annotations

import orjson
import pytest
from aiohttp.test_utils import make_mocked_request

from aioqueue._errors import Problem, Refused
from aioqueue._problems import problem_response, refusal_response, stored_problem_response

PROBLEM = Problem.of("queue_full", "It is full.", queue_size=3)


def test_a_problem_response() -> None:
    """A problem goes out with its status, as problem+json that nothing keeps or guesses about."""
    response = problem_response(PROBLEM, instance="/work")

    assert response.status == 503
    assert response.body == PROBLEM.to_json("/work")
    assert {key: value for key, value in response.headers.items() if key != "Content-Length"} == {
        "Content-Type": "application/problem+json",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }


def test_when_to_try_again() -> None:
    """`Retry-After` is whole seconds, where trying again makes sense."""
    assert problem_response(PROBLEM, retry_after=7).headers["Retry-After"] == "7"
    assert "Retry-After" not in problem_response(PROBLEM).headers


def test_a_problem_that_is_json_already() -> None:
    """A failed job's problem goes out in the very bytes that were stored."""
    response = stored_problem_response(b'{"status":404}', 404, retry_after=1)

    assert (response.status, response.body) == (404, b'{"status":404}')
    assert response.content_type == "application/problem+json"
    assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("target", "instance"),
    [
        ("/work?secret=1", "/work"),
        ("/a%2Fb/%C3%A9", "/a%2Fb/%C3%A9"),
        ("/%0d%0aX", "/%0D%0AX"),
        ("/%FF", "/%FF"),
    ],
)
def test_the_instance_is_a_reference(target: str, instance: str) -> None:
    """`instance` is the path as it was sent, a URI reference, without the query's secrets."""
    response = refusal_response(Refused(PROBLEM, 7), make_mocked_request("POST", target))
    assert isinstance(response.body, bytes)

    assert orjson.loads(response.body)["instance"] == instance
    assert response.headers["Retry-After"] == "7"
