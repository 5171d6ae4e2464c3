"""What a run's path lengths and ranks are worth."""
