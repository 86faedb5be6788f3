"""Writing a run's record (`Tracker`) and reading it back (`RunStore`), in memory and on MLflow."""
