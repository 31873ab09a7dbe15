"""The files of a published folder: the same bytes whenever they are written."""

import dataclasses
import json
import platform
import re
import shutil
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config.scoring import PublishConfig
from bench.core.files import write_json, write_text
from bench.core.hashing import file_sha256
from bench.core.version import SUITE_VERSION, code_version
from bench.dataset.prepared import MANIFEST
from bench.recipe.recipe import RECIPE_FILE, member_file, recipe_to_json, write_recipe_folder
from bench.report.publication.crate import CRATE_FILE, Crate, CrateAction, describe_folder
from bench.report.publication.model_card import SplitScores, list_licences, write_card
from bench.steps.publication.records import RunRecord
from bench.steps.publication.subject import PublishSubject
from bench.tracking.registry import CARD_FILE

SUMS_FILE = "SHA256SUMS"
RECIPE_FOLDER, SCORES_FOLDER, DATASET_FOLDER = "recipe", "scores", "dataset"
_DATA_FILE = "dataset.json"
_RUNS, _ENVIRONMENT, _PACKAGES = "runs.json", "environment.json", "requirements.txt"
_ABOUT = {
    "README.md": "What is here, and how to check it",
    CARD_FILE: "What the model is, learned from and is worth; limits, licences, use",
    f"{RECIPE_FOLDER}/{RECIPE_FILE}": "How networks become instances, to the last number",
    _DATA_FILE: "The data set: content hashes of every section, splits, counts; no images",
    _RUNS: "The runs that made and scored the model: settings, scores, versions, times",
    _ENVIRONMENT: "Python, machine and version of the suite that wrote this folder",
    _PACKAGES: "The packages that were installed then, with their versions",
}
# A path of this machine: it may name a person, and tells others nothing.
_PATH = re.compile(r"(?<![\w.:/])/(?:[^\s,;=\"'/]+/)+(?=[^\s,;=\"'/])")
_README = """\
# {title}

A result of synapse-bench {version}, published so that others can check it.
[{card}]({card}) says what the model is and is worth.

| what | where |
|---|---|
| how networks become instances{with_weights} | `{recipe}/` |
| scores over all and by section, of each split | `{scores}/` |
| the data set: SHA-256 of its content, `{content}`, and of every section{with_images} | `{data}` |
| the runs: settings, versions, times | `{runs}` |
| the environment that wrote this | `{environment}`, `{packages}` |
| all of it for machines (RO-Crate 1.1) | `{crate}` |

## To check it

1. `sha256sum --check {sums}` in this folder: nothing was changed since.
2. Install synapse-bench {version} (code {code}).
3. Prepare the data set as the laboratory did, or take that of theirs: its `manifest.json` must have
   the `content_hash` above.
4. `synapse-bench publish --check THIS_FOLDER --dataset PREPARED` does the first, compares the data,
   and computes the scores anew (of sections; needs the weights).
"""


def write_published(subject: PublishSubject, config: PublishConfig, folder: Path) -> None:
    """Writes all files of a publication into an empty folder.

    Args:
        subject: What is published.
        config: Whether weights and images are put in.
        folder: The folder.
    """
    _write_recipe(subject, folder / RECIPE_FOLDER, weights=config.weights)
    for scores in subject.card.scores:
        _write_scores(scores, folder / SCORES_FOLDER)
    _write_data(subject, folder, images=config.images)
    runs = [_hide_paths(dataclasses.asdict(record)) for record in subject.records]
    write_json(folder / _RUNS, {"runs": runs, "gone": list(subject.gone)})
    _write_environment(subject, folder)
    write_text(folder / CARD_FILE, _hide_paths(write_card(subject.card)))
    write_text(folder / "README.md", _write_readme(subject, config))
    write_json(folder / CRATE_FILE, describe_folder(folder, _describe(subject, folder)))
    write_text(folder / SUMS_FILE, _sum_files(folder))


def _write_recipe(subject: PublishSubject, folder: Path, *, weights: bool) -> None:
    if weights:
        write_recipe_folder(folder, subject.recipe, subject.model.weights)
        for path in folder.glob("*.json"):
            write_json(path, _hide_paths(json.loads(path.read_text(encoding="utf-8"))))
        return
    write_json(folder / RECIPE_FILE, _hide_paths(recipe_to_json(subject.recipe)))


def _write_scores(scores: SplitScores, folder: Path) -> None:
    write_json(folder / f"{scores.split}.json", dataclasses.asdict(scores))
    if scores.sections:
        table = pd.DataFrame.from_dict(dict(scores.sections), orient="index")
        write_text(folder / f"{scores.split}.csv", table.to_csv(index_label="section"))


def _write_data(subject: PublishSubject, folder: Path, *, images: bool) -> None:
    known: dict[str, Any] = {"name": subject.dataset_name, "content_hash": subject.recipe.dataset}
    if subject.manifest is None:
        known["missing"] = subject.card.data.missing
    else:
        known["manifest"] = subject.manifest
    write_json(folder / _DATA_FILE, known)
    if images:
        assert subject.manifest is not None
        assert subject.dataset_folder is not None
        entries = [*subject.manifest["sections"], *subject.manifest.get("unlabelled", [])]
        for name in (MANIFEST, *(entry["file"] for entry in entries)):
            target = folder / DATASET_FOLDER / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(subject.dataset_folder / name, target)


def _write_environment(subject: PublishSubject, folder: Path) -> None:
    codes = {record.id: record.tags.get("bench.code", "") for record in subject.records}
    content = {
        "synapse-bench": SUITE_VERSION,
        "code": code_version(),
        "runs_of_this_code": all(code == code_version() for code in codes.values()),
        "code_of_runs": codes,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": platform.system(),
    }
    write_json(folder / _ENVIRONMENT, content)
    installed = {each.metadata["Name"]: each.version for each in distributions()}
    pins = sorted((f"{name}=={number}" for name, number in installed.items()), key=str.lower)
    write_text(folder / _PACKAGES, "\n".join(pins) + "\n")


def _write_readme(subject: PublishSubject, config: PublishConfig) -> str:
    return _README.format(
        title=subject.card.title,
        version=SUITE_VERSION,
        code=code_version(),
        card=CARD_FILE,
        with_weights=", and their weights" if config.weights else " (the weights are not here)",
        recipe=RECIPE_FOLDER,
        scores=SCORES_FOLDER,
        content=subject.recipe.dataset,
        with_images=f"; the images are in `{DATASET_FOLDER}/`" if config.images else "",
        data=_DATA_FILE,
        runs=_RUNS,
        environment=_ENVIRONMENT,
        packages=_PACKAGES,
        crate=CRATE_FILE,
        sums=SUMS_FILE,
    )


def _describe(subject: PublishSubject, folder: Path) -> Crate:
    recipe = subject.recipe
    return Crate(
        name=f"synapse-bench: {subject.card.title}",
        description=f"A model that segments {recipe.structure}, and all that others need to check "
        f"what it is worth: {recipe.describe()}.",
        published=max((record.ended[:10] for record in subject.records), default="1970-01-01"),
        terms=" ".join(line.removeprefix("- ") for line in list_licences(subject.card)),
        dataset=(subject.dataset_name, recipe.dataset),
        software=("synapse-bench", SUITE_VERSION),
        actions=[_describe_run(record, subject, folder) for record in subject.records],
        about=_ABOUT,
    )


def _describe_run(record: RunRecord, subject: PublishSubject, folder: Path) -> CrateAction:
    tags = record.tags
    parts = (record.step, tags.get("bench.method", ""), tags.get("bench.structure", ""))
    made = [f"{SCORES_FOLDER}/{tags.get('bench.split', '')}.json"]
    made += [
        f"{RECIPE_FOLDER}/{member_file(number)}"
        for number, member in enumerate(subject.recipe.members)
        if member.trained_run == record.id
    ]
    results = [name for name in made if (folder / name).is_file()]
    name = " ".join(filter(None, parts))
    return CrateAction(record.id, name, record.started, record.ended, results)


def _hide_paths(value: Any) -> Any:
    """A value in whose texts paths of this machine are the names of their files."""
    if isinstance(value, str):
        return _PATH.sub("", value)
    if isinstance(value, dict):
        return {name: _hide_paths(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_hide_paths(each) for each in value]
    return value


def _sum_files(folder: Path) -> str:
    """The SHA-256 of every file, as ``sha256sum --check`` reads it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    named = [(path.relative_to(folder).as_posix(), file_sha256(path)) for path in files]
    return "".join(f"{digest}  {name}\n" for name, digest in named if name != SUMS_FILE)
