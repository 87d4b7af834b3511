"""Quality gates: pure functions from measured facts to findings."""
