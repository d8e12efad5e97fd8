"""`python -m seqdance`: the command `seqdance`."""

from __future__ import annotations

from seqdance.cli import main

main()
