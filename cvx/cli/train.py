"""Train one model from data to test, recording what it looks at."""


def main(argv: list[str]) -> int:
    """Parse flags and presets, train, and print what came out and where it lies."""
    from cvx import config

    given, options = config.parse(argv)
    from cvx.pipeline import page_of
    from cvx.tracking import wandb_sinks
    from cvx.training.loop import train

    with wandb_sinks(options.wandb, options.project, page_of) as sinks:
        summary = train(given, options, sinks)
    if summary:
        print_summary(summary, options.artifacts)
    return 0


def print_summary(summary: dict, artifacts) -> None:
    """Print accuracies, time, where everything lies, and the command that opens it."""
    from rich.console import Console
    from rich.table import Table

    from cvx.cli.flags import store_flag

    numbers = summary["metrics"]
    table = Table(title=f"{summary['run']}", title_justify="left", show_header=False)
    table.add_row(
        "test accuracy",
        f"{numbers['test/acc1']:.4f}   top-5 {numbers['test/acc5']:.4f}   ECE {numbers['test/ece']:.4f}",
    )
    table.add_row(
        "val accuracy", f"{numbers['val/acc1']:.4f}   best of {summary['epochs']} epochs: {summary['best_epoch']}"
    )
    table.add_row("time", f"{summary['time_s']:.0f} s")
    table.add_row("records", f"{artifacts}/runs/{summary['run']}")
    if "best" in summary:
        table.add_row("model", summary["best"])
    console = Console()
    console.print(table)
    if "best" in summary:
        flag = store_flag(artifacts)
        console.print(f"maps:  python -m cvx attribute {summary['best']}{flag}", highlight=False, soft_wrap=True)
        console.print(f"demo:  python demo/app.py{flag}", highlight=False, soft_wrap=True)
