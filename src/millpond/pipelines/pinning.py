"""Find the dataset versions that a request names, before anything is started on them."""

from collections.abc import Mapping

from millpond.ground.errors import Fault, InvalidError, NotFoundError
from millpond.lake.actions import get_version
from millpond.pipelines.values import RunInput
from millpond.storage.database import Transaction


def pin_inputs(
    tx: Transaction, project_id: str, inputs: Mapping[str, str]
) -> tuple[dict[str, RunInput], list[Fault]]:
    """Give what each address stands for today, and a fault for each that stands for nothing."""
    found: dict[str, RunInput] = {}
    faults: list[Fault] = []
    for name, address in inputs.items():
        try:
            one = get_version(tx, project_id, address)
        except (NotFoundError, InvalidError) as fault:
            faults.append(Fault(f"inputs.{name}", f"{fault.message} {fault.next_step}"))
            continue
        found[name] = RunInput(
            name=name,
            dataset=one.dataset,
            number=one.number,
            digest=one.digest,
            kind=one.kind,
            file_count=one.file_count,
            size_bytes=one.size_bytes,
            manifest_key=one.manifest_key,
        )
    return found, faults
