"""What MLflow's pages say of a run and of an experiment: how to read them."""

import contextlib

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

# What the UI shows as their description, Markdown.
NOTE_TAG = "mlflow.note.content"

EXPERIMENT = """Runs of synapse-bench.

- **The result** is the newest run named `compare` or `benchmark`: open its artifact
  `benchmark.html`.
- `make ui` prints a link to the table of test scores, grouped by structure, and one to the curves
  of trainings.
- Names are *structure method seed*, then the split of an evaluation or the step. Parameters are
  what somebody chose; all settings are in the artifact `config.json`.
- Charts are grouped: `best/` (the kept checkpoint), `train/`, `val/`, `test/` (scores of whole
  splits), `work/` (how fast it went).
- To compare segmentations, select evaluations of one structure, press *Compare*, and open their
  table
  `overlays.json` under *Artifacts*: a row per section, a column per run.
- A run whose tag `bench.warning` is set says there what to know before its score is believed.
- KILLED and FAILED runs go on when the same command is typed again; `bench.reason` says why
  they ended.
"""

RUNS = {
    "prepare": (
        "The data as all other steps see it: `contact_sheet.png` shows sections with their "
        "annotation, `manifest.json` has their splits, the sizes of instances, and the content "
        "hash that all results name."
    ),
    "check": (
        "What is wrong or odd in the input, without a dataset: `check/` has a report and a "
        "picture of every section."
    ),
    "finetune": (
        "A model trained on annotated sections. `train/loss` and `val/dice` by iteration; "
        "`best/dice` is the validation Dice of the checkpoint that is kept (`checkpoint/best`); "
        "images `val/*` show the same sections as training goes on. Test sections are never "
        "seen here. `geometry.csv`: how tile and halo were chosen."
    ),
    "pretrain": (
        "A network trained to give back images without labels from views that are spoiled, to be "
        "fine-tuned (`source=runs:/ID`). `val/mse` is the error on images that are held out, in "
        "squared deviations; the tags `bench.val.mean_mse` and `bench.val.view_mse` are those of "
        "each patch's mean, and of the view as it is. `val/reconstruction` shows image, view and "
        "reconstruction."
    ),
    "domain_adapt": (
        "A mean teacher trained on unlabelled images from a source model. `train/accepted` is "
        "the share of pixels whose pseudo-label counts: near 0, nothing is learned. `best/dice` "
        "is of the kept teacher on validation, beside `source/dice` of the source."
    ),
    "microsam": (
        "A micro-SAM model, as it is or fine-tuned. `best/dice` is validation Dice of the kept "
        "checkpoint; where masks are chosen on validation the settings are in `config.json`."
    ),
    "detect": (
        "A detector trained on the boxes of annotated instances, which prompt a SAM "
        "(`microsam -P mode=detector`). `val/box_ap50` is the average precision at IoU 0.5, "
        "`val/box_ap` the mean over 0.5 to 0.95, by which the kept checkpoint is chosen. Images "
        "`val/*` show true boxes and those found."
    ),
    "pseudo": (
        "Pseudo-masks of images without labels, where detector and SAM were sure: `pseudo/kept` "
        "of `pseudo/found`; `objects.csv` has every object with its scores. Pictures: blue is "
        "kept, red is left out of trainings. The dataset is in the folder that `config.json` names."
    ),
    "evaluate": (
        "A model's scores on one split, `val/*` or `test/*`, pooled over sections; each "
        "section's are in `sections.csv`. `overlays/` shows what was found (the colours are "
        "named in the pictures), `precision_recall.png` every threshold, `predictions.h5` the "
        "probabilities, `recipe.json` how instances were made of them."
    ),
    "optimize": (
        "The best combination of models, augmentations, threshold and clean-up, searched on "
        "validation alone. `gain/*` is what it brought on test against the best single model, "
        "with its 95 % interval: one that holds 0 is no gain. `recipe.json` is the combination."
    ),
    "compare": (
        "The benchmark table. Open `benchmark.html`; `benchmark.md`, `.csv` and `.json` are the "
        "same numbers with intervals and tests."
    ),
    "benchmark": (
        "Methods x structures x seeds: the cells are its child runs, `work/cells_failed` counts "
        "those that failed, and the tag `bench.reason` names them. Its metrics are the scores of "
        "the table, which is in the child `compare`."
    ),
    "promote": "A combination that became a registered model with the alias `champion`.",
    "segment": (
        "New images segmented: `overlays/`, tables of instances and sizes; the images "
        "themselves are in the output folder that `config.json` names."
    ),
    "publish": (
        "A result as a folder by which others check it: `MODEL_CARD.md`, the metadata and the "
        "checksums of all its files; the folder itself is where `config.json` says."
    ),
    "publish_check": (
        "A published folder checked: its files, its data set, and its scores computed anew: "
        "`largest_difference` of each split is how far they were from what was published."
    ),
    "export": "Predictions or annotation written for another program.",
    "measure": (
        "Objects of a segmentation measured: `measurements.html` is the page, `summary.csv` has "
        "every value as found and corrected, with intervals; `measure/*_raw` and "
        "`measure/*_corrected` are those of all sections."
    ),
    "export_model": (
        "A champion as a model of bioimage.io: `model/` has the weights, test tensors and texts, "
        "tested by bioimageio.core. `export_model/difference_*` is how far its prediction of the "
        "test image is from ours."
    ),
    "correct": (
        "Labels corrected by hand: `correct/added`, `correct/removed` and `correct/changed` count "
        "objects, `changes.csv` lists them. The annotation is in the output folder that "
        "`config.json` names."
    ),
    "annotate": (
        "Sections annotated by hand with a SAM that answers clicks: `annotate/sections` counts "
        "them. The annotation is in the output folder that `config.json` names."
    ),
    "suggest": (
        "What to annotate next: `suggestions.csv` ranks images and pieces of montages by the "
        "disagreement of stored models and by novelty, `suggestions.png` shows the first, "
        "`forecast.json` says what the learning curve forecasts. Crops with what is pre-drawn are "
        "in the output folder that `config.json` names."
    ),
    "suspects": (
        "Objects of an annotation, and such as it may lack, the most doubtful first: "
        "`suspects.csv` and, of the first, `suspects.png`. Each was judged by a model that never "
        "saw its section; these trainings are child runs, on parts of the dataset. Files to "
        "correct it are in the output folder that `config.json` names."
    ),
}
# Steps that keep no run of their own: of the one that `mlflow run` makes.
MADE_BY_MLFLOW = {
    "phantom": (
        "Synthetic sections or tomograms with known truth, in the folder that the parameters name."
    ),
    "phantom_models": (
        "Small source models, written to the folder that the parameters name; their trainings are "
        "runs of their own."
    ),
    "benchmark": "A plan of a benchmark: nothing was run.",
    "correct": "Labels that were looked at by hand: nothing was saved.",
    "annotate": "Sections that were looked at by hand: nothing was saved.",
}


def describe_experiment(client: MlflowClient, experiment_id: str) -> None:
    """Says how to read an experiment, where nobody has said anything of it yet.

    Another process may say it at the same moment, or we may not be allowed to: no reason to fail.
    """
    if NOTE_TAG not in client.get_experiment(experiment_id).tags:
        with contextlib.suppress(MlflowException):
            client.set_experiment_tag(experiment_id, NOTE_TAG, EXPERIMENT)
