"""What a study has found: tables, figures, and its run in MLflow."""
