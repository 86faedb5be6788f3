"""`python -m brainseg.register`: a run's model as a version in MLflow's registry, ready to be served."""
