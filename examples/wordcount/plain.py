"""Count the words of all files of a folder: a plain script that knows nothing of Millpond.

Millpond names the folders in its environment; by hand: ``python plain.py FOLDER [OUTPUT]``.
"""

import csv
import os
import re
import sys
from collections import Counter
from pathlib import Path

given = dict(enumerate(sys.argv))
source = Path(given.get(1) or os.environ["MILLPOND_INPUT_DATA"])
target = Path(given.get(2) or os.environ.get("MILLPOND_OUTPUT", "."))

words: Counter[str] = Counter()
for path in sorted(source.rglob("*")):
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace")
        words.update(re.findall(r"[a-z]+", text.lower()))

with (target / "words.csv").open("w", newline="") as file:
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["word", "count"])
    rows.writerows(sorted(words.items(), key=lambda pair: (-pair[1], pair[0])))
print(f"{sum(words.values())} words, {len(words)} different ones")
