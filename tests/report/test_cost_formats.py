from bench.report.table_formats import cost_table
from bench.report.tables import ScoreRecord, benchmark_table


def rows(*cells):
    records = [
        ScoreRecord(method, structure, "d", seed, "r", {"dice": 0.5}, costs=costs)
        for method, structure, seed, costs in cells
    ]
    return benchmark_table(records, [], [])


def test_costs_are_averaged_over_seeds_then_structures():
    # Vesicles (10 + 20) / 2 = 15, membrane 45: 30. What one seed alone has is its value.
    table = cost_table(
        rows(
            ("a", "vesicles", 0, {"train_seconds": 10.0, "peak_gpu_mib": 1234.4}),
            ("a", "vesicles", 1, {"train_seconds": 20.0, "seconds_per_iteration": 0.25}),
            ("a", "membrane", 0, {"train_seconds": 45.0}),
            ("b", "membrane", 0, {}),
            ("c_d", "membrane", 0, {"predict_megapixels_per_s": 0.1234}),
        )
    )
    assert "| d | a | 30 | 0.25 | – | 1,234 | – |" in table
    assert "| d | c\\_d | – | – | – | – | 0.123 |" in table
    assert "| b |" not in table


def test_without_a_cost_there_is_no_table():
    assert cost_table(rows(("a", "vesicles", 0, {}))) == ""
