"""Calls outside of compiled graphs, in a module of their own because the decorator imports the compiler: seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")


@torch.compiler.disable
def call_uncompiled(function: Callable[..., T], *args: Any) -> T:
    """Result of a call that `torch.compile` does not look into."""
    return function(*args)
