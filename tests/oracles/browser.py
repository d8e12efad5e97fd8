"""The page of `seqdance app`, served for a browser, and Chromium of the system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# WebGL in software; nothing that the browser itself would ask the network for
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
]


@contextmanager
def served(dyna1: Path, *options: str) -> Iterator[str]:
    """Address of `seqdance app` with the small network and weights of Dyna-1."""
    command = [sys.executable, "-m", "seqdance.cli", "app", "--port", "0", "--device", "cpu", "--dyna1", str(dyna1)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[3]
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def chromium_path() -> str | None:
    """Program of Chromium; None without one."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def chromium(path: str | None) -> Iterator[Any]:
    """Playwright's browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        yield browser
        browser.close()


def open_tab(page: Any, name: str) -> None:
    """Show a tab of the results."""
    page.click(f".label:has-text('{name}')")
