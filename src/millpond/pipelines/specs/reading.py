"""Read a specification that came out of a sandbox: a user's word, of which nothing is believed."""

import json
import re
from collections.abc import Mapping
from typing import Any, get_args

from millpond.pipelines.values import FORMAT, GPUS_MOST, Kind, PipelineSpec, StepKind, StepSpec

SPEC_BYTES_MOST = 8 << 20
STEPS_MOST = 2_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,119}")
_KINDS, _STEP_KINDS = get_args(Kind), get_args(StepKind)
_NUMBERS = ("slots", "memory_bytes", "disk_bytes", "seconds", "processes")
_FAULTS_KEPT, _TEXT_KEPT = 100, 2_000


def read_spec(data: bytes) -> PipelineSpec:
    """Read ``spec.json``.

    Raises:
        ValueError: it is not a specification of this format, or doesn't hang together.
    """
    facts = json.loads(data, parse_constant=_refuse_constant)
    try:
        if facts["format"] != FORMAT:
            raise ValueError(f"format {facts['format']!r}, not {FORMAT}")
        spec = PipelineSpec.from_json(facts)
        faults = list(_faults(spec))
    except (KeyError, TypeError, AttributeError) as fault:
        raise ValueError(f"it lacks its form: {fault}") from fault
    if faults:
        raise ValueError("; ".join(faults[:10]))
    return spec


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _faults(spec: PipelineSpec) -> Any:
    texts = (spec.name, spec.title, spec.description, spec.python)
    if not all(isinstance(text, str) for text in texts):
        yield "texts must be texts"
    properties = spec.parameters["properties"]
    if not all(isinstance(each, dict) for each in properties.values()):
        yield "parameters must be described"
    if set(spec.parameters.get("required", ())) - set(properties):
        yield "required parameters must be described"
    names = [*properties, *(each.name for each in spec.inputs)]
    if len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names)):
        yield "names of parameters and inputs must be plain and differ"
    kinds = [each.kind for each in spec.inputs] + [each.kind for each in spec.outputs]
    if not set(kinds) <= set(_KINDS):
        yield "a kind is unknown"
    if not 0 < len(spec.steps) <= STEPS_MOST:
        yield f"it must have 1 to {STEPS_MOST} steps"
    given: dict[str, dict[str, str]] = {}
    inputs = {each.name for each in spec.inputs}
    for step in spec.steps:
        yield from _step_faults(step, given, inputs, set(properties))
        given[step.name] = dict(step.outputs)
    for output in spec.outputs:
        if output.source["output"] not in given.get(output.source["step"], {}):
            yield f"the output {output.name!r} comes from nowhere"


def _step_faults(
    step: StepSpec, given: Mapping[str, Mapping[str, str]], inputs: set[str], known: set[str]
) -> Any:
    if not _NAME.fullmatch(step.name) or step.name in given or step.kind not in _STEP_KINDS:
        yield f"step {step.name!r}: name or kind"
    numbers = [getattr(step, name) for name in _NUMBERS]
    if any(isinstance(n, bool) or not isinstance(n, int | float) or n <= 0 for n in numbers):
        yield f"step {step.name!r}: limits must be more than 0"
    if type(step.gpus) is not int or not 0 <= step.gpus <= GPUS_MOST:
        yield f"step {step.name!r}: gpus must be 0 to {GPUS_MOST}"
    if not isinstance(step.retries, int) or step.retries < 0:
        yield f"step {step.name!r}: retries"
    words = (*step.command, *step.needs, *step.secrets, *step.preload, step.entry)
    if not all(isinstance(word, str) for word in words) or not (step.entry or step.command):
        yield f"step {step.name!r}: entry or command"
    if not step.outputs or not all(_NAME.fullmatch(n) and k in _KINDS for n, k in step.outputs):
        yield f"step {step.name!r}: outputs"
    yield from _argument_faults(step, given, inputs, known)
    split = step.split
    if split and (
        split.over not in step.arguments
        or min(split.files, split.bytes, split.rows) < 1
        or step.arguments[split.over].get("kind") not in ("files", "table")
    ):
        yield f"step {step.name!r}: split"


def _argument_faults(
    step: StepSpec, given: Mapping[str, Mapping[str, str]], inputs: set[str], known: set[str]
) -> Any:
    needed = set()
    for name, argument in step.arguments.items():
        for each in argument.get("all", [argument]):
            is_told = (
                "value" in each
                or each.get("parameter") in known
                or each.get("input") in inputs
                or each.get("output") in given.get(each.get("step", ""), {})
            )
            if not is_told or not _NAME.fullmatch(name):
                yield f"step {step.name!r}: argument {name!r} comes from nowhere"
            needed |= {each["step"]} if "step" in each else set()
        if argument.get("kind", "files") not in _KINDS:
            yield f"step {step.name!r}: argument {name!r} has no kind"
    if needed != set(step.needs):
        yield f"step {step.name!r}: needs"


def read_faults(result: Any) -> tuple[list[dict[str, Any]], str]:
    """Read faults and the reason of a compilation that says it failed."""
    facts = result if isinstance(result, dict) else {}
    listed = facts.get("faults")
    faults = []
    for each in (listed if isinstance(listed, list) else [])[:_FAULTS_KEPT]:
        if isinstance(each, dict):
            line = each.get("line")
            faults.append(
                {
                    "file": str(each.get("file", ""))[:_TEXT_KEPT],
                    "line": line if isinstance(line, int) else 0,
                    "message": str(each.get("message", ""))[:_TEXT_KEPT],
                }
            )
    reason = str(facts.get("reason", ""))[: 2 * _TEXT_KEPT]
    return faults, reason
