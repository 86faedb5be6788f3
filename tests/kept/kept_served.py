"""Asks the registered model `champion` for masks, as MLflow's server does it: without brainseg's commands.

python kept_served.py PROJECT ANSWERS.json IMAGE ...
"""

import base64
import json
import sys
from pathlib import Path

import mlflow
import pandas as pd


def main(project: Path, answers: Path, *images: Path) -> None:
    """Writes the answers, one for each image."""
    mlflow.set_tracking_uri(f"sqlite:///{project}/mlruns/mlflow.db")
    model = mlflow.pyfunc.load_model("models:/brainseg@champion")
    asked = pd.DataFrame({"image": [base64.b64encode(image.read_bytes()).decode("ascii") for image in images]})
    answers.write_text(json.dumps(model.predict(asked)))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
