"""Run the code blocks of a page: JSON pairs of language and code on the standard input.

In order, in the working directory; `python` blocks share their names, as in a session.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

names: dict[str, Any] = {"__name__": "__main__"}
for language, code in json.load(sys.stdin):
    print(f"--- {language}\n{code}", flush=True)
    if language == "sh":
        subprocess.run(["bash", "-euo", "pipefail", "-c", code], check=True, stdin=subprocess.DEVNULL)
    else:
        exec(code, names)
