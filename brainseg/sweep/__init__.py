"""Searching hyperparameters: the study file, the search space, the workers and their supervisor.

study_file.py   sweeps/NAME.yaml, checked: what is searched, how, and how often
study_rules.py  the known metrics, samplers and pruners, and what a study must be
parameter.py    one searched key: a range or choices
space.py        the search space: what a trial draws, its overrides, its corners
samplers.py     Optuna's samplers and pruners, from their names
definition.py   what makes a study this study, as JSON: stored with it, compared, read by workers
plan.py         whether every trial can run, and what the first ones will be
storage.py      a journal file or PostgreSQL, and the lock of all who count in it
alive.py        which workers and supervisors still live
study.py        a study in its storage: made once, opened again
trial_queue.py  which trial is next, and what became of it
worker.py       trains trial after trial
supervisor.py   keeps workers alive
run.py          the story of a sweep
parent.py       the study's run in MLflow
summary.py      what was found, as tables; with trial_row.py, live.py and plots.py
secrets.py      no password in a command line
"""
