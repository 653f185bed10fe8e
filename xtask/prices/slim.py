"""Makes Backstay's price table out of a wheel of genai-prices. `cargo xtask prices` runs it.

    python3 slim.py WHEEL [DATE] > genai-prices.json

DATE is the day on which that version appeared; left out, the package index that pip uses is asked.

The wheel's data is Python source. It is parsed and never run: only the literals in it are read. What
Backstay cannot count (searches, pages, seconds of sound, batch and priority rates) is left out. One
model a line, so that an update can be read as a diff.
"""

import ast
import json
import os
import re
import subprocess
import sys
import urllib.request
import zipfile
from decimal import Decimal

# The names of prices here, by their names there. All but `request` are US dollars per million tokens.
RATES = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
}
# Sound and pictures are one bucket here. Where both have a price, sound's is taken: no chat API tells
# pictures apart from text.
MEDIA = {
    "input_media": ("input_audio_mtok", "input_image_mtok"),
    "output_media": ("output_audio_mtok", "output_image_mtok"),
}


def dollars(text):
    """A price with nine decimals at most; what goes on beyond is the dust of a division."""
    rounded = round(Decimal(text), 9)
    return f"{rounded:f}".rstrip("0").rstrip(".") if "." in f"{rounded:f}" else f"{rounded:f}"


def value(node):
    """The literal that `node` stands for; a call becomes a dict with its name under `""`."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        return [value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return {value(key): value(item) for key, item in zip(node.keys, node.values)}
    if isinstance(node, ast.Attribute):
        return ast.unparse(node)
    if isinstance(node, ast.Call):
        name = ast.unparse(node.func).rsplit(".", 1)[-1]
        if name == "Decimal":
            return dollars(value(node.args[0]))
        fields = {keyword.arg: value(keyword.value) for keyword in node.keywords}
        return {"": name, "args": [value(item) for item in node.args], **fields}
    raise SystemExit(f"line {node.lineno}: nothing is known of {ast.unparse(node)[:80]}")


def regex(text):
    """A pattern for Rust's regex crate, which has no look-ahead; ASCII digits are meant by `\\d`."""
    text = text.replace("\\d", "[0-9]")
    negated = re.fullmatch(r"\^\(\?!(.*)\)", text)
    if negated:
        return {"not": {"regex": "^(?:" + negated[1] + ")"}}
    if "(?" in text.replace("(?:", ""):
        raise SystemExit(f"this pattern has a group that Rust does not know: {text}")
    return {"regex": text}


def clause(match):
    kinds = {
        "ClauseEquals": "equals",
        "ClauseStartsWith": "starts_with",
        "ClauseEndsWith": "ends_with",
        "ClauseContains": "contains",
    }
    if match[""] in kinds:
        word = kinds[match[""]]
        return {word: match[word].lower()}
    if match[""] == "ClauseRegex":
        return regex(match["regex"])
    word = {"ClauseOr": "or", "ClauseAnd": "and"}[match[""]]
    return {word: [clause(inner) for inner in match[word + "_"]]}


def rate(price):
    if isinstance(price, dict):
        tiers = sorted((tier["start"], tier["price"]) for tier in price["tiers"])
        return {"base": price["base"], "tiers": tiers}
    return price


def rates(prices):
    found = {ours: rate(prices[theirs]) for theirs, ours in RATES.items() if theirs in prices}
    for ours, kinds in MEDIA.items():
        for theirs in kinds:
            if theirs in prices:
                found[ours] = rate(prices[theirs])
                break
    if "requests_kcount" in prices:
        found["request"] = dollars(Decimal(prices["requests_kcount"]) / 1000)
    return found


def clock(time):
    if time.get("tzinfo") != "datetime.UTC":
        raise SystemExit(f"a time of day that is not in UTC: {time}")
    hour, minute, *_ = time["args"] + [0, 0]
    return f"{hour:02}:{minute:02}"


def period(conditional):
    found = {}
    limit = conditional.get("constraint") or {}
    if limit.get("") == "StartDateConstraint":
        found["from"] = "{:04}-{:02}-{:02}".format(*limit["start_date"]["args"])
    elif limit.get("") == "TimeOfDateConstraint":
        found["daily"] = [clock(limit["start_time"]), clock(limit["end_time"])]
    elif limit:
        raise SystemExit(f"nothing is known of the condition {limit}")
    return {**found, **rates(conditional["prices"])}


def model(found):
    prices = found.get("prices") or {}
    periods = [period(p) for p in prices] if isinstance(prices, list) else [rates(prices)]
    slim = {"id": found["id"]}
    match = clause(found["match"])
    if match != {"equals": found["id"].lower()}:
        slim["match"] = match
    return {**slim, "prices": periods}


def released(wheel):
    """The day on which this file appeared in the index, in the JSON form of the index (PEP 691)."""
    ask = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    configured = subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip()
    index = os.environ.get("PIP_INDEX_URL") or configured or "https://pypi.org/simple"
    request = urllib.request.Request(
        index.rstrip("/") + "/genai-prices/",
        headers={"Accept": "application/vnd.pypi.simple.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    times = [f.get("upload-time") for f in files if f["filename"] == os.path.basename(wheel)]
    if not times or not times[0]:
        raise SystemExit("the package index does not say when this version appeared: give a date")
    return times[0][:10]


def main(wheel, date=None):
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read("genai_prices/data.py")
        metadata = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        head = dict(
            line.split(": ", 1)
            for line in archive.read(metadata).decode().split("\n\n")[0].splitlines()
            if ": " in line
        )
    date = date or released(wheel)
    if head["License-Expression"] != "MIT":
        raise SystemExit("the licence of genai-prices is no longer MIT: look before you take it")
    assigned = (s for s in ast.parse(source).body if isinstance(s, ast.AnnAssign))
    providers = value(next(s.value for s in assigned if s.target.id == "providers"))
    out = [
        '{"source": "pydantic/genai-prices", "version": %s, "licence": "MIT", "date": %s, "providers": ['
        % (json.dumps(head["Version"]), json.dumps(date))
    ]
    for number, provider in enumerate(providers):
        base = re.sub(r"^\(https\?://\)\?", "https://", provider["api_pattern"])
        start = {"id": provider["id"], "address": "^" + regex(base)["regex"]}
        if provider.get("fallback_model_providers"):
            start["also"] = provider["fallback_model_providers"]
        out.append(json.dumps(start)[:-1] + ', "models": [')
        lines = [json.dumps(model(m), separators=(",", ":")) for m in provider["models"]]
        out.append(",\n".join(lines))
        out.append("]}" + ("," if number + 1 < len(providers) else ""))
    out.append("]}")
    print("\n".join(out))


main(*sys.argv[1:])
