"""`python -m brainseg.sweep`: searches hyperparameters with any number of workers, on one study.

run.py   the story of a sweep
study/   what is searched
engine/  who trains what: storage, trial queue, workers, supervisor
outcome/ what was found
"""
