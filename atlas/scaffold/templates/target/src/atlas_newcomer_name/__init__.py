"""The target newcomer-name."""
