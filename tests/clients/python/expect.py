"""What every answer of Backstay carries, whichever SDK asked."""

import os

HEADERS = (
    "x-backstay-call-id",
    "x-backstay-release",
    "x-backstay-variant",
    "x-backstay-outcome",
    "x-backstay-degraded",
    "x-backstay-attempts",
    "x-backstay-overhead-us",
)

# Fields of the calls `triage…` of the test project.
TICKET = {"ticket": "The printer on the third floor is on fire."}


def url(name="BACKSTAY_URL"):
    """The server's address; a test that does not know it fails, it is not skipped."""
    address = os.environ.get(name)
    if not address:
        raise AssertionError(f"{name} is not set: run this with `cargo xtask test --only clients`")
    return address


def headers(case, answer, **expected):
    """Checks that the headers are there, and the values of those named: outcome="ok"."""
    for name in HEADERS:
        case.assertIn(name, answer)
    case.assertGreaterEqual(int(answer["x-backstay-attempts"]), 0)
    case.assertGreaterEqual(int(answer["x-backstay-overhead-us"]), 0)
    case.assertRegex(answer["x-backstay-call-id"], r"^[0-9a-f-]{36}$")
    for name, value in expected.items():
        case.assertEqual(answer[f"x-backstay-{name}"], value, f"x-backstay-{name}")


def triage(case, value):
    """Checks an answer of the calls `triage…` against their schema."""
    case.assertEqual(set(value), {"priority", "summary"})
    case.assertIn(value["priority"], ("low", "normal", "urgent"))
    case.assertIsInstance(value["summary"], str)
    case.assertTrue(value["summary"])
