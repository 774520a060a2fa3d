"""The results for people: tables on the terminal, and the same as Markdown for the documents."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import contenders
from tests.bench.results import MEBIBYTE

# Less than this is what an idle machine has, its desktop or its cron included.
BUSY_LOAD = 0.5

_GROUPS = (
    ("Floors and engine", (*contenders.FLOORS, *contenders.ENGINE)),
    ("Kinds of sources", contenders.SOURCES),
    ("Workers", contenders.WORKERS),
    ("The article's ways", contenders.ARTICLE),
    ("Peers", contenders.PEERS),
    ("Other records", contenders.OTHER_SHAPES),
    ("Growth", contenders.GROWTH),
)
_COLUMNS = ("", "input", "rows", "seconds", "min to max", "× floor", "rows/s", "CPU s", "peak MiB", "process s")
_FIGURE_COLUMNS = ("figure", "must", "aim", "measured", "")


def groups(report: dict[str, Any]) -> Iterable[tuple[str, list[list[str]], list[str]]]:
    """Yield each group's heading, its rows of cells, and a line for each contender that has none."""
    known = {row["name"]: row for row in report["contenders"]}
    for heading, members in _GROUPS:
        present = [known[member.name] for member in members if member.name in known]
        rows = [_cells(row) for row in present if "problem" not in row]
        missing = [f"{row['name']}: {_short(row['problem'])}" for row in present if "problem" in row]
        if present:
            yield heading, rows, missing


def _cells(row: dict[str, Any]) -> list[str]:
    times = [sample["seconds"] for sample in row["samples"]]
    return [
        row["name"],
        row["input"],
        f"{row['rows']:,}",
        _seconds(row["seconds"]),
        f"{_seconds(min(times))} to {_seconds(max(times))}",
        f"{row['times_floor']:.2f}" if row["times_floor"] else "",
        f"{row['rows_per_second']:,.0f}",
        _seconds(row["cpu_seconds"]),
        f"{row['peak_bytes'] / MEBIBYTE:,.0f}",
        _seconds(row["process_seconds"]),
    ]


def _short(problem: str) -> str:
    """Cut an error down to how it began and its last line; all of it was printed when it happened."""
    first, *others = problem.strip().splitlines()
    return f"{first} {others[-1].strip()}" if others else first


def _seconds(value: float) -> str:
    return f"{value:.2f}"


def figures(report: dict[str, Any]) -> list[list[str]]:
    """Return the cells of the figures that have to be reached."""
    return [
        [
            row["name"],
            f"{row['sign']} {row['must']:g} {row['unit']}" if row["must"] is not None else "",
            f"{row['aim']:g}" if row["aim"] is not None else "",
            f"{row['value']:.2f} {row['unit']}" if row["value"] is not None else row["note"],
            {True: "pass", False: "FAIL", None: row["note"] if row["value"] is not None else ""}[row["reached"]],
        ]
        for row in report["figures"]
    ]


def show(report: dict[str, Any], console: Console) -> None:
    """Print everything as tables."""
    console.print(_about(report))
    for heading, rows, missing in groups(report):
        _show_table(console, heading, _COLUMNS, rows)
        for line in missing:
            console.print(line, style="yellow", markup=False, highlight=False)
    _show_table(console, "Must reach", _FIGURE_COLUMNS, figures(report))


def _show_table(console: Console, heading: str, columns: tuple[str, ...], rows: list[list[str]]) -> None:
    if not rows:
        return
    table = Table(title=heading, title_justify="left")
    for number, column in enumerate(columns):
        is_text = number < 2 if columns is _COLUMNS else number in (0, 4)
        table.add_column(column, justify="left" if is_text else "right", no_wrap=columns is _COLUMNS and number > 0)
    for row in rows:
        table.add_row(*row, style={"FAIL": "red", "pass": "green"}.get(row[-1], ""))
    console.print(table)


def _about(report: dict[str, Any]) -> str:
    machine, options = report["machine"], report["options"]
    settings = ", ".join(f"{name} = {value}" for name, value in report["postgres"].items())
    busy = " Something else ran: these figures are not to be trusted." if machine["load"] > BUSY_LOAD else ""
    return (
        f"{report['started_at'][:10]}, {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, Python {machine['python']}. "
        f"{options['rows']:,} photos, medians of {options['repeat']} rounds. "
        f"Load of the machine at the start: {machine['load']:.2f}.{busy}\n"
        f"PostgreSQL: {settings}"
    )


def markdown(report: dict[str, Any]) -> str:
    """Write the tables for docs/performance.md, with what each contender does and lacks."""
    parts = [_about(report).replace("\n", "\n\n"), _markdown_table(_FIGURE_COLUMNS, figures(report))]
    for heading, rows, missing in groups(report):
        parts.append(f"### {heading}")
        if rows:
            parts.append(_markdown_table(_COLUMNS, rows))
        parts += [f"Without a result: {line}." for line in missing]
    parts.append("### What is compared")
    parts.append(_markdown_table(("", "does", "leaves out"), _described(report)))
    return "\n\n".join(parts) + "\n"


def _described(report: dict[str, Any]) -> list[list[str]]:
    known = {row["name"] for row in report["contenders"]}
    described: dict[tuple[str, str], list[str]] = {}
    for contender in contenders.ALL:
        if contender.name in known and contender.scale == "main":
            described.setdefault((contender.does, contender.lacks), []).append(contender.name)
    return [["; ".join(names), does, lacks] for (does, lacks), names in described.items()]


def _markdown_table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
