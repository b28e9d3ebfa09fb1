"""Which functions clients see, under which names, and how their inputs and outputs are told."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import attrs
import orjson

from .._annotations import is_row
from .._convert import JSON
from .._errors import ConfigurationError
from .._parameter import Parameter
from .._parameters import Signature
from .._registry import Registered
from .._upload import Upload
from ._types import component_of, is_path, python_type, schema_of, takes_null

__all__ = ["API_PREFIX", "ApiNames", "Catalogue", "Exposed"]

logger = logging.getLogger("aioqueue")

API_PREFIX = "/gradio_api"
"""Below which nearly all routes are, as the clients are told."""

VERSION = "6.31.0"
"""Of the Gradio whose protocol this is; clients choose by it how they talk."""

ApiNames = Mapping[str, str | Literal[False]]
"""For names of functions the names that clients call them by; False hides one."""


@attrs.frozen(slots=True, eq=False)
class Exposed:
    """A queued function as clients see it."""

    api_name: str
    registered: Registered
    subject: Any
    """The object whose method it is."""
    signature: Signature
    yields: bool
    outputs: Sequence[Any]
    """The types of what it gives back: a tuple's places are outputs of their own."""

    null_is_default: frozenset[str]
    """Parameters of which null says that they are left out: clients fill in what is."""


def _default(parameter: Parameter) -> Any:
    """A default as JSON, if it has that form; there may be none."""
    if parameter.default is inspect.Parameter.empty or parameter.is_file:
        return None
    try:
        return orjson.loads(orjson.dumps(JSON.unstructure(parameter.default)))
    except Exception:  # whatever an object of somebody's does when it is looked at
        return None


def _null_is_default(parameters: Iterable[Parameter]) -> frozenset[str]:
    return frozenset(
        one.name
        for one in parameters
        if one.default is not inspect.Parameter.empty
        and (not takes_null(one.annotation) or _has_no_json_form(one))
    )


def _has_no_json_form(parameter: Parameter) -> bool:
    """Whether clients are told null for a default that is something else."""
    return parameter.default is not None and _default(parameter) is None


def _outputs(returns: Any, yields: bool) -> Sequence[Any]:
    if yields:
        returns = next(iter(get_args(returns)), Any)
    if returns in (None, type(None)):
        return ()
    if is_row(returns):
        return get_args(returns)
    return (Upload,) if is_path(returns) and not yields else (returns,)


def _check_names(api_names: ApiNames, functions: Collection[str]) -> None:
    setting = "aioqueue.gradio.setup(api_names=…)"
    for name, api_name in api_names.items():
        if not isinstance(name, str):
            raise ConfigurationError(f"{setting}: write a function's name for {name!r}")
        is_name = isinstance(api_name, str) and api_name.strip("/") and "/" not in api_name[1:]
        if not is_name and api_name is not False:
            raise ConfigurationError(
                f"{setting}: {name!r} must have a name without slashes, or False to hide it, not "
                f"{api_name!r}"
            )
    if unknown := sorted(set(api_names) - set(functions)):
        raise ConfigurationError(
            f"{setting}: there is no queued function named {', '.join(unknown)}; there are "
            f"{', '.join(functions) or 'none'}. Write {{function: what clients call it}}; one "
            "behind a decorator without functools.wraps must be in aioqueue.setup(functions=[…])."
        )


def _expose(registered: Registered, objects: Sequence[Any], api_name: str) -> Exposed | None:
    """What clients see of a function, if they can call it at all."""
    function = registered.function
    if function is None or function.takes_request or (function.is_method and len(objects) != 1):
        return None
    signature = function.signature
    outputs = _outputs(signature.returns, function.yields)
    if any(map(is_path, outputs)):
        logger.warning(
            "%s gives back a file among other values, or one after the other, which is not "
            "possible: let it return one Path, and nothing else.",
            registered.name,
        )
    return Exposed(
        api_name.removeprefix("/"),
        registered,
        objects[0] if function.is_method else None,
        signature,
        function.yields,
        outputs,
        _null_is_default(signature.parameters),
    )


class Catalogue:
    """The functions of a started app that clients may call.

    Those that take the request can't be called with arguments, and are left out; so are methods of
    which no object has a route, or more than one.  One with something before its route is only
    there if it is named.

    Args:
        functions: all queued functions, by name.
        subjects: the objects of those that are methods.
        guarded: those that have something before their routes.
        api_names: what some are called, or that they are hidden.

    Raises:
        ConfigurationError: a name is unknown, or two functions would have the same.
    """

    def __init__(
        self,
        functions: Mapping[str, Registered],
        subjects: Mapping[str, Sequence[Any]],
        guarded: Collection[str],
        api_names: ApiNames,
    ) -> None:
        _check_names(api_names, functions)
        self.by_name: dict[str, Exposed] = {}
        for name, registered in functions.items():
            if name in guarded and name not in api_names:
                logger.warning(
                    "Gradio's clients can't call %s: its route is in a sub-application or behind a "
                    "decorator, whose checks they would pass by. aioqueue.gradio.setup(app, "
                    "api_names={%r: %r}) lets them, and {%r: False} keeps this quiet.",
                    *(name,) * 4,
                )
                continue
            api_name = api_names.get(name, name.replace(".", "_"))
            exposed = _expose(registered, subjects.get(name, ()), api_name) if api_name else None
            if exposed and self.by_name.setdefault(exposed.api_name, exposed) is not exposed:
                raise ConfigurationError(
                    f"two functions have the api_name {exposed.api_name!r}: give one of them "
                    "another one in aioqueue.gradio.setup(app, api_names={…})."
                )
        self.by_index: Sequence[Exposed] = list(self.by_name.values())
        self.info = self._info()
        """What a client asks for second: parameters, types, defaults and docs, as JSON."""
        self._components, self._dependencies = self._endpoints()

    def _endpoints(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        components: list[dict[str, Any]] = []

        def numbered(types: Sequence[Any]) -> list[int]:
            start = len(components) + 1
            components.extend(
                {"id": start + n, "type": component_of(one).lower(), "props": {}}
                for n, one in enumerate(types)
            )
            return list(range(start, start + len(types)))

        dependencies = [
            {
                "id": index,
                "api_name": one.api_name,
                "api_visibility": "public",
                "inputs": numbered([each.annotation for each in one.signature.parameters]),
                "outputs": numbered(one.outputs),
                "queue": True,
                "backend_fn": True,
                "connection": "sse",
                "types": {"generator": one.yields, "cancel": False},
                "targets": [],
                "cancels": [],
            }
            for index, one in enumerate(self.by_index)
        ]
        return components, dependencies

    def config(self, app_id: int, max_file_size: int | None) -> bytes:
        """What a client asks for first: how to talk, and what there is to call."""
        return orjson.dumps(
            {
                "version": VERSION,
                "protocol": "sse_v3",
                "api_prefix": API_PREFIX,
                "app_id": app_id,
                "space_id": None,
                "enable_queue": True,
                "connect_heartbeat": False,
                "max_file_size": max_file_size,
                "components": self._components,
                "dependencies": self._dependencies,
            }
        )

    def _info(self) -> bytes:
        named = {f"/{one.api_name}": _endpoint(one) for one in self.by_index}
        # The values of an Enum may be anything.
        return orjson.dumps({"named_endpoints": named, "unnamed_endpoints": {}}, default=str)


def _endpoint(exposed: Exposed) -> dict[str, Any]:
    function = exposed.registered.function
    assert function is not None
    several = len(exposed.outputs) > 1
    return {
        "parameters": [_parameter(one) for one in exposed.signature.parameters],
        "returns": [
            {"label": f"output {index}" if several else "output", **_told(target)}
            for index, target in enumerate(exposed.outputs)
        ],
        "api_visibility": "public",
        "description": inspect.getdoc(function.__wrapped__) or "",
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "label": parameter.name,
        "parameter_name": parameter.name,
        "parameter_has_default": parameter.default is not inspect.Parameter.empty,
        "parameter_default": _default(parameter),
        **_told(parameter.annotation),
    }


def _told(target: Any) -> dict[str, Any]:
    return {
        "type": schema_of(target),
        "python_type": {"type": python_type(target), "description": ""},
        "component": component_of(target),
    }
