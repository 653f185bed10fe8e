"""The code blocks of docs/manual/outcomes.md for Python, run as they stand there."""

import json
import os
import pathlib
import re
import sys
import tempfile
import unittest
import urllib.request

import expect

BLOCK = re.compile(r"<!-- block: (\S+\.py) -->\n```python\n(.*?)```", re.DOTALL)


def blocks():
    docs = os.environ.get("BACKSTAY_DOCS")
    if not docs:
        raise AssertionError("BACKSTAY_DOCS is not set: run this with `cargo xtask test`")
    text = (pathlib.Path(docs) / "manual" / "outcomes.md").read_text(encoding="utf-8")
    return dict(BLOCK.findall(text))


def received():
    """How many records and reports the gateway has taken in."""
    with urllib.request.urlopen(f"{expect.url()}/readyz") as response:
        return json.load(response)["records"]["received"]


class Outcomes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.blocks = blocks()
        cls.directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.directory.cleanup)
        helper = pathlib.Path(cls.directory.name) / "backstay_outcomes.py"
        helper.write_text(cls.blocks["backstay_outcomes.py"], encoding="utf-8")
        sys.path.insert(0, cls.directory.name)
        cls.addClassCleanup(sys.path.remove, cls.directory.name)

    def test_every_block_is_run(self):
        run = {"openai_raw.py", "anthropic_raw.py", "openai_hook.py", "response_id.py"}
        self.assertEqual(set(self.blocks), run | {"backstay_outcomes.py"})

    def run_block(self, name):
        before = received()
        scope = {"__name__": name}
        exec(compile(self.blocks[name], name, "exec"), scope)
        self.addCleanup(scope["client"].close)
        self.assertIs(scope["accepted"], True)
        self.assertEqual(received() - before, 2, "one call and one report")

    def test_openai_with_raw_response(self):
        self.run_block("openai_raw.py")

    def test_anthropic_with_raw_response(self):
        self.run_block("anthropic_raw.py")

    def test_openai_with_an_event_hook_and_a_stream(self):
        self.run_block("openai_hook.py")

    def test_the_id_in_the_answer(self):
        self.run_block("response_id.py")

    def test_a_report_that_is_refused_or_cannot_be_sent_breaks_nothing(self):
        import backstay_outcomes

        before = received()
        self.assertIs(backstay_outcomes.report(True, call_id="no id"), False)
        self.addCleanup(setattr, backstay_outcomes, "URL", backstay_outcomes.URL)
        backstay_outcomes.URL = "http://127.0.0.1:9"
        self.assertIs(backstay_outcomes.report(True, call_id="no id"), False)
        self.assertEqual(received(), before)
