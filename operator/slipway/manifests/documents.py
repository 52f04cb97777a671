"""The documents of a file of YAML or JSON, as kubectl splits it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from slipway.manifests.nodes import (
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_FAULTS,
    MAX_VALUES,
    TOO_DEEP,
    Budget,
    Document,
    NodeReader,
    Spot,
    SyntaxProblem,
    TooLarge,
    UnreadableDocument,
    parse_number,
    read_yaml,
)

MAX_DOCUMENTS = 10_000
_MARKER = re.compile(r"^---[ \t\r]*(#.*)?$", re.MULTILINE)


def documents(text: str) -> tuple[list[Document], list[SyntaxProblem]]:
    """Return the readable documents of a file, and the errors of the others."""
    found: list[Document] = []
    faults: list[SyntaxProblem] = []
    if text.startswith("{", _after_blanks(text, 0)):
        try:
            return _read_json(text), []
        except UnreadableDocument as error:
            return [], [error.fault]
    budget = Budget()
    for above, part in _parts(text):
        reading = NodeReader(above, budget)
        try:
            found += read_yaml(part, reading)
            if len(found) > MAX_DOCUMENTS:
                what = f"more than {MAX_DOCUMENTS:,} documents; split the file"
                raise UnreadableDocument(SyntaxProblem(above + 1, 1, what))  # noqa: TRY301
        except TooLarge as error:
            return found, [*faults, *reading.faults, error.fault]
        except UnreadableDocument as error:
            faults.append(error.fault)
        faults += reading.faults
        if len(faults) > MAX_FAULTS:
            break
    return found, faults


def _parts(text: str) -> Iterator[tuple[int, str]]:
    """Yield the texts between lines of `---`, as kubectl splits them, with the number of lines above."""
    start = above = 0
    for marker in _MARKER.finditer(text):
        part = text[start : marker.start()]
        if not part.isspace():
            yield above, part
        above += part.count("\n")
        start = marker.end()
    yield above, text[start:]


_BLANKS = re.compile(r"[ \t\r\n]*")
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


def _after_blanks(text: str, start: int) -> int:
    found = _BLANKS.match(text, start)
    return found.end() if found else start


def _read_json(text: str) -> list[Document]:
    """Return consecutive JSON values, as kubectl reads them. The same text read as YAML gives the places."""
    repeated: list[str] = []

    def unrepeated(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs) and not repeated:
            names = Counter(name for name, _ in pairs)
            repeated.extend(name for name, count in names.items() if count > 1)
        return found

    _check_nesting(text)
    decoder = json.JSONDecoder(
        object_pairs_hook=unrepeated, parse_float=_finite, parse_int=_integer, parse_constant=_refused
    )
    found: list[Document] = []
    budget, end, above = Budget(), 0, 0
    while (start := _after_blanks(text, end)) < len(text):
        above += text.count("\n", end, start)
        try:
            value, stop = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            what = f"invalid JSON: {error.msg[:1].lower()}{error.msg[1:]}"
            raise UnreadableDocument(SyntaxProblem(error.lineno, error.colno, what)) from error
        except ValueError as error:
            raise UnreadableDocument(SyntaxProblem(above + 1, 1, str(error))) from error
        reading = NodeReader(above, budget)
        spot = _spots(text[start:stop], reading)
        if repeated:
            twice = (fault for fault in reading.faults if fault.what.startswith("duplicate field"))
            what = f"duplicate field {repeated[0]!r:.80}; remove one"
            raise UnreadableDocument(next(twice, SyntaxProblem(above + 1, 1, what)))
        found.append(Document(value, spot))
        if len(found) > MAX_DOCUMENTS:
            raise UnreadableDocument(
                SyntaxProblem(above + 1, 1, f"more than {MAX_DOCUMENTS:,} documents; split the file")
            )
        above += text.count("\n", start, stop)
        end = stop
    return found


def _check_nesting(text: str) -> None:
    """Raise UnreadableDocument for a text that is nested too deep or too large, before it is parsed."""
    depth = 0
    for count, token in enumerate(_NESTING.finditer(text)):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        if depth > MAX_DEPTH or count > 2 * MAX_VALUES:
            line = text.count("\n", 0, token.start()) + 1
            column = token.start() - text.rfind("\n", 0, token.start())
            what = f"the JSON {TOO_DEEP}" if depth > MAX_DEPTH else f"more than {MAX_VALUES:,} values; split the file"
            raise UnreadableDocument(SyntaxProblem(line, column, what))


def _spots(text: str, reading: NodeReader) -> Spot:
    """Return the places of the values of a JSON text; its beginning if it is not YAML."""
    try:
        (document,) = read_yaml(text.replace("\t", " "), reading)
    except TooLarge:
        raise
    except (UnreadableDocument, ValueError):
        return Spot(reading.above + 1, 1, reading.above + 1, 1)
    return document.spot


def _integer(text: str) -> int | float:
    return int(text) if len(text) <= MAX_DIGITS else _finite(text)


def _finite(text: str) -> int | float:
    value = parse_number(text)
    if not isfinite(value):
        raise ValueError(f"{text[:40]} is not a number of JSON; use a finite number")
    return value


def _refused(text: str) -> Any:
    raise ValueError(f"{text} is not a number of JSON; use a finite number")
