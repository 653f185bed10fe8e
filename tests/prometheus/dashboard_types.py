"""Holds a dashboard against the types that Grafana publishes for it (its SDK for Python).

Read into those types and written again, nothing may be lost or changed, and every value has to be of
its type. There is no Grafana here that could load the dashboard.
"""

import enum
import json
import typing

import typeguard
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as types

# Marks of Prometheus have fields of its own plugin, which the types of dashboards do not know.
OF_THE_PLUGIN = {"annotations.list.titleFormat", "annotations.list.step"}


def check(test, dashboard):
    plugins.register_default_plugins()
    read = types.Dashboard.from_json(dashboard)
    check_types(read, "dashboard")
    written = json.loads(JSONEncoder().encode(read))
    test.assertEqual(list(lost(dashboard, written, "")), [])
    test.assertGreater(len(read.panels), 20)


def lost(before, after, path):
    """Where what was written differs from what was read."""
    if isinstance(before, dict):
        for key, value in before.items():
            here = f"{path}.{key}".lstrip(".")
            if value is None or here in OF_THE_PLUGIN:
                continue
            if key not in after:
                yield here
            else:
                yield from lost(value, after[key], here)
    elif isinstance(before, list):
        if len(before) != len(after):
            yield path
        for one, other in zip(before, after):
            yield from lost(one, other, path)
    elif before != after:
        yield f"{path}: {before!r} became {after!r}"


def fits(value, hint):
    """Whether a value is of a type. The SDK keeps members of its enums as the plain values they stand
    for."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return value in [member.value for member in hint]
    if typing.get_origin(hint) is typing.Union:
        return any(fits(value, one) for one in typing.get_args(hint))
    try:
        typeguard.check_type(value, hint)
        return True
    except typeguard.TypeCheckError:
        return False


def check_types(value, path):
    """Each field of the SDK's classes, and of what is in them, is of the type that it says."""
    if isinstance(value, list):
        for one in value:
            check_types(one, path)
    ours = type(value).__module__.startswith("grafana_foundation_sdk.models")
    if not ours or isinstance(value, enum.Enum):
        return
    hints = typing.get_type_hints(type(value))
    for name, field in vars(value).items():
        if not fits(field, hints[name]):
            raise AssertionError(f"{path}.{name} is {field!r}, which is not a {hints[name]}")
        check_types(field, f"{path}.{name}")
