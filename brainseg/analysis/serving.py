"""The loader that a registered model of version 0.1 names.

MLflow finds it in the model's own copy of brainseg; here, if the process has imported brainseg already.
"""

from brainseg.register.serving import _load_pyfunc

__all__ = ["_load_pyfunc"]
