"""Trees as tensors say what scikit-learn says of the same pixels."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

from bench.models.pixels.trees import BoostedTrees, PortableTrees, export_trees


def fit(features, truth, **settings):
    model = HistGradientBoostingClassifier(max_iter=12, early_stopping=False, **settings)
    return model.fit(features, truth)


@pytest.mark.parametrize("kind", ["continuous", "ties"])
def test_probabilities_are_those_of_scikit_learn(kind):
    random = np.random.default_rng(0)
    features = random.normal(size=(2000, 7)).astype(np.float32)
    if kind == "ties":
        # Thresholds are halves, which pixels below have, too.
        features = np.round(features * 4) / 4
    truth = features[:, 0] + features[:, 3] ** 2 + random.normal(size=2000) > 1
    fitted = fit(features, truth, max_leaf_nodes=15)
    asked = np.concatenate([features, np.round(features * 8) / 8, 100 * features])
    trees = export_trees(fitted)
    logits = trees(torch.from_numpy(asked)).double()
    np.testing.assert_allclose(logits.numpy(), fitted.decision_function(asked), atol=1e-5)
    found = torch.sigmoid(logits).numpy()
    np.testing.assert_allclose(found, fitted.predict_proba(asked)[:, 1], atol=1e-6)
    assert torch.equal(PortableTrees(trees)(torch.from_numpy(asked)).double(), logits)


@pytest.mark.parametrize("pixels", [0, 1, 3, 4, 5, 259])
def test_pixels_that_go_down_together_are_as_each_alone(pixels):
    random = np.random.default_rng(2)
    features = random.normal(size=(400, 5)).astype(np.float32)
    trees = export_trees(fit(features, features[:, 0] > 0, max_leaf_nodes=9))
    asked = torch.from_numpy(features[:pixels])
    alone = [float(trees(each[None])) for each in asked]
    assert trees(asked).tolist() == alone


def test_a_pixel_at_a_threshold_goes_the_same_way():
    features = np.float32([[0.1], [0.1], [0.3], [0.3]] * 20)
    fitted = fit(features, features[:, 0] > 0.2, min_samples_leaf=1)
    (threshold,) = {n for (t,) in fitted._predictors for n in t.nodes["num_threshold"] if n != 0}
    single = np.float32(threshold)
    asked = np.float32([[single], [np.nextafter(single, 1)], [np.nextafter(single, -1)]])
    found = export_trees(fitted)(torch.from_numpy(asked)).numpy()
    np.testing.assert_allclose(found, fitted.decision_function(asked), atol=1e-5)


def test_trees_fill_the_room_that_their_size_makes():
    random = np.random.default_rng(1)
    features = random.normal(size=(300, 3)).astype(np.float32)
    trees = export_trees(fit(features, features[:, 0] > 0))
    empty = BoostedTrees(trees.size)
    empty.load_state_dict(trees.state_dict())
    asked = torch.from_numpy(features)
    assert torch.equal(empty(asked), trees(asked))
    with pytest.raises(ValueError, match="every tree must have a node, received 3 trees, 2 nodes"):
        BoostedTrees((3, 2))
