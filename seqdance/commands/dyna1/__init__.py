"""One file per command of `seqdance dyna1`."""
