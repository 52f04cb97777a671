"""The page of the fields: a tree for each kind, with an anchor and an example for every field.

The examples are values of whole documents, so that each of them stands beside fields that it agrees with.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from generators.manifests import COMMAND
from generators.reference import bounds_of, type_of
from slipway.api.crds import Resource, root_schema
from slipway.api.schema import Node, walk

EXAMPLES = Path(__file__).parent / "examples"
_INTRODUCTION = """\
# Fields

Open a field to see what it does, its limits and an example. A field without a default may be left out unless it is
*required*. The path of a field is what `kubectl explain` takes: `kubectl explain trainingjob.spec.restarts.max`.
[Rules between fields](rules.md) lists the rules that involve several fields.
"""
_PARTS = ("spec", "status")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind. path: `spec.data.name`, without marks for lists and maps, as `kubectl explain` writes it."""

    kind: str
    path: str
    node: Node
    example: Any

    @property
    def name(self) -> str:
        return self.path.rpartition(".")[2]

    @property
    def anchor(self) -> str:
        return f"{self.kind}.{self.path}".replace(".", "-").lower()


def fields_page(resources: Sequence[Resource]) -> str:
    """Markdown with the trees as HTML: GitHub and the site both fold `details`."""
    lines = [f"<!-- Made by `{COMMAND}` from operator/slipway/api and dev/generators/examples. Do not edit. -->"]
    lines.append(_INTRODUCTION)
    examples = read_examples(EXAMPLES)
    for resource in resources:
        lines += [f"## {resource.kind.kind}", "", resource.model.__doc__ or "", ""]
        lines += ['<div class="fields">', *_tree(fields_of(resource, examples)), "</div>", ""]
    return "\n".join(lines)


def read_examples(folder: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """The documents of each kind, in the order of files and documents."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for path in sorted(folder.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            found.setdefault(document["kind"], []).append(document)
    return found


def fields_of(resource: Resource, examples: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Field]:
    """The fields of spec and status, parents first. Raises SystemExit for one that no example document has."""
    kind = resource.kind.kind
    values = {name: _values(documents) for name, documents in examples.items()}
    own = values.pop(kind, {})
    found = []
    for node in walk(root_schema(resource)):
        path = re.sub(r"\[\]|\{\}", "", node.path)
        if not node.path.startswith(_PARTS) or node.path.endswith(("[]", "{}")):
            continue
        example = own[path] if path in own else _borrowed(path, [own, *values.values()])
        if example is None:
            where = EXAMPLES / f"{kind.lower()}.yaml"
            raise SystemExit(f"{kind} {path} has no example: set it in a document of {where.name} ({where.parent})")
        found.append(Field(kind, path, node, example))
    return found


def _values(documents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first value of each path."""
    found: dict[str, Any] = {}
    for document in documents:
        for path, value in _paths({part: document[part] for part in _PARTS if part in document}):
            found.setdefault(path, value)
    return found


def _paths(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Each field below a value with its path, parents first."""
    if isinstance(value, list):
        for item in value:
            yield from _paths(item, above)
    elif isinstance(value, Mapping):
        for name, child in value.items():
            yield above + name, child
            yield from _paths(child, f"{above}{name}.")


def _borrowed(path: str, examples: Sequence[Mapping[str, Any]]) -> Any:
    """The value of the field that ends in the most names alike: fields share models, and their examples with them."""
    names = path.split(".")
    for start in range(1, len(names)):
        end = "." + ".".join(names[start:])
        for values in examples:
            if (same := next((other for other in values if other.endswith(end)), None)) is not None:
                return values[same]
    return None


def _tree(fields: Sequence[Field]) -> Iterator[str]:
    children: dict[str, list[Field]] = {}
    for field in fields:
        children.setdefault(field.path.rpartition(".")[0], []).append(field)
    for field in children[""]:
        yield from _branch(field, children)


def _branch(field: Field, children: Mapping[str, Sequence[Field]]) -> Iterator[str]:
    """A field and those below it. No line is blank: at one, GitHub would read Markdown again."""
    schema, below = field.node.schema, children.get(field.path, ())
    yield f'<details class="field"{" open" if field.path == "spec" else ""}>'
    yield f"<summary><code>{field.name}</code> {_type_and_default(field)}</summary>"
    path = f"{field.kind.lower()}.{field.path}".replace(".", ".<wbr>")
    link = f'<a class="headerlink" href="#{field.anchor}" title="Link to this field">&para;</a>'
    yield f'<h4 id="{field.anchor}">{path}{link}</h4>'
    yield f"<p>{_inline(schema['description'])}</p>"
    if each := schema.get("items", {}).get("description"):
        yield f"<p>Each item: {_inline(each)}</p>"
    if _is_long(schema.get("default")):
        yield f"<p>Default:</p>{_code(schema['default'])}"
    if limits := ", ".join(bounds_of(schema)):
        yield f'<p class="limits">Limits: {_inline(limits)}</p>'
    example = _code({field.name: field.example})
    if below:
        yield f"<details><summary>Example</summary>{example}</details>"
    else:
        yield f"<p data-search-exclude>Example:</p>{example}"
    for child in below:
        yield from _branch(child, children)
    yield "</details>"


def _type_and_default(field: Field) -> str:
    schema = field.node.schema
    shown = [f"<span>{_inline(type_of(schema))}</span>"]
    if field.node.required:
        shown.append("<em>required</em>")
    default = json.dumps(schema.get("default"))
    if "default" in schema and not _is_long(schema["default"]):
        shown.append(f"<span>default {_inline(f'`{default}`')}</span>")
    return " ".join(shown)


def _is_long(default: Any) -> bool:
    return len(json.dumps(default)) > 60


def _code(value: Any) -> str:
    text = yaml.dump(value, sort_keys=False, width=64, allow_unicode=True)
    return f"<pre data-search-exclude><code>{html.escape(text.rstrip(), quote=False)}</code></pre>"


def _inline(text: str) -> str:
    """Markdown of one line as HTML: what stands in backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text.replace("\n", " "), quote=False))
