"""Range of frames of a trajectory."""

from __future__ import annotations

import warnings
from typing import Annotated, Final

import tyro
from pydantic import Field
from pydantic.dataclasses import dataclass

from data_prepare.command_line import Settings
from data_prepare.errors import InputWarning, require


@dataclass(frozen=True, kw_only=True)
class FrameRange(Settings):
    """Frames `begin` to `end` of a trajectory in steps of `stride`."""

    begin: Annotated[int, Field(ge=0), tyro.conf.arg(aliases=["--beg"])] = 0
    """First frame; --beg is the name in GetContacts."""
    end: Annotated[int, Field(ge=0)] | None = None
    """Last frame, inclusive; by default the last one of the trajectory."""
    stride: Annotated[int, Field(ge=1)] = 1
    """Use every stride-th frame."""

    def __post_init__(self) -> None:
        """Refuse a reversed range."""
        reversed_range = self.end is not None and self.end < self.begin
        require(not reversed_range, f"frames {self.begin} to {self.end}: expected begin <= end")

    def numbers(self, total: int, source: object) -> range:
        """Indices of the frames among `total`, with a warning if `end` is beyond them as in GetContacts.

        InputError, naming the `source`, if none is left.
        """
        numbers = range(self.begin, total if self.end is None else min(total, self.end + 1), self.stride)
        require(numbers, f"{source}: no frame {self.begin} among its {total}; choose a smaller begin")
        if self.end is not None and self.end >= total:
            warnings.warn(f"{source}: no frame {self.end}; its last one is {total - 1}", InputWarning, stacklevel=1)
        return numbers


ALL_FRAMES: Final = FrameRange()
