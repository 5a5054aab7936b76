"""A log in a format of your own, made a trace.

Prints::

    3 requests of 2 sessions, format jsonl
    hit tokens: [0, 16, 0]
"""

import csv
import io
import tempfile
from pathlib import Path

import prefixsim

# Our gateway writes the time, the user, and the token ids as one string.
LOG = """\
at;user;tokens
0.0;ann;{shared}
2.5;ann;{shared} 7 8 9
4.0;bob;9 9 9
""".format(shared=" ".join(str(token) for token in range(16)))

rows = list(csv.DictReader(io.StringIO(LOG), delimiter=";"))
trace = prefixsim.Trace.from_prompts(
    [[int(token) for token in row["tokens"].split()] for row in rows],
    timestamp=[float(row["at"]) for row in rows],
    session=[row["user"] for row in rows],
    name="gateway",
)

# Written once, every command can read it.
with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "gateway.jsonl"
    trace.write(path)
    again = prefixsim.Trace.read(path)

assert again.session is not None
print(f"{len(again)} requests of {len(again.session.names)} sessions, format {again.format}")
result = prefixsim.replay(again, block_size=16)
print("hit tokens:", result.requests["hit_tokens"].to_pylist())
