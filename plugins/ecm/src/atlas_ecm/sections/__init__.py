"""What a run's report shows of sessions and of the paired claims."""
