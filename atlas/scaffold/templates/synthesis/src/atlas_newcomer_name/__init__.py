"""The synthesis adapter newcomer-name."""
