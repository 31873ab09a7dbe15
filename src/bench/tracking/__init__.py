"""The only importer of mlflow: where runs are kept, and how they are found again."""

import os

# Said before mlflow is imported: its own progress bars would hide our messages, and what is
# measured here is reported to nobody but the user.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
