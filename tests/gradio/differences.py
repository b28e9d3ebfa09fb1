"""Where clients see something else of our server than of Gradio's, and why.

By reason, then by place (client/scenario/place in what it prints): what they see of Gradio's server,
and what of ours. `test_twins.py` holds that nothing else differs, and that all of this does.
"""

# ruff: noqa: E501  (what was printed stays on its line)
from __future__ import annotations

from typing import Any

DIFFERENCES: dict[str, dict[str, tuple[Any, Any]]] = {
    "The values of a parameter annotated float are floats. Gradio hands them over as they came.": {
        "python/predict/whole numbers": ("3", "3.0"),
    },
    "An exception that is no JobError keeps its words to itself; we say where the server's log has them. Gradio says nothing, unless its show_error is set.": {
        "python/errors/without words": (
            "AppError: The upstream Gradio app has raised an exception but has not enabled verbose error reporting. To enable, set show_error=True in launch().",
            "AppError: The function failed. The server's log has the reason under error id ….",
        ),
        "javascript/errors/told/divide/3": (
            'status error success=false title="Error" message="An error occurred"',
            'status error success=false title="Error" message="The function failed. The server\'s log has the reason under error id …." duration=10 visible=true',
        ),
        "javascript/errors/without words": (
            "Error: An error occurred",
            "Error: The function failed. The server's log has the reason under error id ….",
        ),
        "curl/failures/without words/1": (
            'error {"error": null}',
            'error {"error": "The function failed. The server\'s log has the reason under error id ….", "duration": 10, "visible": true, "title": "Error"}',
        ),
    },
    "Values are checked against the annotations before a job waits. Gradio checks a few, when it runs, and calls the function with the others.": {
        "python/validation/no such choice": (
            "AppError: Value: 'blue' (type: <class 'str'>) is not in the list of choices: ['red', 'green']",
            'ValidationError: 1 parameter(s) failed validation:\n- colour: must be one of "red", "green", not "blue"',
        ),
        "python/validation/text for a number": (
            "'12'",
            "ValidationError: 2 parameter(s) failed validation:\n- a: must be a number, not a string\n- b: must be a number, not a string",
        ),
        "python/validation/list for a dict": (
            "[1]",
            "ValidationError: 1 parameter(s) failed validation:\n- value: must be an object, not an array",
        ),
        "python/validation/nothing for text": (
            "'Hello, None!'",
            "ValidationError: 1 parameter(s) failed validation:\n- name: must be a string, not null",
        ),
        "python/validation/number for a bool": (
            "'HELLO, ANN!'",
            "ValidationError: 1 parameter(s) failed validation:\n- loud: must be true or false, not a number",
        ),
        "javascript/validation/no such choice": (
            "Error: Value: 'blue' (type: <class 'str'>) is not in the list of choices: ['red', 'green']",
            'Error: [{"__type__":"validate","is_valid":false,"message":"must be one of \\"red\\", \\"green\\", not \\"blue\\"","parameter_name":"colour"}]',
        ),
        "javascript/validation/text for a number": (
            ["12"],
            'Error: [{"__type__":"validate","is_valid":false,"message":"must be a number, not a string","parameter_name":"a"},{"__type__":"validate","is_valid":false,"message":"must be a number, not a string","parameter_name":"b"}]',
        ),
        "javascript/validation/list for a dict": (
            [[1]],
            'Error: [{"__type__":"validate","is_valid":false,"message":"must be an object, not an array","parameter_name":"value"}]',
        ),
        "javascript/validation/nothing for text": (
            ["Hello, None!"],
            'Error: [{"__type__":"validate","is_valid":false,"message":"must be a string, not null","parameter_name":"name"}]',
        ),
        "javascript/validation/number for a bool": (
            ["HELLO, ANN!"],
            'Error: [{"__type__":"validate","is_valid":false,"message":"must be true or false, not a number","parameter_name":"loud"}]',
        ),
    },
    "The JavaScript client fills in null for what is left out of a list: that is the default here. Gradio calls the function with it.": {
        "javascript/predict/default": ("Error: An error occurred", [2.5]),
    },
    "Arguments that are missing, too many or no files are refused at once, and named. Gradio lets the function fail, or its own route.": {
        "python/errors/too many": (
            "3.5",
            "ValidationError: 1 parameter(s) failed validation:\n- data: has 3 values for 2 parameters",
        ),
        "python/files/no file": (
            "AppError: The upstream Gradio app has raised an exception but has not enabled verbose error reporting. To enable, set show_error=True in launch().",
            "ValidationError: 1 parameter(s) failed validation:\n- file: must be a file, as handle_file gives, not a string",
        ),
        "javascript/errors/too few": (
            "Error: An error occurred",
            'Error: [{"__type__":"validate","is_valid":false,"message":"must be a number, not null","parameter_name":"a"}]',
        ),
        "javascript/files/no file": (
            "Error: An error occurred",
            'Error: [{"__type__":"validate","is_valid":false,"message":"must be a file, as handle_file gives, not a string","parameter_name":"file"}]',
        ),
        "curl/failures/unknown argument/0": (
            "500 Internal Server Error",
            '422 {"detail":[{"__type__":"validate","is_valid":false,"message":"is not a parameter here","parameter_name":"c"}]}',
        ),
        "curl/failures/missing argument/0": (
            "500 Internal Server Error",
            '422 {"detail":[{"__type__":"validate","is_valid":false,"message":"is missing","parameter_name":"a"}]}',
        ),
        "curl/failures/no data": (
            '422 {"detail":[{"type":"missing","loc":["body","data"],"msg":"Field required","input":{}}]}',
            '422 {"detail":[{"__type__":"validate","is_valid":false,"message":"is missing","parameter_name":"a"}]}',
        ),
        "curl/failures/no list": (
            '422 {"detail":[{"type":"list_type","loc":["body","data"],"msg":"Input should be a valid list","input":1}]}',
            '400 {"detail":"data must be an array of values."}',
        ),
    },
    "No file is fetched from an address unless `allow_url` says so. Gradio fetches what is public, and this is not.": {
        "python/files/an address": (
            "AppError: The upstream Gradio app has raised an exception but has not enabled verbose error reporting. To enable, set show_error=True in launch().",
            "ValidationError: 1 parameter(s) failed validation:\n- file: is a URL, and files from there are not taken: upload it",
        ),
        "javascript/files/an address": (
            "Error: An error occurred",
            'Error: [{"__type__":"validate","is_valid":false,"message":"is a URL, and files from there are not taken: upload it","parameter_name":"file"}]',
        ),
    },
    "Only what was uploaded is a file; that is said at once.": {
        "curl/files/of the server": (
            ["200 text/event-stream", 'error {"error": null}'],
            [
                '422 {"detail":[{"__type__":"validate","is_valid":false,"message":"is no file that you have uploaded, or it is no longer kept","parameter_name":"file"}]}'
            ],
        ),
        "curl/files/of nobody": (
            ["200 text/event-stream", 'error {"error": null}'],
            [
                '422 {"detail":[{"__type__":"validate","is_valid":false,"message":"is no file that you have uploaded, or it is no longer kept","parameter_name":"file"}]}'
            ],
        ),
    },
    "A path that is none of a client's files is unknown, whether there is such a file or not.": {
        "curl/files/read": (403, 404),
    },
    "A hidden function can't be called. Gradio hides a private one from its Python client only.": {
        "javascript/errors/hidden": (
            ["You should not have seen this."],
            'Error: No endpoint matching "/secret" was found.',
        ),
        "curl/failures/hidden": (
            ["200 text/event-stream", 'complete ["You should not have seen this."]'],
            ['404 {"detail":"There is no function named \'secret\' here."}'],
        ),
    },
    "That a function is unknown is the caller's mistake, not the server's.": {
        "curl/failures/unknown name/0": (
            "500 Internal Server Error",
            '404 {"detail":"There is no function named \'unknown\' here."}',
        ),
    },
    "The stream ends as HTTP says. Gradio breaks it off.": {
        "curl/failures/unknown event": (
            ["200 text/event-stream", 'error "404: Not Found"', "cut off"],
            ["200 text/event-stream", 'error "404: Not Found"'],
        ),
    },
    "Who is refused is told how long the line is, and when to come back.": {
        "curl/queue_full/refused": (
            '503 {"detail":"Queue is full. Max size is 2 and size is 2."}',
            '503 {"detail":"The queue is full (2 waiting). Please try again in about 2 s."}',
        ),
    },
    "To cancel one that waits does not touch one that runs. Gradio stops that too, and never tells.": {
        "python/cancel_sibling/running": ("TimeoutError: ", "'released'"),
        "javascript/cancel_sibling": ([], [["released"]]),
    },
    "A result is told with the type that its name says.": {
        "javascript/files/back/mime_type": (None, "text/plain"),
    },
    "A text is sent without a word on its encoding, which we don't know.": {
        "javascript/files/back/type": ("text/plain; charset=utf-8", "text/plain"),
    },
    "What holds JSON has the type of the annotation. Gradio's component takes any JSON.": {
        "python/view_api/described/named_endpoints//echo_json/parameters/0/type": ({}, "object"),
        "python/view_api/described/named_endpoints//echo_json/parameters/0/python_type/type": (
            "str | float | bool | list | dict",
            "dict[str, Any]",
        ),
        "python/view_api/described/named_endpoints//echo_json/parameters/0/component": (
            "Json",
            "Api",
        ),
        "python/view_api/described/named_endpoints//echo_json/returns/0/type": ({}, "object"),
        "python/view_api/described/named_endpoints//echo_json/returns/0/python_type/type": (
            "str | float | bool | list | dict",
            "dict[str, Any]",
        ),
        "python/view_api/described/named_endpoints//echo_json/returns/0/component": ("Json", "Api"),
        "python/view_api/described/named_endpoints//grow/returns/0/type": ({}, "object"),
        "python/view_api/described/named_endpoints//grow/returns/0/python_type/type": (
            "str | float | bool | list | dict",
            "dict[str, Any]",
        ),
        "python/view_api/described/named_endpoints//grow/returns/0/component": ("Json", "Api"),
        "python/view_api/printed/34": (
            "     - [Json] value: str | float | bool | list | dict (required)  ",
            "     - [Api] value: dict[str, Any] (required)  ",
        ),
        "python/view_api/printed/36": (
            "     - [Json] output: str | float | bool | list | dict ",
            "     - [Api] output: dict[str, Any] ",
        ),
        "python/view_api/printed/60": (
            "     - [Json] output: str | float | bool | list | dict ",
            "     - [Api] output: dict[str, Any] ",
        ),
        "javascript/view_api/named_endpoints//echo_json/parameters/0/type": ("", "object"),
        "javascript/view_api/named_endpoints//echo_json/parameters/0/python_type/type": (
            "str | float | bool | list | dict",
            "dict[str, Any]",
        ),
        "javascript/view_api/named_endpoints//echo_json/parameters/0/component": ("Json", "Api"),
        "javascript/view_api/named_endpoints//echo_json/returns/0/type": ("", "object"),
        "javascript/view_api/named_endpoints//echo_json/returns/0/python_type/type": (
            "str | float | bool | list | dict",
            "dict[str, Any]",
        ),
        "javascript/view_api/named_endpoints//echo_json/returns/0/component": ("Json", "Api"),
        "javascript/view_api/named_endpoints//grow/returns/0/type": ("", "object"),
        "javascript/view_api/named_endpoints//grow/returns/0/python_type/type": (
            "str | float | bool | list | dict",
            "dict[str, Any]",
        ),
        "javascript/view_api/named_endpoints//grow/returns/0/component": ("Json", "Api"),
    },
    "A parameter annotated int is announced as one. Gradio announces what its component is.": {
        "python/view_api/described/named_endpoints//half/parameters/0/type": ("number", "integer"),
        "python/view_api/described/named_endpoints//half/parameters/0/python_type/type": (
            "float",
            "int",
        ),
        "python/view_api/printed/46": (
            "     - [Number] number: float (required)  ",
            "     - [Number] number: int (required)  ",
        ),
        "javascript/view_api/named_endpoints//half/parameters/0/type": ("number", ""),
        "javascript/view_api/named_endpoints//half/parameters/0/python_type/type": ("float", "int"),
    },
}
