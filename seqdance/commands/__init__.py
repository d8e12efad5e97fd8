"""One file per command of `seqdance`."""
