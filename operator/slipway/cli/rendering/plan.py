"""A plan as text, as YAML and as JSON; and what is wrong with it, by file and line."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from slipway.api.kinds import Key, Object, key_of
from slipway.cli.rendering.plan_summary import Entry, aligned, entries
from slipway.cli.rendering.tables import Output
from slipway.cli.rendering.terminal import console, interactive, one_line, say
from slipway.local.admission import DEFAULT_STORE
from slipway.manifests import Manifest, Manifests
from slipway.preview.changes import manifest_of
from slipway.preview.placeholders import substitute
from slipway.preview.plan_preview import PlanPreview
from slipway.preview.tree import Node, render_tree

if TYPE_CHECKING:
    from rich.tree import Tree

_FIELD = re.compile(r"^((?:spec|metadata)[A-Za-z0-9_.\[\]]*)(?: |:)")
_STYLES = {"good": "green", "bad": "red", "quiet": "dim"}
_MISSING = ("StoreNotFound", "PoolNotFound", "PluginNotFound", "ClaimNotFound", "StoreNotReady")
"""Reasons for objects that a plan from files alone can miss: objects that are in the cluster, and not in the files."""
_ELSEWHERE = "; if the cluster has it: name its file too, or plan with --live"
_VERBS = {"create": "+", "change": "~", "delete": "-"}
_DONE = {"create": "made", "change": "changed", "delete": "deleted"}


def show(preview: PlanPreview, manifests: Manifests, shape: str, *, live: bool, verbose: bool = False) -> None:
    """Print the plan. shape: text, yaml or json. verbose: text as a tree of all steps, with the reason for each."""
    if shape == "text":
        nodes = named_nodes(preview)
        if verbose:
            _print_trees(nodes, coloured=interactive())
        else:
            _print_entries(entries(preview, nodes))
        if live:
            _print_lines(difference_lines(preview, created=verbose))
        _print_lines(totals(preview, manifests, live=live))
    elif shape == "json":
        from slipway.cli.rendering.tables import print_data

        print_data(as_data(preview), Output.JSON)
    else:
        _print_documents(preview)


def plan_errors(preview: PlanPreview, manifests: Manifests, *, live: bool) -> Iterator[str]:
    """Yield what keeps the plan from ending well, each with its file and line."""
    by_key = {key: item for item in manifests.items if (key := _key(item)) is not None}
    for refusal in preview.refusals:
        place = by_key[refusal.key].place_of(refusal.field)
        yield f"{place}: {refusal.field}: the API server would refuse it: {refusal.message}"
    for key, obj in preview.after.items():
        expected = preview.expected(key)
        if expected.good:
            continue
        item = by_key.get(key)
        field = found[1] if (found := _FIELD.match(expected.message)) else ""
        where = f"{item.place_of(field) if field else item.place}: " if item else ""
        message = substitute(expected.message, preview.names)
        cure = "" if live or expected.reason not in _MISSING else _ELSEWHERE
        if cure and field == "spec.store" and obj["spec"].get("store") == DEFAULT_STORE:
            cure = f"; `slipway run` makes this one itself{cure}"
        yield f"{where}{obj['kind']} {key.name}: {expected.reason}: {message}{cure}"


def named_nodes(preview: PlanPreview) -> list[Node]:
    """Return the story with names for UIDs and digests that are not known yet."""

    def rename(node: Node) -> Node:
        notes = [one_line(str(substitute(note, preview.names))) for note in node.notes]
        text = one_line(str(substitute(node.text, preview.names)))
        return Node(text, node.style, notes, [rename(below) for below in node.below])

    return [rename(node) for node in render_tree(preview)]


def totals(preview: PlanPreview, manifests: Manifests, *, live: bool) -> list[str]:
    lines = []
    others = [item.name for item in manifests.items if _key(item) is None or item.model is None]
    if others:
        lines.append(f"Not managed by Slipway: {', '.join(others)}.")
    for verb, done in _DONE.items():
        kinds = Counter(change.key.kind.kind for change in preview.changes if change.verb == verb)
        if kinds:
            counted = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            count = sum(kinds.values())
            lines.append(f"{count} {'object' if count == 1 else 'objects'} would be {done}: {counted}.")
    if not preview.differs:
        lines.append("Nothing would change." if live else "Nothing would be made.")
    return [*lines, "Nothing was written."] if live else lines


def difference_lines(preview: PlanPreview, *, created: bool = True) -> list[str]:
    """Return `+ Job digits-1` for each object, and its changed fields below. created: include new objects."""
    lines = []
    for change in preview.changes:
        if change.verb == "create" and not created:
            continue
        about = " (and deleted again on the way)" if change.temporary else ""
        lines.append(
            str(substitute(f"{_VERBS[change.verb]} {change.key.kind} {change.key.name}{about}", preview.names))
        )
        for path, before, after in substitute(change.differences, preview.names):
            lines.append(f"    {path}: {_short(before)} -> {_short(after)}")
    return lines


def as_data(preview: PlanPreview) -> dict[str, Any]:
    """For programs: how each resource ends, and each object that would be made, changed or deleted."""
    resources = []
    for key in preview.after:
        expected = preview.expected(key)
        resources.append(
            {
                "kind": key.kind.kind,
                "namespace": key.namespace,
                "name": key.name,
                "ends": expected.state,
                "reason": expected.reason,
                "message": expected.message,
            }
        )
    changes = [
        {
            "verb": change.verb,
            "kind": change.key.kind.kind,
            "namespace": change.key.namespace,
            "name": change.key.name,
            "passing": change.temporary,
            "fields": [difference._asdict() for difference in change.differences],
            "object": None if change.after is None else manifest_of(change.after),
        }
        for change in (*preview.edits, *preview.changes)
    ]
    answer = {"good": preview.good, "resources": resources, "changes": changes}
    return dict(substitute(answer, preview.names))


def _print_documents(preview: PlanPreview) -> None:
    """Print the objects that would be applied or created, in that order, and the deleted ones as comments."""
    from slipway.cli.rendering.tables import print_data

    for change in preview.changes:
        name = substitute(f"{change.key.kind} {change.key.name}", preview.names)
        if change.after is None:
            say(f"---\n{one_line(f'# {name} is deleted')}")
            continue
        temporary = ", and deleted again on the way" if change.temporary else ""
        say(f"---\n{one_line(f'# {_DONE[change.verb]}{temporary}: {name}')}")
        print_data(substitute(manifest_of(change.after), preview.names), Output.YAML)


def _key(item: Manifest) -> Key | None:
    try:
        return key_of(item.object)
    except KeyError:
        return None


def _short(value: Object | str | int | None) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _print_lines(lines: Sequence[str]) -> None:
    if lines:
        say("\n" + "\n".join(one_line(line) if not line.startswith(" ") else f"    {one_line(line)}" for line in lines))


# --- Text ------------------------------------------------------------------------------------------------------------


def _print_entries(found: Sequence[Entry]) -> None:
    for line, style in aligned(found):
        say(head=line, colour=_STYLES.get(style, ""))


def _print_trees(nodes: Sequence[Node], *, coloured: bool) -> None:
    """Print trees by rich on a terminal, as plain text elsewhere."""
    if coloured:
        for node in nodes:
            console().print(_rich(node))
    else:
        say("\n".join(line for node in nodes for line in plain_tree(node)))


def plain_tree(node: Node) -> Iterator[str]:
    """Yield the tree in lines, notes below their node."""
    yield node.text
    for note in node.notes:
        yield f"{'│' if node.below else ' '}     {note}"
    for below in node.below:
        last = below is node.below[-1]
        head, *rest = plain_tree(below)
        yield f"{'└─' if last else '├─'} {head}"
        yield from (f"{'  ' if last else '│ '} {line}" for line in rest)


def _rich(node: Node) -> Tree:
    from rich.console import Group
    from rich.text import Text
    from rich.tree import Tree

    parts = [
        Text(node.text, style=_STYLES.get(node.style, "")),
        *(Text(f"  {note}", style="dim") for note in node.notes),
    ]
    tree = Tree(Group(*parts))
    for below in node.below:
        tree.children.append(_rich(below))
    return tree
