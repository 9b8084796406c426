"""Outside distributions are installed and tested by the suite as strangers would, not collected here."""

collect_ignore_glob = ["*/tests/*"]
