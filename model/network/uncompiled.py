"""Calls outside of compiled graphs, in a module of their own because the decorator imports the compiler: seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


@torch.compiler.disable
def call_uncompiled(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Result of a call that `torch.compile` does not look into."""
    return function(*args, **options)
