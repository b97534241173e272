"""The record of how a run's outputs were made: what to compare when it is run again."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from millpond.ground.canonical import digest_of
from millpond.pipelines.outputs.values import FORMAT, OutputFile, RunFacts


def describe(facts: RunFacts, outputs: Iterable[OutputFile], millpond: str) -> dict[str, Any]:
    """Give the content of ``provenance.json``.

    ``outputs`` are all files but the record itself, ``millpond`` is the version of Millpond.
    """
    return {
        "format": FORMAT,
        "millpond": millpond,
        "run": facts.run,
        "pipeline": facts.pipeline,
        "code": facts.code,
        "environment": facts.environment,
        "parameters": {"values": facts.parameters, "digest": digest_of(facts.parameters)},
        "inputs": list(facts.inputs),
        "machine": facts.machine,
        "times": facts.times,
        "steps": [asdict(step) for step in facts.steps],
        "outputs": [
            {"path": each.path, "digest": each.digest, "size": each.size}
            | ({} if each.path_bytes is None else {"path_bytes": each.path_bytes})
            for each in outputs
        ],
    }
