"""The instrument newcomer-name."""
