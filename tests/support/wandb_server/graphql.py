"""The part of GraphQL that wandb's client uses: parse a document, and give back exactly the fields it asks for.

An object is a dict with `__typename`; a field that takes arguments is a callable. A field that an object lacks is an
error, so that a client that asks for more than the stand-in knows is heard of.
"""

import dataclasses
import re
from typing import Any

_TOKENS = re.compile(r"#[^\n]*|\.\.\.|[{}()\[\]:!=@$,]|\"(?:\\.|[^\"\\])*\"|[A-Za-z_]\w*|-?\d+(?:\.\d+)?|\S")
_ABSTRACT = {"ArtifactCollection": {"ArtifactSequence", "ArtifactPortfolio"}}
"""Types that stand for several; a fragment on one of them fits each."""


class QueryError(ValueError):
    """The client asked for something that the stand-in does not know."""


@dataclasses.dataclass(frozen=True)
class Variable:
    """`$name` in a document."""

    name: str


@dataclasses.dataclass(frozen=True)
class Field:
    """A field with its arguments and what is asked of its value."""

    name: str
    alias: str
    arguments: dict[str, Any]
    directives: list[tuple[str, dict[str, Any]]]
    selections: list[Any] | None


@dataclasses.dataclass(frozen=True)
class Spread:
    """`...Name`, or `... on Type {…}`."""

    name: str
    on: str
    selections: list[Any] | None


class Document:
    """One parsed operation with its fragments."""

    def __init__(self, text: str):
        self._tokens = [token for token in _TOKENS.findall(text) if token != "," and not token.startswith("#")]
        self._at = 0
        self.fragments: dict[str, Spread] = {}
        self.defaults: dict[str, Any] = {}
        self.kind, self.name, self.selections = "query", "", []
        while self._at < len(self._tokens):
            self._definition()

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._peek()
        if not token or (expected and token != expected):
            raise QueryError(f"expected {expected or 'more'} in the document, got {token!r}")
        self._at += 1
        return token

    def _if(self, token: str) -> bool:
        if self._peek() == token:
            self._at += 1
            return True
        return False

    def _definition(self) -> None:
        kind = self._take() if self._peek() != "{" else "query"
        if kind == "fragment":
            name, _ = self._take(), self._take("on")
            self.fragments[name] = Spread(name, self._take(), self._selections())
            return
        if kind not in ("query", "mutation"):
            raise QueryError(f"unknown operation {kind!r}")
        self.kind, self.name = kind, self._take() if self._peek() not in ("{", "(") else ""
        if self._if("("):
            while not self._if(")"):
                self._variable()
        self.selections = self._selections()

    def _variable(self) -> None:
        self._take("$")
        name, _ = self._take(), self._take(":")
        while self._peek() not in ("=", "$", ")"):
            self._take()
        if self._if("="):
            self.defaults[name] = self._value()

    def _selections(self) -> list[Any]:
        self._take("{")
        found = []
        while not self._if("}"):
            found.append(self._spread() if self._if("...") else self._field())
        return found

    def _spread(self) -> Spread:
        if self._if("on"):
            return Spread("", self._take(), self._selections())
        return Spread(self._take(), "", None)

    def _field(self) -> Field:
        alias = name = self._take()
        if self._if(":"):
            name = self._take()
        arguments, directives = self._arguments(), []
        while self._if("@"):
            directives.append((self._take(), self._arguments()))
        return Field(name, alias, arguments, directives, self._selections() if self._peek() == "{" else None)

    def _arguments(self) -> dict[str, Any]:
        found = {}
        if self._if("("):
            while not self._if(")"):
                name, _ = self._take(), self._take(":")
                found[name] = self._value()
        return found

    def _value(self) -> Any:
        token = self._take()
        if token == "$":
            return Variable(self._take())
        if token == "[":
            items = []
            while not self._if("]"):
                items.append(self._value())
            return items
        if token == "{":
            content = {}
            while not self._if("}"):
                name, _ = self._take(), self._take(":")
                content[name] = self._value()
            return content
        return _literal(token)


def _literal(token: str) -> Any:
    if token.startswith('"'):
        return token[1:-1].replace('\\"', '"')
    if re.fullmatch(r"-?\d+(\.\d+)?", token):
        return float(token) if "." in token else int(token)
    return {"true": True, "false": False, "null": None}.get(token, token)


def execute(document: Document, variables: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Answer a document from the root object.

    Raises:
        QueryError: If a field is asked for that the objects do not have.
    """
    return _Execution(document, {**document.defaults, **variables}).select(document.selections, root)


class _Execution:
    def __init__(self, document: Document, variables: dict[str, Any]):
        self._fragments = document.fragments
        self._variables = variables

    def select(self, selections: list[Any], source: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {}
        for one in selections:
            if isinstance(one, Spread):
                spread = self._fragments[one.name] if one.name else one
                if _fits(spread.on, source.get("__typename", "")):
                    answer |= self.select(spread.selections or [], source)
            elif self._included(one):
                answer[one.alias] = self._answer(one, source)
        return answer

    def _answer(self, field: Field, source: dict[str, Any]) -> Any:
        if field.name not in source:
            raise QueryError(f"{source.get('__typename', 'the root')} has no field {field.name!r} here")
        value = source[field.name]
        if callable(value):
            value = value(**self._resolve(field.arguments))
        return self._complete(field, value)

    def _complete(self, field: Field, value: Any) -> Any:
        if isinstance(value, list):
            return [self._complete(field, one) for one in value]
        if field.selections is None:
            return value
        return None if value is None else self.select(field.selections, value)

    def _resolve(self, value: Any) -> Any:
        if isinstance(value, Variable):
            return self._variables.get(value.name)
        if isinstance(value, dict):
            return {key: self._resolve(one) for key, one in value.items()}
        return [self._resolve(one) for one in value] if isinstance(value, list) else value

    def _included(self, field: Field) -> bool:
        for name, arguments in field.directives:
            if name not in ("include", "skip"):
                raise QueryError(f"unknown directive @{name}")
            if bool(self._resolve(arguments["if"])) != (name == "include"):
                return False
        return True


def _fits(condition: str, typename: str) -> bool:
    return not condition or condition == typename or typename in _ABSTRACT.get(condition, ())
