"""Two runs, cells, suites or files of captions against each other: what differs, and where."""
