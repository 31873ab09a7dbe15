import json
import random

from bench.steps.scoring.score_files import LIMIT, pack_scores, unpack_scores


def test_scores_come_back_to_the_last_digit():
    drawn = random.Random(0)
    pooled = {name: drawn.random() for name in ("dice", "iou", "average_precision")}
    sections = {f"µ {n}": {name: drawn.random() for name in ("dice", "iou")} for n in range(6)}
    sections["no instances"] = {"iou": 1.0}
    text = pack_scores(pooled, sections)
    assert unpack_scores(text) == {"pooled": pooled, "sections": sections}
    assert len(text) < len(json.dumps({"pooled": pooled, "sections": sections}))


def test_a_tag_holds_so_much():
    scores = {f"metric{n}": 0.12345678901234567 for n in range(10)}
    fits = pack_scores(scores, {f"s{n}": scores for n in range(35)})
    assert fits is not None
    assert len(fits) <= LIMIT
    assert pack_scores(scores, {f"s{n}": scores for n in range(50)}) is None
