"""The schema newcomer-name."""
