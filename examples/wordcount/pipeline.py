"""The same count as a pipeline: files are counted side by side, then added up."""

import re
from collections import Counter
from typing import Annotated

from millpond import Files, Param, Table, pipeline, step

Least = Annotated[int, Param(ge=1)]


@step(map=True, files_per_task=50)
def count(files: Files) -> Table:
    """Count the words of each file."""
    for file in files:
        words = Counter(re.findall(r"[a-z]+", file.read_text().lower()))
        for word, number in words.items():
            yield {"word": word, "count": number}


@step
def add(counts: Table, least: Least = 1) -> Table:
    """Add up the counts and put the most frequent words first."""
    words: Counter[str] = Counter()
    for row in counts:
        words[row["word"]] += row["count"]
    for word, number in sorted(words.items(), key=lambda pair: (-pair[1], pair[0])):
        if number >= least:
            yield {"word": word, "count": number}


@pipeline
def wordcount(data: Files, least: Least = 1) -> Table:
    """Count words.

    Counts the words of all files, upper and lower case alike.

    Args:
        data: text files; bytes that are no text are passed over.
        least: words that occur less often are left out.
    """
    return add(count(data), least=least)
