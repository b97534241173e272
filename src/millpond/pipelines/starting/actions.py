"""What a person can do with a form: open it filled, look for data that fits a field."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.ground.actor import Actor
from millpond.ground.address import parse_address
from millpond.ground.errors import Fault, InvalidError, NotFoundError
from millpond.lake.actions import get_version as get_dataset_version
from millpond.lake.actions import list_datasets
from millpond.lake.actions import list_versions as list_dataset_versions
from millpond.lake.values import Dataset, DatasetVersion
from millpond.people.actions import require
from millpond.pipelines.forms import AS_JSON, Texts, write_texts
from millpond.pipelines.links import read_link
from millpond.pipelines.presets.actions import get_preset
from millpond.pipelines.presets.values import Preset
from millpond.pipelines.rules import check_parameters
from millpond.pipelines.runs.actions import get_run
from millpond.pipelines.specs.actions import get_pipeline, get_ready
from millpond.pipelines.values import Kind, PipelineSpec, PipelineVersion
from millpond.storage.database import Transaction

_PAGES_MOST, _PAGE = 5, 200


@dataclass(frozen=True)
class Sources:
    """Where a form's texts come from; what stands later here counts more.

    Attributes:
        number: of the pipeline's version; None for the run's, else the newest that is ready.
        preset: name of a preset; empty for none.
        from_run: id of a run; empty for none.
        pairs: names and texts of an address.
    """

    number: int | None = None
    preset: str = ""
    from_run: str = ""
    pairs: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class OpenForm:
    """A pipeline's form, filled.

    Attributes:
        newest: number of the pipeline's newest version.
        texts: what stands in its fields; defaults stand in the others.
        faults: what the sources say that the form has no field for.
        preset: the one that filled it, if any.
    """

    version: PipelineVersion
    spec: PipelineSpec
    newest: int
    texts: Texts
    faults: tuple[Fault, ...] = ()
    preset: Preset | None = None


def open_form(
    tx: Transaction, actor: Actor, project_id: str, name: str, sources: Sources
) -> OpenForm:
    """Open the form of a pipeline, filled from all sources.

    Raises:
        NotFoundError: there is no such pipeline, version, preset or run.
        ConflictError: the version is not ready.
        InvalidError: the run is one of another pipeline.
    """
    require(tx, actor, "pipeline.run", project_id)
    pipeline = get_pipeline(tx, actor, project_id, name)
    fillings: list[tuple[Mapping[str, str], Mapping[str, Any]]] = []
    number = sources.number
    kept: Preset | None = None
    if sources.preset:
        kept = get_preset(tx, actor, project_id, name, sources.preset)
        fillings.append((kept.inputs, kept.parameters))
    if sources.from_run:
        run = get_run(tx, actor, project_id, sources.from_run)
        if run.pipeline_version_id is None or parse_address(run.what).name != name:
            raise InvalidError(
                f"{run.id} was a run of {run.what!r}, not of {name!r}.",
                next_step="Open it and choose to run it again there.",
                faults=[Fault("from_run", f"is a run of {run.what!r}")],
            )
        number = number or parse_address(run.what).number
        pinned = {one.name: f"{one.dataset}@{one.number}" for one in run.inputs}
        fillings.append((pinned, run.parameters))
    version, spec = get_ready(tx, project_id, name, number)
    texts: dict[str, Sequence[str]] = {}
    faults: list[Fault] = []
    for inputs, parameters in fillings:
        texts = merge_texts(texts, write_texts(spec, inputs, parameters))
        faults += _unknown(spec, inputs, parameters)
    linked, wrong = read_link(spec, sources.pairs)
    return OpenForm(
        version, spec, pipeline.newest, merge_texts(texts, linked), (*faults, *wrong), kept
    )


def merge_texts(texts: Texts, more: Texts) -> dict[str, Sequence[str]]:
    """Put some texts over others, each with how it is to be read."""
    marked = [name for name in texts.get(AS_JSON, ()) if name not in more]
    merged = {**texts, **more, AS_JSON: (*marked, *more.get(AS_JSON, ()))}
    return merged if merged[AS_JSON] else {k: v for k, v in merged.items() if k != AS_JSON}


def _unknown(
    spec: PipelineSpec, inputs: Mapping[str, str], parameters: Mapping[str, Any]
) -> Iterator[Fault]:
    known = {one.name for one in spec.inputs}
    for name in inputs.keys() - known:
        yield Fault(f"inputs.{name}", "is no input of this version; it was left out")
    properties = spec.parameters.get("properties", {})
    strange = {name: value for name, value in parameters.items() if name not in properties}
    for fault in check_parameters(spec, strange):
        if fault.field.removeprefix("parameters.") in strange:
            yield fault


# Data for a field ---------------------------------------------------------------------------


@dataclass(frozen=True)
class FoundData:
    """What a project has for a field of data.

    Attributes:
        chosen: the version that is named in the field; None when none is.
        versions: the newest versions of its dataset.
        others: datasets whose names hold what was typed, and which fit.
        is_more: whether there are more of these.
    """

    chosen: DatasetVersion | None = None
    versions: Sequence[DatasetVersion] = ()
    others: Sequence[Dataset] = ()
    is_more: bool = False


def find_data(
    tx: Transaction, actor: Actor, project_id: str, kind: Kind, text: str, limit: int = 8
) -> FoundData:
    """Find what a text in a field of data stands for, and what else it may become."""
    require(tx, actor, "dataset.read", project_id)
    text = text.strip()
    chosen: DatasetVersion | None = None
    versions: Sequence[DatasetVersion] = ()
    try:
        chosen = get_dataset_version(tx, project_id, text)
    except (NotFoundError, InvalidError):
        wanted = text.partition("@")[0].lower()
    else:
        wanted = ""
        listed = list_dataset_versions(tx, actor, project_id, chosen.dataset, limit=limit)
        versions = listed.items
    others = []
    for one in _all_datasets(tx, actor, project_id):
        is_chosen = chosen is not None and one.name == chosen.dataset
        if wanted in one.name and not is_chosen and _fits(kind, one):
            others.append(one)
        if len(others) > limit:
            break
    return FoundData(chosen, versions, others[:limit], len(others) > limit)


def _all_datasets(tx: Transaction, actor: Actor, project_id: str) -> Iterable[Dataset]:
    cursor = None
    for _ in range(_PAGES_MOST):
        page = list_datasets(tx, actor, project_id, cursor=cursor, limit=_PAGE)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return


def _fits(kind: Kind, one: Dataset) -> bool:
    if kind in ("file", "files"):
        return one.kind == "files" and (kind == "files" or one.file_count == 1)
    return one.file_count > 0
