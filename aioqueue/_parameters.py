"""From a request, or a call, to a payload; from the payload to the arguments.

Arguments are checked when they arrive, so that a mistake is a 422 before anything is queued, and
converted again from the stored bytes when the job runs, so that no app comes to depend on an
object that only this process has.

A payload is a length, a JSON head and the files behind it::

    4 bytes, big-endian | {"json": {…}, "text": {…}, "files": [[name, size], …]} | file | file …

``json`` holds arguments that came as JSON, in the very bytes the client sent; ``text`` those that
came as text in a path, a query or a form field.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

import attrs
import orjson

from ._convert import ARRAYS, JSON, TEXT, Mismatch, is_union, kind_of, mismatches
from ._errors import ConfigurationError, Problem, Refused
from ._running import JOB, Job

__all__ = ["Body", "Received", "Signature"]

_NO_JOB: Any = object()


class Body:
    """Marks the parameter that takes the whole body: ``data: Annotated[list[int], Body]``."""


@attrs.frozen(slots=True)
class Received:
    """What came with a request, before anybody looked at types."""

    path: Mapping[str, str] = attrs.field(factory=dict)
    query: Sequence[tuple[str, str]] = ()
    json: bytes | None = None
    """The JSON text of the body, already known to parse; None without one."""
    fields: Sequence[tuple[str, str]] = ()
    """The text fields of a multipart form."""
    files: Sequence[tuple[str, bytes]] = ()
    """Its files."""
    whole: bytes | None = None
    """The body, where it is neither JSON nor a form."""


@attrs.frozen(slots=True)
class _Parameter:
    name: str
    annotation: Any
    required: bool
    positional: bool
    whole_body: bool

    @property
    def is_file(self) -> bool:
        """Whether bytes are taken."""
        return bytes in _options(self.annotation)

    @property
    def is_list(self) -> bool:
        """Whether a name that is given several times makes sense."""
        return any(kind_of(option) in ARRAYS for option in _options(self.annotation))


def _options(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if is_union(annotation) else (annotation,)


class Signature:
    """The parameters of a queued function, as a client can fill them.

    Args:
        function: the plain function.
        method: whether its first parameter is the object it belongs to.

    Raises:
        ConfigurationError: it has parameters that no request can fill.
    """

    def __init__(self, function: Callable[..., Any], *, method: bool) -> None:
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as error:
            raise ConfigurationError(
                f"{function.__qualname__}: the annotation {error.name!r} can't be found. Names in "
                "annotations must be importable at run time, not only under TYPE_CHECKING."
            ) from None
        self.returns: Any = hints.get("return", Any)
        self._name = function.__qualname__
        self._signature = inspect.signature(function)
        self._parameters: dict[str, _Parameter] = {}
        self._open = False
        self._job: str | None = None
        self._body: _Parameter | None = None
        self._method = method
        parameters = list(self._signature.parameters.values())
        for parameter in parameters[1:] if method else parameters:
            self._add(parameter, hints.get(parameter.name, Any))

    def _add(self, parameter: inspect.Parameter, annotation: Any) -> None:
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ConfigurationError(
                f"{self._name}: *{parameter.name} can't be filled from a request. "
                f"Take a list: {parameter.name}: list[…]."
            )
        if parameter.kind is parameter.VAR_KEYWORD:
            self._open = True
            return
        if annotation is Job or parameter.default is JOB:
            self._job = parameter.name
            return
        whole_body = get_origin(annotation) is Annotated and Body in annotation.__metadata__
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        positional = parameter.kind is parameter.POSITIONAL_ONLY
        required = parameter.default is parameter.empty
        known = _Parameter(parameter.name, annotation, required, positional, whole_body)
        self._parameters[parameter.name] = known
        if whole_body:
            if self._body is not None:
                raise ConfigurationError(f"{self._name}: only one parameter can be the whole Body")
            self._body = known

    @property
    def takes_files(self) -> bool:
        """Whether a form may fill this signature."""
        return self._body is None and any(p.is_file for p in self._parameters.values())

    @property
    def takes_any_body(self) -> bool:
        """Whether the whole body is taken as bytes, whatever its type."""
        return self._body is not None and self._body.is_file

    # A request

    def payload_of(self, received: Received) -> bytes:
        """Check what came with a request, and pack it.

        Raises:
            Refused: 422, with every field that is wrong.
        """
        wrong: list[Mismatch] = []
        text = self._text(received, wrong)
        json = self._json(received, wrong)
        files = self._files(received, wrong)
        given = [*text, *json, *files]
        wrong += [
            Mismatch(name, "one value", "is given in more than one place")
            for name in sorted({name for name in given if given.count(name) > 1})
        ]
        self._convert(json, text, files, wrong)
        if wrong:
            raise _refusal(wrong)
        raw = received.json
        if raw is not None and self._body is not None:
            raw = b'{"%b":%b}' % (self._body.name.encode(), raw)
        return _pack(raw, text, files)

    def _text(self, received: Received, wrong: list[Mismatch]) -> dict[str, Any]:
        """Arguments that came as text: path, then query, then form."""
        text: dict[str, Any] = {}
        for name, value in received.path.items():
            if name in self._parameters:
                text[name] = [value] if self._parameters[name].is_list else value
        for pairs, unknown_is_wrong in ((received.query, False), (received.fields, True)):
            for name, value in pairs:
                parameter = self._parameters.get(name)
                if parameter is not None and parameter.is_list:
                    text.setdefault(name, []).append(value)
                elif parameter is not None or (unknown_is_wrong and self._open):
                    if name in text:
                        wrong.append(Mismatch(name, "one value", "is given more than once"))
                    text[name] = value
                elif unknown_is_wrong:
                    wrong.append(self._unknown(name))
        return text

    def _unknown(self, name: str) -> Mismatch:
        known = ", ".join(self._parameters) or "none"
        return Mismatch(name, f"one of the parameters ({known})", "is not a parameter here")

    def _json(self, received: Received, wrong: list[Mismatch]) -> dict[str, Any]:
        if received.json is None:
            return {}
        value = orjson.loads(received.json)
        if self._body is not None:
            return {self._body.name: value}
        if not isinstance(value, dict):
            wrong.append(Mismatch("", "an object", "The body must be a JSON object of arguments"))
            return {}
        if not self._open:
            wrong += [self._unknown(name) for name in value if name not in self._parameters]
        elif self._job is not None and self._job in value:
            wrong.append(self._unknown(self._job))
        return value

    def _files(self, received: Received, wrong: list[Mismatch]) -> dict[str, bytes]:
        if received.whole is not None and self._body is not None:
            return {self._body.name: received.whole}
        files: dict[str, bytes] = {}
        for name, content in received.files:
            if name not in self._parameters:
                wrong.append(self._unknown(name))
            elif name in files:
                wrong.append(Mismatch(name, "one file", "is given more than once"))
            files[name] = content
        return files

    # A call from code

    def payload_of_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Pack the arguments of a call.

        Raises:
            TypeError: they do not fit the function, or one has no JSON form.
        """
        bind = self._signature.bind
        bound = bind(_NO_JOB, *args, **kwargs) if self._method else bind(*args, **kwargs)
        json: dict[str, Any] = {}
        files: dict[str, bytes] = {}
        for name, value in bound.arguments.items():
            if name == self._job or value is _NO_JOB:
                continue
            if name not in self._parameters:
                json |= value  # **kwargs
            elif isinstance(value, bytes):
                files[name] = value
            else:
                json[name] = JSON.unstructure(value)
        try:
            raw = orjson.dumps(json)
        except TypeError as error:
            raise TypeError(f"an argument of {self._name} has no JSON form: {error}") from None
        wrong: list[Mismatch] = []
        self._convert(orjson.loads(raw), {}, files, wrong)
        if wrong:
            raise TypeError(
                f"{self._name}: " + "; ".join(f"{one.field} {one.message}" for one in wrong)
            )
        return _pack(raw, {}, files)

    # The run

    def arguments(self, payload: bytes, job: Job | None) -> tuple[list[Any], dict[str, Any]]:
        """The positional and the named arguments in a payload."""
        json, text, files = _unpack(payload)
        wrong: list[Mismatch] = []
        named = self._convert(json, text, files, wrong)
        if wrong:
            raise _refusal(wrong)  # the code changed since the job was accepted
        if self._job is not None:
            named[self._job] = job
        positional = [
            named.pop(parameter.name)
            for parameter in self._parameters.values()
            if parameter.positional and parameter.name in named
        ]
        return positional, named

    def _convert(
        self,
        json: Mapping[str, Any],
        text: Mapping[str, Any],
        files: Mapping[str, bytes],
        wrong: list[Mismatch],
    ) -> dict[str, Any]:
        """Give each argument its type; what can't have it is added to ``wrong``."""
        named: dict[str, Any] = {}
        for values, converter in ((json, JSON), (text, TEXT), (files, JSON)):
            for name, value in values.items():
                parameter = self._parameters.get(name)
                if parameter is None and not self._open:
                    continue  # said to be wrong already
                annotation = Any if parameter is None else parameter.annotation
                try:
                    named[name] = converter.structure(value, annotation)
                except Exception as error:
                    wrong.extend(mismatches(name, annotation, error))
        for parameter in self._parameters.values():
            missing = parameter.name not in named and parameter.required
            if missing and not any(one.field.startswith(parameter.name) for one in wrong):
                wrong.append(Mismatch(parameter.name, "a value", "is missing"))
        return named


def _refusal(wrong: Sequence[Mismatch]) -> Refused:
    detail = "; ".join(f"{one.field} {one.message}".strip() for one in wrong) + "."
    errors = [one.document() for one in wrong]
    return Refused(Problem.of("invalid_arguments", detail, errors=errors))


def _pack(json: bytes | None, text: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    head = b'{"json":%b' % (json or b"{}")
    if text:
        head += b',"text":%b' % orjson.dumps(text)
    if files:
        sizes = [[name, len(content)] for name, content in files.items()]
        head += b',"files":%b' % orjson.dumps(sizes)
    return b"".join((len(head + b"}").to_bytes(4, "big"), head, b"}", *files.values()))


def _unpack(payload: bytes) -> tuple[dict[str, Any], dict[str, Any], dict[str, bytes]]:
    start = 4 + int.from_bytes(payload[:4], "big")
    head = orjson.loads(payload[4:start])
    files: dict[str, bytes] = {}
    for name, size in head.get("files", ()):
        files[name] = payload[start : start + size]
        start += size
    return head["json"], head.get("text", {}), files
