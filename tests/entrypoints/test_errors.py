import shlex

import pytest

ONE_LINE_ERRORS = [
    (("finetune", "--iterations", "many"), "'many' is not a valid integer"),
    (("finetune", "--lr", "1,5"), "'1,5' is not a valid float"),
    (("prepare", "--overwrite", "perhaps"), "'perhaps' is not a valid boolean"),
    (("evaluate", "--seed", "first"), "'first' is not a valid integer"),
    (("finetune", "--patience", "3"), "No such option"),
    (("finetune", "--lr"), "requires an argument"),
    (("finetune", "surplus"), "unexpected extra argument"),
    (("finetune", "--iterations", "0"), "iterations must be at least 1, received 0"),
    (("finetune", "--lr", "nan"), "lr must be a finite number, received nan"),
    (("finetune", "--elastic_px", "100"), "elastic_px must be at most 64, received 100"),
    (("evaluate", "--threshold", "1.5"), "threshold must be at most 1, received 1.5"),
    (("finetune", "--schedule", "linear"), "unknown schedule 'linear': choose one of auto, cosine"),
    (("evaluate", "--split", "all"), "unknown split 'all': choose one of test, train, val"),
    (("evaluate", "--augmentations", "8"), "unknown augmentations '8': choose one of all, none, p"),
    (("compare", "--protocol", "mine"), "unknown protocol 'mine': choose one of data, paper"),
    (("finetune", "--structure", "a/b"), "a structure's name must be a letter and up to"),
    (("finetune", "--method", "segformer"), "unknown method 'segformer': choose one of anis"),
    (("finetune", "--loss", "hinge"), "unknown loss 'hinge'"),
    (("finetune", "--method=finetuned", "--source=random"), "starts from a trained model"),
    (("finetune", "--method", "unadapted"), "received method=unadapted: run evaluate with it"),
    (("finetune", "--patch_px", "100"), "patch_px must be a multiple of 16, received 100"),
    (("finetune", "--tile_px", "100"), "tile_px + 2 halo_px must be a multiple of 16"),
    (("finetune", "--device", "cuda:99"), "device must be auto, cpu or a GPU"),
    (("finetune", "--dataset", "no/such"), "no/such must be a prepared dataset, received no such"),
    (("evaluate", "--structure", "mito", "--dataset", "x"), "x must be a prepared dataset"),
    (("benchmark", "--dataset", "no/such"), "no/such must be a prepared dataset"),
    (("compare", "--experiment", "no such"), "no experiment is named 'no such' in sqlite:///"),
    (("phantom", "--montage_px", "256"), "montage_px must be at least size_px, received 256"),
]


@pytest.mark.parametrize(("command", "message"), ONE_LINE_ERRORS, ids=lambda value: str(value))
def test_an_input_that_cannot_be_worked_with_is_one_line(
    run_entry_point, store, command, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    status, written = run_entry_point(*command, then=True)
    assert status == 2
    line, then, *command_again = written.splitlines()
    assert line.startswith("error: ")
    assert message in line
    if command_again:
        assert then == "once that is mended:"
        typed = {word for part in command[1:] for word in part.split("=", 1)}
        assert typed <= set(shlex.split(command_again[0]))
    else:
        assert then.endswith(f"{command[0]}.py --help")
    assert store.client.search_runs([store.experiment_id]) == []
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
