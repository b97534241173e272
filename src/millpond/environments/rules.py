"""Pure decisions about requirements and locks."""

import re
from difflib import get_close_matches

from millpond.environments.values import Package
from millpond.ground.errors import Fault, InvalidError

REQUIREMENTS_BYTES_MOST = 64 * 1024
LINES_MOST = 1000
LINE_LENGTH_MOST = 500
FAULTS_MOST = 20

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_SPECIFIER = r"(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9._*+!-]+"
_SPECIFIERS = rf"{_SPECIFIER}(?:\s*,\s*{_SPECIFIER})*\s*,?"
_REQUIREMENT = re.compile(
    rf"(?P<name>{_NAME})\s*(?:\[\s*(?:{_NAME}(?:\s*,\s*{_NAME})*)?\s*\])?"
    rf"\s*(?:{_SPECIFIERS}|\(\s*{_SPECIFIERS}\s*\))?"
    r"\s*(?:;\s*(?P<marker>[A-Za-z0-9_.\"'<>=!~()*+ \t-]+))?",
    re.ASCII,
)
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#.*$")
_OPTION = re.compile(r"(?P<option>-{1,2}[A-Za-z][A-Za-z-]*)")
_PINNED = re.compile(rf"^({_NAME})(?:\[[^\]]*\])?==([^\s;\\]+)", re.ASCII)
_HEADER = re.compile(r"# millpond-lock 1 python=(\d+\.\d+)")
_NO_INDEX = re.compile(
    r"failed to fetch|error sending request|dns error|connection (refused|reset)|timed out"
    r"|network was disabled|network is unreachable|could not connect",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(
    rf"Because ({_NAME}) was not found in the (?:package registry|cache|provided)", re.ASCII
)
_KNOWN = frozenset(
    "beautifulsoup4 duckdb"  # noqa: SIM905 - fifty quoted names read worse.
    " fastapi flask httpx huggingface-hub imbalanced-learn joblib keras"
    " lightgbm magika matplotlib networkx nltk numba numpy onnx onnxruntime opencv-python openpyxl"
    " optuna pandas pillow plotly polars pyarrow pydantic pyyaml requests rich scikit-image"
    " scikit-learn scipy seaborn sentence-transformers shap spacy sqlalchemy statsmodels sympy"
    " tensorflow tokenizers torch torchvision tqdm transformers umap-learn xgboost".split()
)
_IMPORTED_AS = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "pil": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}


def split_lines(text: str) -> list[tuple[int, str]]:
    """Give the lines that ask for something, without comments, with their numbers from 1."""
    lines = enumerate(re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff")), 1)
    bare = ((number, _COMMENT.sub("", line).strip()) for number, line in lines)
    return [(number, line) for number, line in bare if line]


def clean_requirements(text: str) -> str:
    """Give the checked lines alone, one a line: this, not what was sent, goes to the resolver."""
    return "".join(f"{line}\n" for _, line in split_lines(text))


def check_requirements(text: str) -> None:
    """Refuse requirements that are anything but names with versions.

    URLs, paths, files, version control, indexes and other options would let a requirement run
    code of unknown origin or read the server's files, so each such line is a fault.

    Raises:
        InvalidError: lists each line that is not allowed, at most 20 of them and then a count.
    """
    if len(text.encode("utf-8", "replace")) > REQUIREMENTS_BYTES_MOST:
        faults = [Fault("requirements", f"more than {REQUIREMENTS_BYTES_MOST} bytes")]
    elif len(lines := split_lines(text)) > LINES_MOST:
        faults = [Fault("requirements", f"more than {LINES_MOST} lines")]
    else:
        found = ((number, find_fault(line)) for number, line in lines)
        faults = [
            Fault("requirements", f"line {number}: {message}")
            for number, message in found
            if message
        ]
    refuse(
        faults,
        "Some lines of the requirements are not allowed.",
        "Write one package a line, such as `numpy>=2` or `tomli; python_version < '3.11'`.",
    )


def find_fault(line: str) -> str:
    """Say what is wrong with one line that has no comment; empty when nothing is."""
    shown = mask_secrets(repr(line[:120]))
    if len(line) > LINE_LENGTH_MOST:
        return f"{shown}: longer than {LINE_LENGTH_MOST} characters"
    line = " ".join(line.split())  # Long runs of spaces would be matched in too many ways.
    option = _OPTION.match(line)
    version_control = line.lower().startswith(("git+", "hg+", "svn+", "bzr+", "file:"))
    is_file = line.lower().endswith((".whl", ".tar.gz", ".zip", ".txt", ".toml"))
    tests = (
        (option, f"the option {option and option['option']} is not allowed, only packages are"),
        (
            "--hash" in line or line.endswith("\\"),
            f"{shown}: leave out hashes and continued lines; locking adds the hashes",
        ),
        ("://" in line or version_control, f"{shown}: addresses are not allowed"),
        ("@" in line, f"{shown}: `NAME @ ADDRESS` is not allowed"),
        (line[0] in "./~" or re.search(r"[/\\]", line), f"{shown}: paths are not allowed"),
        (is_file, f"{shown}: files are not allowed"),
        (not _REQUIREMENT.fullmatch(line), f"{shown} is not a package with versions"),
    )
    return next((message for is_wrong, message in tests if is_wrong), "")


def normal_name(name: str) -> str:
    """Give a package's name in its normal form (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def make_lock(body: str, python_version: str) -> str:
    """Put our header above a resolver's output: the Python it is for is part of its identity."""
    return f"# millpond-lock 1 python={python_version}\n{body.strip()}\n"


def python_of(lock_text: str) -> str:
    """Give the Python version, such as ``3.11``, that a lock is for.

    Raises:
        InvalidError: this is not a lock that Millpond made.
    """
    match = _HEADER.fullmatch(lock_text.partition("\n")[0])
    if match is None:
        raise InvalidError(
            "This is not a lock that Millpond made.",
            next_step="Make the environment from its requirements.",
            faults=[Fault("lock", "the first line is not a millpond-lock header")],
        )
    return match[1]


def list_packages(lock_text: str) -> tuple[Package, ...]:
    """Read the pinned packages of a lock, by name; each once although markers may split it."""
    found = (_PINNED.match(line) for line in lock_text.splitlines())
    pairs = {(normal_name(match[1]), match[2]) for match in found if match}
    return tuple(Package(name, version) for name, version in sorted(pairs))


def mask_secrets(text: str) -> str:
    """Hide user names and passwords of addresses in a line of a log."""
    return re.sub(r"(?<=://)[^/\s@]*@", "***@", text)


def refuse(faults: list[Fault], message: str, next_step: str) -> None:
    """Raise when there are faults: the first twenty and a count of the rest.

    Raises:
        InvalidError: there is at least one fault.
    """
    if not faults:
        return
    shown = faults[:FAULTS_MOST]
    if len(faults) > FAULTS_MOST:
        more = len(faults) - FAULTS_MOST
        shown.append(Fault(faults[0].field, f"and {more} more"))
    raise InvalidError(message, next_step=next_step, faults=shown)


def is_index_away(output: str) -> bool:
    """Say whether a resolver failed because it could not reach the package index."""
    return _NO_INDEX.search(output) is not None


def explain_failure(output: str) -> str:
    """Make a reason for people of what a resolver or installer wrote when it failed."""
    text = mask_secrets(output)
    start = text.find("error:")
    lines = [line.strip() for line in text[max(start, 0) :].splitlines() if line.strip()]
    joined = " ".join(line.removeprefix("error:").removeprefix("cause:").strip() for line in lines)
    match = _NOT_FOUND.search(joined)
    if match:
        return f"There is no package {match[1]!r} in the package index.{suggest(match[1])}"
    if "no usable wheels" in joined or "building from source is disabled" in joined:
        joined += (
            " Packages come as wheels for this platform; name those that have none in"
            " build_from_source, and they are built from source in the sandbox."
        )
    return joined[:2000] or "the installer failed without a word"


def suggest(name: str) -> str:
    """Give a hint for a package that isn't there: its real name, or one that is written alike."""
    wanted = normal_name(name)
    near = _IMPORTED_AS.get(wanted) or next(iter(get_close_matches(wanted, _KNOWN, 1, 0.75)), None)
    return f" Did you mean {near!r}?" if near else " Check how it is written."
