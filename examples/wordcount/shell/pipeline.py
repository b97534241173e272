"""A shell script as a step: it leaves a CSV, which is the table."""

from millpond import Files, Table, pipeline, step

count = step.command(
    "count", ["sh", "{code}/count.sh", "{data}"], inputs={"data": Files}, output=Table
)


@pipeline
def shellcount(data: Files) -> Table:
    """Count words with a shell script.

    Args:
        data: text files.
    """
    return count(data)
