"""The loss term newcomer-name."""
