"""`python -m brainseg.sweep`: searches hyperparameters with any number of workers, on one study.

run.py   the story of a sweep; status.py  how far one is
study/   what is searched
engine/  what runs it: storage, trial queue, workers, supervisor
outcome/ what was found: summary, plots, the record in MLflow
"""
