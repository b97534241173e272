"""What a run leaves, in order: tables, files, statistics, a report, a record of how it was made."""
