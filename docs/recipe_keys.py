# SPDX-License-Identifier: GPL-3.0-or-later
"""Every key of a recipe and of an experiment file, as JSON, out of the dataclasses that check it:
what it may be, what it is without being written, and what its class's docstring says of it. Runs in
the training environment.
"""

import dataclasses
import inspect
import json
import re
import sys

from pydantic import TypeAdapter

from deeprx_training.data.conditions import Conditions
from deeprx_training.experiments.file import EnergyStep, Examination, File, NamedGroup, Scale
from deeprx_training.teaching.recipe import Member, Recipe

PAGES = {
    "recipes": {"The file": Recipe, "[[members]]": Member, "[data]": Conditions},
    "experiments": {
        "The file": File,
        "[[group]]": NamedGroup,
        "[[examination]]": Examination,
        "[[energy]]": EnergyStep,
        "[scale.NAME]": Scale,
    },
}
DERIVED = {"sha256", "text", "folder", "changes"}  # no keys of a file


def meanings(docstring: str) -> dict[str, str]:
    """What a docstring says of each key: lines "key, key: text", and what is indented below."""
    meanings_by_key = {}
    for names, text in re.findall(r"^(\w+(?:, \w+)*): (.*(?:\n +.*)*)", docstring, re.MULTILINE):
        meanings_by_key |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return meanings_by_key


def words(schema: dict, definitions: dict) -> str:
    """What a value may be, out of its JSON schema."""
    schema = definitions.get(schema.get("$ref", "").rpartition("/")[2], schema)
    if "anyOf" in schema:
        return " or ".join(words(s, definitions) for s in schema["anyOf"] if s["type"] != "null")
    if "enum" in schema or "const" in schema:
        return " or ".join(schema.get("enum", [schema.get("const")]))
    kind = {
        "integer": "whole number", "number": "number", "string": "text", "boolean": "true or false",
        "object": "table", "array": "list",
    }.get(schema.get("type"), "value")  # fmt: skip
    if kind == "list" and "prefixItems" in schema:
        each = words(schema["prefixItems"][0], definitions)
        return f"two: {each}" + ("" if each == "text" else ", the smaller first")
    if kind == "list" and "items" in schema:
        return f"list: {words(schema['items'], definitions)}"
    each = schema.get("additionalProperties")
    if kind == "table" and isinstance(each, dict) and each.get("type") == "number":
        names = schema.get("propertyNames")
        return "table of weights" + (f": {words(names, definitions)}" if names else "")
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        return f"{kind}, {low:g} to {high:g}"
    if "exclusiveMinimum" in schema:
        most = "" if high is None else f", {high:g} at most"
        return f"{kind} above {schema['exclusiveMinimum']:g}{most}"
    return kind if low is None else f"{kind}, {low:g} or more"


def default(field: dataclasses.Field) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return "required"
    if dataclasses.is_dataclass(value):
        return "see there"
    if isinstance(value, dict):
        value = {str(key).strip("()"): weight for key, weight in value.items()}
    return "" if value is None else json.dumps(value)


def keys(kind: type) -> list[dict]:
    schema = TypeAdapter(kind).json_schema()
    definitions, said = schema.get("$defs", {}), meanings(inspect.getdoc(kind))
    properties = definitions.get(kind.__name__, schema)["properties"]
    return [
        {
            "key": field.name,
            "may be": words(properties[field.name], definitions),
            "default": default(field),
            "meaning": said.get(field.name, ""),
        }
        for field in dataclasses.fields(kind)
        if field.name not in DERIVED
    ]


if __name__ == "__main__":
    key_tables = {
        page: {
            name: [" ".join(inspect.getdoc(kind).partition("\n\n")[0].split()), keys(kind)]
            for name, kind in tables.items()
        }
        for page, tables in PAGES.items()
    }
    json.dump(key_tables, sys.stdout)
