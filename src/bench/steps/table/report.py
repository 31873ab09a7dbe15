"""What compare shows and writes of a benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.core.files import write_json, write_text, write_whole
from bench.report import comparison_formats
from bench.report.comparisons import Comparison, MeanRank
from bench.report.cost_formats import cost_table
from bench.report.figures.charts import score_chart
from bench.report.figures.learning_curve import has_curve, learning_curve
from bench.report.table_formats import print_table, to_csv, to_latex, to_markdown
from bench.report.table_json import to_json
from bench.report.tables import ScoreRecord, TableRow


@dataclass(frozen=True)
class Findings:
    """All that compare found.

    Attributes:
        rows: The rows of the table.
        published: Rows of published scores, which stand below them.
        records: What the rows were made of.
        comparisons: Every pair of methods.
        ranks: Mean ranks of the methods.
    """

    rows: Sequence[TableRow]
    published: Sequence[TableRow]
    records: Sequence[ScoreRecord]
    comparisons: Sequence[Comparison]
    ranks: Sequence[MeanRank]

    @property
    def all_rows(self) -> list[TableRow]:
        """The rows of the whole table."""
        return [*self.rows, *self.published]


def print_findings(findings: Findings, console: Console) -> None:
    """Prints the table, and what follows of it for every structure."""
    print_table(findings.all_rows, console)
    comparison_formats.print_comparisons(findings.comparisons, console)


def write_findings(findings: Findings, output: Path) -> list[Path]:
    """Writes everything into a folder; returns the files."""
    rows, comparisons = findings.all_rows, findings.comparisons
    texts = {
        "benchmark.md": "\n".join(filter(None, [to_markdown(rows), cost_table(rows)])),
        "benchmark.csv": to_csv(rows),
        "benchmark.tex": to_latex(rows),
        "comparisons.md": comparison_formats.to_markdown(comparisons, findings.ranks),
        "comparisons.csv": comparison_formats.to_csv(comparisons),
    }
    for name, text in texts.items():
        write_text(output / name, text)
    whole = output / "benchmark.json"
    write_json(whole, to_json(rows, findings.records, comparisons, findings.ranks))
    return [*(output / name for name in texts), whole, *draw_charts(findings.rows, output)]


def draw_charts(rows: Sequence[TableRow], output: Path) -> list[Path]:
    """Draws the chart, and the learning curve where there is one; returns the files."""
    files = [output / "benchmark.png"]
    write_whole(files[0], lambda path: score_chart(rows).savefig(path, format="png", dpi=130))
    if has_curve(rows):
        files.append(output / "learning_curve.png")
        write_whole(
            files[1], lambda path: learning_curve(rows).savefig(path, format="png", dpi=130)
        )
    return files
