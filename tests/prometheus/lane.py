"""A real Prometheus and a real Alertmanager on a running Backstay.

Calls are made all the while, and many of them fail. What `backstay export` makes of the project is
loaded as it is, but for addresses and for the intervals of scrapes and evaluations, which are a second
here. What an alert waits for stays as exported.
"""

import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request

URL = os.environ["BACKSTAY_URL"]
KEY = os.environ["BACKSTAY_KEY"]
BIN = os.environ["BACKSTAY_BIN"]
PROJECT = os.environ["BACKSTAY_DIR"]
HERE = pathlib.Path(__file__).resolve().parent
# How long anything may take to be seen, in seconds: a breaker opens, 30 s pass, it is told.
PATIENCE = 120
PROTOBUF = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
)
# Panels that have nothing to show here: the simulated upstream has no prices, no release is new.
WITHOUT_DATA = {
    "US dollars an hour",
    "US dollars for a good answer",
}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def fetch(url, headers=None, data=None):
    """Status, headers and body, whatever the status."""
    request = urllib.request.Request(url, headers=headers or {}, data=data)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def scrape(accept=None):
    headers = {"authorization": f"Bearer {KEY}"}
    if accept:
        headers["accept"] = accept
    status, headers, body = fetch(f"{URL}/metrics", headers)
    assert status == 200, (status, body)
    return headers["content-type"], body


def until(what, look):
    """What `look` sees, as soon as it sees something."""
    end = time.monotonic() + PATIENCE
    last = None
    while time.monotonic() < end:
        try:
            seen = look()
            if seen:
                return seen
            last = seen
        except (OSError, KeyError, IndexError) as error:
            last = error
        time.sleep(0.2)
    raise AssertionError(f"in vain: {what}; last seen: {last!r}")


class Traffic:
    """Calls of all kinds, some a second, until it is stopped."""

    def __init__(self):
        self.stopped = threading.Event()
        self.sent = 0
        self.threads = [threading.Thread(target=self.run, args=(n,)) for n in range(2)]

    def run(self, seed):
        turn = seed
        while not self.stopped.wait(0.05):
            turn += 1
            self.call(turn)

    def call(self, turn):
        messages = [{"role": "user", "content": f"Question {turn}"}]
        model = ("chat", "chat", "triage", "down", "up/finish-length")[turn % 5]
        body = {"model": model, "messages": messages, "stream": turn % 2 == 0}
        if model == "triage":
            body = {"model": model, "messages": [], "backstay": {"inputs": {"ticket": "Hi"}}}
        if turn % 11 == 0:
            body["temperature"] = "hot"  # a wrong request
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        post = functools.partial(fetch, headers=headers)
        _, told, _ = post(f"{URL}/v1/chat/completions", data=json.dumps(body).encode())
        self.sent += 1
        if turn % 3 == 0:
            report = {"call_id": told["x-backstay-call-id"], "ok": turn % 2 == 0}
            post(f"{URL}/v1/outcomes", data=json.dumps(report).encode())

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


class Receiver(http.server.BaseHTTPRequestHandler):
    """The end of the line: what Alertmanager tells."""

    told = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.told.extend(json.loads(body)["alerts"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


class World:
    """Prometheus without and with native histograms, Alertmanager, its receiver, and the traffic."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="backstay-prometheus-"))
        self.processes = []
        self.receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
        threading.Thread(target=self.receiver.serve_forever, daemon=True).start()
        for kind in ("prometheus", "grafana"):
            command = [BIN, "export", kind, PROJECT, "--out", str(self.dir)]
            subprocess.run(command, check=True, capture_output=True)
        (self.dir / "key").write_text(KEY)
        self.alertmanager = self.start_alertmanager()
        self.plain = self.start_prometheus("plain", "exemplar-storage", "backstay-rules.yml")
        self.native = self.start_prometheus("native", "native-histograms", None)

    def start(self, name, command, url):
        log = open(self.dir / f"{name}.log", "w")
        process = subprocess.Popen(command, cwd=self.dir, stdout=log, stderr=log)
        log.close()
        self.processes.append(process)
        until(f"{name} at {url}", lambda: fetch(f"{url}/-/ready")[0] == 200)
        return url

    def start_alertmanager(self):
        address = f"127.0.0.1:{free_port()}"
        receiver = f"http://127.0.0.1:{self.receiver.server_port}/"
        config = {
            "route": {"receiver": "test", "group_wait": "0s", "group_interval": "1s"},
            "receivers": [{"name": "test", "webhook_configs": [{"url": receiver}]}],
        }
        (self.dir / "alertmanager.yml").write_text(json.dumps(config))  # JSON is YAML
        command = [
            "prometheus-alertmanager",
            "--config.file=alertmanager.yml",
            "--storage.path=alertmanager",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ]
        return self.start("alertmanager", command, f"http://{address}")

    def start_prometheus(self, name, feature, rules):
        address = f"127.0.0.1:{free_port()}"
        config = (self.dir / "backstay-prometheus.yml").read_text()
        config = re.sub(r"_interval: \d+s", "_interval: 1s", config)
        config = re.sub(r"127\.0\.0\.1:\d+$", URL.removeprefix("http://"), config, flags=re.M)
        # As the head of the exported file says.
        config = config.replace(
            "- job_name: backstay\n",
            "- job_name: backstay\n  authorization: { credentials_file: key }\n",
        )
        config += (
            "alerting: { alertmanagers: [ { static_configs: [ { targets: ['"
            + self.alertmanager.removeprefix("http://")
            + "'] } ] } ] }\n"
        )
        if rules:
            fast = re.sub(r"interval: \w+", "interval: 1s", (self.dir / rules).read_text())
            (self.dir / "fast-rules.yml").write_text(fast)
            config = config.replace(rules, "fast-rules.yml")
        else:
            config = config.replace("rule_files:\n- backstay-rules.yml\n", "")
        (self.dir / f"{name}.yml").write_text(config)
        command = [
            "prometheus",
            f"--config.file={name}.yml",
            f"--storage.tsdb.path={name}",
            f"--web.listen-address={address}",
            f"--enable-feature={feature}",
            "--rules.alert.resend-delay=2s",
        ]
        return self.start(name, command, f"http://{address}")

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(30)
        self.receiver.shutdown()
        self.receiver.server_close()
        shutil.rmtree(self.dir)


def api(base, path, **parameters):
    query = urllib.parse.urlencode(parameters)
    status, _, body = fetch(f"{base}/api/v1/{path}?{query}")
    answer = json.loads(body)
    assert status == 200 and answer["status"] == "success", (path, parameters, answer)
    return answer["data"]


def ask(base, expr):
    """The samples that an expression has now."""
    return api(base, "query", query=expr)["result"]


def setUpModule():
    global WORLD, TRAFFIC
    TRAFFIC = Traffic().__enter__()
    unittest.addModuleCleanup(TRAFFIC.__exit__)
    WORLD = World()
    unittest.addModuleCleanup(WORLD.stop)


def promtool(*args, **more):
    return subprocess.run(["promtool", *args], capture_output=True, text=True, **more)


class Exposition(unittest.TestCase):
    def test_promtool_finds_nothing_wrong_with_a_page_under_load(self):
        failed = re.compile(rb'call="down".*outcome="overloaded"\} [1-9]')
        until("failures", lambda: failed.search(scrape()[1]))
        kind, page = scrape()
        self.assertEqual(kind, "text/plain; version=0.0.4; charset=utf-8")
        checked = promtool("check", "metrics", input=page.decode())
        self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, "", ""))

    def test_without_a_key_there_is_nothing(self):
        self.assertEqual(fetch(f"{URL}/metrics")[0], 401)

    def test_every_format_is_served(self):
        kind, page = scrape("application/openmetrics-text;version=1.0.0")
        self.assertTrue(kind.startswith("application/openmetrics-text"))
        self.assertTrue(page.endswith(b"# EOF\n"))
        self.assertTrue(scrape(PROTOBUF)[0].startswith("application/vnd.google.protobuf"))


class Rules(unittest.TestCase):
    def test_promtool_takes_rules_and_configuration(self):
        for what, name in (("rules", "backstay-rules.yml"), ("config", "backstay-prometheus.yml")):
            checked = promtool("check", what, str(WORLD.dir / name))
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
            self.assertIn("SUCCESS", checked.stdout)

    def test_promtool_sees_them_do_what_they_should_over_hours(self):
        shutil.copy(HERE / "rules.test.yml", WORLD.dir)
        tested = promtool("test", "rules", "rules.test.yml", cwd=WORLD.dir)
        self.assertEqual(tested.returncode, 0, tested.stdout + tested.stderr)

    def test_every_rule_evaluates(self):
        def groups():
            found = api(WORLD.plain, "rules")["groups"]
            rules = [rule for group in found for rule in group["rules"]]
            return rules if all(rule["health"] != "unknown" for rule in rules) else None

        rules = until("an evaluation of every rule", groups)
        self.assertGreater(len(rules), 30)
        bad = [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"]
        self.assertEqual(bad, [])


class Alerts(unittest.TestCase):
    def received(self, **labels):
        return [alert for alert in Receiver.told if labels.items() <= alert["labels"].items()]

    def test_an_open_breaker_is_told(self):
        alert = {"alertname": "BackstayBreakerOpen", "target": "up/503"}
        told = until("the alert at the receiver", lambda: self.received(**alert))[0]
        self.assertEqual((told["status"], told["labels"]["severity"]), ("firing", "warn"))
        self.assertIn("up/503", told["annotations"]["summary"])
        self.assertIn("backstay log --target up/503", told["annotations"]["description"])
        listed = json.loads(fetch(f"{WORLD.alertmanager}/api/v2/alerts")[2])
        names = {one["labels"]["alertname"] for one in listed}
        self.assertIn("BackstayBreakerOpen", names)

    def test_a_call_beyond_its_budget_is_told_and_a_healthy_one_is_not(self):
        for name in ("BackstayErrorRate", "BackstayErrorRateSevere"):
            told = until(name, lambda: self.received(alertname=name, call="down"))[0]
            self.assertRegex(told["annotations"]["summary"], r"^down: [\d.]+% of calls fail")
        self.assertEqual(self.received(call="chat"), [])
        self.assertEqual(self.received(call="triage"), [])


class Scraped(unittest.TestCase):
    def test_the_target_is_up_and_its_series_are_few(self):
        until("a scrape", lambda: ask(WORLD.plain, 'up{job="backstay"} == 1'))
        count = ask(WORLD.plain, 'count({job="backstay"})')[0]["value"][1]
        self.assertLess(int(count), 1000)

    def test_calls_are_counted_as_they_were_sent(self):
        sent = TRAFFIC.sent
        counted = "sum(backstay_calls_total)"
        until(
            f"{sent} calls", lambda: float(ask(WORLD.plain, counted)[0]["value"][1]) >= sent
        )

    def test_an_exemplar_leads_to_its_call(self):
        def exemplars():
            now = time.time()
            found = api(
                WORLD.plain,
                "query_exemplars",
                query='backstay_call_duration_seconds_bucket{call="chat"}',
                start=now - 600,
                end=now,
            )
            return [one for series in found for one in series["exemplars"]]

        exemplar = until("an exemplar", exemplars)[0]
        call_id = exemplar["labels"]["call_id"]
        show = [BIN, "show", call_id, "--dir", PROJECT, "--json"]
        shown = subprocess.run(show, check=True, capture_output=True, text=True)
        self.assertEqual(json.loads(shown.stdout)["record"]["call"], "chat")

    def test_native_histograms_are_scraped(self):
        # Without `_bucket`: one series with all buckets in it.
        duration = 'backstay_call_duration_seconds{call="chat"}'
        until(
            "a native histogram",
            lambda: ask(WORLD.native, f"sum(histogram_count({duration})) > 5"),
        )
        quantile = f"histogram_quantile(0.95, sum(rate({duration}[30s])))"
        seen = until("its quantile", lambda: ask(WORLD.native, f"{quantile} > 0"))
        self.assertLess(float(seen[0]["value"][1]), 30)


def panels(dashboard):
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


class Dashboard(unittest.TestCase):
    def setUp(self):
        text = (WORLD.dir / "dashboards/backstay.json").read_text()
        self.dashboard = json.loads(text)

    def questions(self):
        for panel in panels(self.dashboard):
            for target in panel.get("targets", []):
                yield panel["title"], target["expr"]

    def test_every_question_is_answered(self):
        filled = {"$__rate_interval": "30s", "$__range": "5m", "$call": ".*"}
        asked = 0
        for title, expr in self.questions():
            for name, value in filled.items():
                expr = expr.replace(name, value)
            self.assertNotIn("$", expr)
            with self.subTest(title=title, expr=expr):
                asked += 1
                if title in WITHOUT_DATA:
                    ask(WORLD.plain, expr)  # it parses
                else:
                    until(f"data of {title}: {expr}", lambda: ask(WORLD.plain, expr))
        self.assertGreater(asked, 50)

    def test_the_marks_on_the_time_axis_are_answered(self):
        for mark in self.dashboard["annotations"]["list"]:
            ask(WORLD.plain, mark["expr"].replace("$call", ".*"))
        calls = api(WORLD.plain, "label/call/values", **{"match[]": "backstay_rollout_weight"})
        self.assertEqual(calls, ["chat", "down", "triage"])

    def test_grafanas_own_types_take_it(self):
        import dashboard_types

        dashboard_types.check(self, self.dashboard)


if __name__ == "__main__":
    unittest.main(verbosity=2)
