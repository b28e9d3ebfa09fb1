"""From a request, or a call, to a payload; from the payload to the arguments.

Arguments are checked when they arrive, so that a mistake is a 422 before anything is queued, and
converted again from the stored bytes when the job runs, so that no app comes to depend on an
object that only this process has.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice, repeat
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args, get_origin

from ._annotations import hints_of, kind_of, options_of, result_type
from ._batch import Batch
from ._convert import Hook, hooks_for
from ._errors import ConfigurationError, Problem, Refused
from ._job import frozen
from ._mismatches import Mismatch, mismatches
from ._parameter import Parameter
from ._payload import File, Files, dump, pack, parse, unpack
from ._running import JOB, Job
from ._upload import Upload

__all__ = ["Body", "Received", "Signature"]

T = TypeVar("T")

_NO_SUBJECT: Any = object()

_MOST = 50
"""How many mistakes one answer lists: a body has room for a hundred thousand."""


class Body:
    """Marks the parameter that takes the whole body: ``data: Annotated[list[int], Body]``."""


@frozen
class Received:
    """What came with a request, before anybody looked at types."""

    path: Mapping[str, str] = MappingProxyType({})
    query: Sequence[tuple[str, str]] = ()
    json: bytes | None = None
    """The body, said to be JSON; None without one."""
    fields: Sequence[tuple[str, str]] = ()
    """The text fields of a multipart form."""
    files: Sequence[tuple[str, File]] = ()
    """Its files."""
    file_names: Sequence[str] = ()
    """What the client calls each of them; no argument, but part of what makes requests the same."""
    whole: File | None = None
    """The body as a file, where the function takes it whole."""


class Signature:
    """The parameters of a queued function, as a client can fill them.

    Args:
        function: the plain function.
        method: whether its first parameter is the object it belongs to.
        batch: whether it takes lists, of which each job fills one place.

    Raises:
        ConfigurationError: it has parameters that no request can fill.
    """

    def __init__(self, function: Callable[..., Any], *, method: bool, batch: bool = False) -> None:
        self._name = function.__qualname__
        self._batch = batch
        hints = hints_of(function)
        self.returns: Any = result_type(hints.get("return", Any), batch)
        self._signature = inspect.signature(function)
        self._parameters: dict[str, Parameter] = {}
        self._required: list[str] = []
        self._positional: list[inspect.Parameter] = []
        self._rest: Parameter | None = None
        self._job: str | None = None
        self._body: Parameter | None = None
        self.takes_any_body = False
        """Whether the whole body is taken as a file, whatever its type."""
        self.body_goes_to_disk = False
        """Whether the whole body is taken as a file on disk."""
        self._method = method
        parameters = list(self._signature.parameters.values())
        self._reserved = {parameters.pop(0).name} if method else set()
        for parameter in parameters:
            self._add(parameter, hints.get(parameter.name, Any))

    def _add(self, parameter: inspect.Parameter, annotation: Any) -> None:
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise ConfigurationError(
                f"{self._name}: *{parameter.name} can't be filled from a request. "
                f"Take a list: {parameter.name}: list[…]."
            )
        whole_body = get_origin(annotation) is Annotated and any(
            mark is Body or isinstance(mark, Body) for mark in annotation.__metadata__
        )
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        if self._batch:
            annotation = self._item_of(parameter, annotation)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            self._positional.append(parameter)
        if Job in options_of(annotation) or parameter.default is JOB:
            self._job = self._only(self._job, parameter.name, "the job")
            self._reserved.add(parameter.name)
            return
        hooks = self._hooks(parameter.name, annotation)
        known = Parameter(parameter.name, annotation, parameter.default, whole_body, *hooks)
        if parameter.kind is parameter.VAR_KEYWORD:
            self._rest = known
            return
        self._parameters[parameter.name] = known
        if parameter.default is parameter.empty:
            self._required.append(parameter.name)
        if whole_body:
            self._body = self._only(self._body, known, "the whole Body")
            self.takes_any_body = known.is_file
            self.body_goes_to_disk = known.is_on_disk

    def _item_of(self, parameter: inspect.Parameter, annotation: Any) -> Any:
        """What one job sends of a batch function's parameter: its list has a place for each."""
        if parameter.kind is not parameter.VAR_KEYWORD:
            if kind_of(annotation) is list:
                return next(iter(get_args(annotation)), Any)
            if annotation is Any:
                return Any
        raise ConfigurationError(
            f"{self._name}: a batch function takes lists with one entry a job, so declare "
            f"{parameter.name}: list[…], each job sending one of what is in it."
        )

    def _only(self, before: T | None, this: T, what: str) -> T:
        if before is not None:
            raise ConfigurationError(f"{self._name}: only one parameter can be {what}")
        return this

    def _hooks(self, name: str, annotation: Any) -> tuple[Hook, Hook]:
        """What makes the argument.  A type that would make every request a 422 is refused."""
        try:
            return hooks_for(annotation)
        except Exception as error:
            raise ConfigurationError(
                f"{self._name}: no request can fill {name}: {annotation!r} ({error}). Take plain "
                "types, lists and dicts of them, attrs classes, dataclasses, or bytes or "
                "aioqueue.Upload for a file."
            ) from None

    @property
    def takes_files(self) -> bool:
        """Whether a form may fill this signature."""
        return self._body is None and any(p.is_file for p in self._parameters.values())

    def goes_to_disk(self, name: str) -> bool:
        """Whether a file that comes under this name goes to disk."""
        parameter = self._taker(name)
        return parameter is not None and parameter.is_on_disk

    def may_be_file(self, name: str) -> bool:
        """Whether a file may come under this name; what can't be right need not be kept."""
        parameter = self._taker(name)
        return parameter is not None and parameter.may_be_file

    def _taker(self, name: str) -> Parameter | None:
        """What a value of this name in a body is for."""
        parameter = self._parameters.get(name)
        return self._rest if parameter is None and name not in self._reserved else parameter

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
        if text or files:
            wrong += _repeated([*text, *json, *files], "is given in more than one place")
        self._convert(json, text, files, wrong)
        if wrong:
            raise _refusal(wrong)
        raw = received.json
        if raw is not None and self._body is not None:
            raw = b'{"%b":%b}' % (self._body.name.encode(), raw)
        return pack(raw, text, files)

    def _text(self, received: Received, wrong: list[Mismatch]) -> dict[str, Any]:
        """Arguments that came as text: path, then query, then form."""
        if not (received.path or received.query or received.fields):
            return {}
        # Paths and queries may have more in them than is meant for us; a body may not.
        pairs = [
            (name, value)
            for name, value in (*received.path.items(), *received.query)
            if name in self._parameters and not self._parameters[name].whole_body
        ]
        pairs += [(name, value) for name, value in received.fields if self._taker(name)]
        wrong += self._unknown(name for name, _ in received.fields)
        lists = {one.name for one in self._parameters.values() if one.is_list}
        text: dict[str, Any] = {name: [] for name, _ in pairs if name in lists}
        for name, value in pairs:
            if name in lists:
                text[name].append(value)
            else:
                text[name] = value
        single = [name for name, _ in pairs if name not in lists]
        wrong += _repeated(single, "is given more than once")
        return text

    def _unknown(self, names: Iterable[str]) -> list[Mismatch]:
        """What is wrong with the names in a body."""
        unknown = [name for name in names if self._taker(name) is None]
        if not unknown:
            return []
        expected = f"one of the parameters ({', '.join(self._parameters) or 'none'})"
        return [
            Mismatch(name, expected, "is not a parameter here")
            for name in islice(dict.fromkeys(unknown), _MOST)
        ]

    def _json(self, received: Received, wrong: list[Mismatch]) -> dict[str, Any]:
        if received.json is None:
            return {}
        value = parse(received.json)
        if self._body is not None:
            return {self._body.name: value}
        if not isinstance(value, dict):
            wrong.append(Mismatch("", "an object", "The body must be a JSON object of arguments"))
            return {}
        if not value.keys() <= self._parameters.keys():
            wrong += self._unknown(value)
        return value

    def _files(self, received: Received, wrong: list[Mismatch]) -> Files:
        if received.whole is not None and self._body is not None:
            return {self._body.name: received.whole}
        if not received.files:
            return {}
        wrong += self._unknown(name for name, _ in received.files)
        single: list[tuple[str, File]] = []
        lists: dict[str, list[File]] = {}
        called = received.file_names or repeat(None)
        for (name, file), file_name in zip(received.files, called, strict=False):
            parameter = self._taker(name)
            if parameter is not None and parameter.is_file and _is_not_chosen(file, file_name):
                continue
            if parameter is not None and parameter.is_list_of_files:
                lists.setdefault(name, []).append(file)
            else:
                single.append((name, file))
        wrong += _repeated((name for name, _ in single), "is given more than once")
        return {**dict(single), **lists}

    # Arguments by name

    @property
    def parameters(self) -> Sequence[Parameter]:
        """What a client fills by name, in the function's order."""
        return list(self._parameters.values())

    def payload_of_named(self, raw: bytes, files: Files) -> bytes:
        """Check arguments, of which some are a JSON object and some files, and pack them.

        Raises:
            Refused: 422, with every argument that is wrong; 400, that is no JSON.
        """
        arguments = parse(raw)
        wrong = self._unknown(arguments)
        self._convert(arguments, {}, files, wrong)
        if wrong:
            raise _refusal(wrong)
        return pack(raw, {}, files)

    # A call from code

    def payload_of_call(self, given: Mapping[str, Any]) -> bytes:
        """Pack the arguments of a call.

        Raises:
            TypeError: one does not fit the function, or has no JSON form.
        """
        files = {name: value for name, value in given.items() if _is_files(value)}
        try:
            raw = dump({name: value for name, value in given.items() if name not in files})
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"an argument of {self._name} has no JSON form: {error}") from None
        try:
            return self.payload_of_named(raw, files)
        except Refused as refused:
            raise TypeError(f"{self._name}: {refused.problem.detail}") from None

    def bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments of a call by name.

        Raises:
            TypeError: they are not those of the function.
        """
        subject = (_NO_SUBJECT,) if self._method else ()
        given: dict[str, Any] = {}
        for name, value in self._signature.bind(*subject, *args, **kwargs).arguments.items():
            if name in self._parameters:
                given[name] = value
            elif name not in self._reserved:  # **kwargs, which may repeat a positional-only name
                if twice := value.keys() & (self._parameters.keys() | self._reserved):
                    raise TypeError(f"{self._name}: {', '.join(twice)} can't be passed by name")
                given |= value
        return given

    # The run

    def arguments(self, payload: bytes, job: Job | None) -> tuple[list[Any], dict[str, Any]]:
        """The positional and the named arguments in a payload."""
        json, text, files = unpack(payload)
        wrong: list[Mismatch] = []
        named = self._convert(json, text, files, wrong)
        if wrong:
            raise _refusal(wrong)  # the code changed since the job was accepted
        if self._job is not None:
            named[self._job] = job
        positional = [named.pop(one.name, one.default) for one in self._positional]
        return positional, named

    def batch_arguments(
        self, payloads: Sequence[bytes], batch: Batch
    ) -> tuple[list[Any], dict[str, Any]]:
        """The lists of the arguments of several jobs; what one leaves out has its default."""
        rows = []
        for payload, job in zip(payloads, batch.jobs, strict=True):
            positional, named = self.arguments(payload, job)
            named |= {
                one.name: value for one, value in zip(self._positional, positional, strict=True)
            }
            rows.append(named)
        columns = {
            name: [row.get(name, self._parameters[name].default) for row in rows]
            for name in self._parameters
        }
        if self._job is not None:
            columns[self._job] = list(batch.jobs)
        return [columns.pop(one.name) for one in self._positional], columns

    def _convert(
        self,
        json: Mapping[str, Any],
        text: Mapping[str, Any],
        files: Files,
        wrong: list[Mismatch],
    ) -> dict[str, Any]:
        """Give each argument its type; what can't have it is added to ``wrong``."""
        named: dict[str, Any] = {}
        failed: set[str] = set()
        for values, is_text in ((json, False), (text, True), (files, False)):
            for name, value in values.items():
                parameter = self._parameters.get(name) or self._taker(name)
                if parameter is None:
                    continue  # said to be wrong already
                make = parameter.from_text if is_text else parameter.from_json
                try:
                    named[name] = make(value, parameter.annotation)
                except Exception as error:
                    failed.add(name)
                    found = mismatches(name, parameter.annotation, error)
                    wrong.extend(islice(found, _MOST))
        for name in self._required:
            if name not in named and name not in failed:
                wrong.append(Mismatch(name, "a value", "is missing"))
        return named


def _is_files(value: Any) -> bool:
    """Whether an argument of a call is a file, or a list of them."""
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, File) for one in value)
    return isinstance(value, File)


def _is_not_chosen(file: File, file_name: str | None) -> bool:
    """Whether this is how a browser sends an input for a file when there is none in it."""
    return file_name == "" and not (file.size if isinstance(file, Upload) else len(file))


def _repeated(names: Iterable[str], message: str) -> list[Mismatch]:
    return [Mismatch(name, "one value", message) for name, n in Counter(names).items() if n > 1]


def _refusal(wrong: Sequence[Mismatch]) -> Refused:
    listed = [f"{one.field} {one.message}".strip() for one in wrong[:_MOST]]
    if len(wrong) > _MOST:
        listed.append("and more")
    errors = [one.document() for one in wrong[:_MOST]]
    return Refused(Problem.of("invalid_arguments", "; ".join(listed) + ".", errors=errors))
