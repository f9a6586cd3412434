"""Measure how fast cvx is on this machine and write docs/benchmarks.md: `python tests/benchmarks/run.py [TOPIC …]`."""

import argparse
import datetime
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from excerpt import excerpt
from measuring import Row, machine

ROOT = Path(__file__).parents[2]
OUTPUT = ROOT / "docs" / "benchmarks.md"
TOPICS = {
    "loop": "Training: the whole loop against the bare step",
    "beside": "Trainings at once, by how torch's threads wait",
    "batches": "Augmented batches of 32-px images",
    "maps": "Vanilla gradient maps at 32 px, float32 and bf16, 128 images",
    "startup": "Start-up",
    "page": "The demo's page",
    "layouts": "5,000 logits in the plane",
    "memory": "Images that do not fit into memory",
    "growth": "How it grows",
    "accuracy": "Time to accuracy: Fashion-MNIST",
}
LONG = ("accuracy",)
"""Topics of half an hour and more: measured when they are named."""
HEAD = """# Benchmarks: how fast cvx is

What to expect of training, maps, start-up and the page on two cores, and what each is held against. To measure it on your machine:

```sh
make bench               # all but the last topic; writes this page
make bench TOPIC=maps    # one topic; the others stay as they are here
```

Every ratio is of figures taken in turns within one run, so it says more than they do.
`make bench TOPIC=accuracy` takes forty minutes, so it runs only when it is named; its curves stay beside its script in
accuracy.jsonl, and those that are there already are not drawn again. An exponent of growth is the slope of log time
over log size: 1 is linear, 0 is constant. The last column was written before the figure was known, and stands as it was
where it proved wrong.
"""


def main() -> None:
    """Measure the topics named, or all but the long; topics that were not measured keep what the file has of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=", ".join(TOPICS))
    parser.add_argument("--output", type=Path, default=OUTPUT, help="default: docs/benchmarks.md")
    parser.add_argument("--topic-as-json", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if unknown := [topic for topic in given.topics if topic not in TOPICS]:
        parser.error(f"unknown topic {unknown[0]!r}; known: {', '.join(TOPICS)}")
    if given.topic_as_json:
        found = [vars(row) for row in importlib.import_module(given.topics[0]).rows()]
        print(json.dumps({"machine": machine(), "rows": found}))
        return
    sections = _kept(given.output)
    for topic in given.topics or [topic for topic in TOPICS if topic not in LONG]:
        sections[topic] = _section(topic)
        print(sections[topic], flush=True)
        given.output.write_text(_page(sections), encoding="utf-8")


def _page(sections: Mapping[str, str]) -> str:
    """Return the page: its head, what it comes to in short, and the sections in the topics' order."""
    ordered = [sections[name] for name in TOPICS if name in sections]
    return "\n".join([HEAD, excerpt(ordered), *ordered])


def _kept(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    parts = file.read_text(encoding="utf-8").split("\n## ")[1:]
    by_title = {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}
    return {topic: by_title[title] for topic, title in TOPICS.items() if title in by_title}


def _section(topic: str) -> str:
    """Measure a topic in a process of its own, so that none finds memory as another left it."""
    print(f"measuring {topic} …", file=sys.stderr, flush=True)
    begun = time.perf_counter()
    command = [sys.executable, __file__, topic, "--topic-as-json"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    took, date = time.perf_counter() - begun, datetime.date.today().isoformat()
    lines = [f"## {TOPICS[topic]}", "", f"{date}; {answer['machine']}; measured in {took:.0f} s.", ""]
    lines += ["| what | result | held against | ratio | predicted or aimed at |", "|---|---|---|---|---|"]
    lines += [_line(Row(**row)) for row in answer["rows"]]
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    return f"| {row.what} | {row.result} | {row.against} | {row.ratio} | {row.predicted} |"


if __name__ == "__main__":
    main()
