"""A running page and a browser; without Chromium these tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from browser import chromium, chromium_path, served

pytest.importorskip("dash", reason="the extra app is not installed")

PATIENCE = 120_000  # ms


@pytest.fixture(scope="session")
def dyna1_weights(tmp_path_factory) -> Path:
    """A random classifier on letters."""
    from model.dyna1.classifier import Classifier, Dyna1Config
    from model.network.weights import write_model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dyna1")
    sizes = {"width": 24, "layers": 1, "heads": 1, "feed_forward": 16}
    write_model(folder, Classifier(Dyna1Config(**sizes, embedder="onehot")))
    return folder


@pytest.fixture(scope="session")
def address(dyna1_weights: Path) -> Iterator[str]:
    """Address of `seqdance app` with the small network."""
    with served(dyna1_weights, "--max-length", "400", "--max-upload", "2") as found:
        yield found


@pytest.fixture(scope="session")
def browser():
    """Chromium of the system."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    with chromium(path) as found:
        yield found


@pytest.fixture
def new_page(browser, address: str):
    """Open the page as a new user; at the end no request may have left this computer, and no script failed."""
    pages, requests, errors = [], [], []

    def open_page(width: int = 1280):
        page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#predict")
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.context.close()
    assert requests
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
    assert errors == []
