"""Run the code blocks of a page: JSON pairs of language and code on the standard input.

In order, from the working directory on; `python` blocks share their names, as in a session.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from tempfile import TemporaryFile
from typing import Any

names: dict[str, Any] = {"__name__": "__main__"}
for language, code in json.load(sys.stdin):
    print(f"--- {language}\n{code}", flush=True)
    if language == "sh":
        with TemporaryFile() as place:  # cd holds for the next block
            script = f"{code}\npwd >&{place.fileno()}"
            words = ["bash", "-euo", "pipefail", "-c", script]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL, pass_fds=[place.fileno()])
            place.seek(0)
            os.chdir(place.read().decode().removesuffix("\n"))
    else:
        exec(code, names)
