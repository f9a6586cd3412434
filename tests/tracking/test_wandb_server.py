"""The stand-in for W&B gives back what it took, and refuses what it does not know."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from base64 import b64encode

import pytest
from wandb_server import KEY, WandbServer
from wandb_server.graphql import Document, QueryError, execute


def ask(server, query, path="/graphql", key=KEY):
    request = urllib.request.Request(server.url + path, json.dumps({"query": query}).encode())
    request.add_header("Authorization", "Basic " + b64encode(f"api:{key}".encode()).decode())
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read())


def refused(server, *arguments, **options):
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(server, *arguments, **options)
    caught.value.close()
    return caught.value.code


def test_it_answers_exactly_the_fields_that_are_asked_for():
    source = {
        "__typename": "Root",
        "a": lambda n=1: {"__typename": "A", "b": n, "c": [{"__typename": "C", "d": 1}, None]},
    }
    query = """query Q($n: Int = 5) { x: a(n: $n) { ...F c @skip(if: true) { d } } a { c { d } } }
    fragment F on A { b }"""
    assert execute(Document(query), {}, source) == {"x": {"b": 5}, "a": {"c": [{"d": 1}, None]}}
    with pytest.raises(QueryError, match="A has no field 'z'"):
        execute(Document("{ a { z } }"), {}, source)


def test_what_it_does_not_know_is_refused_and_kept():
    with WandbServer() as server:
        assert ask(server, "{ viewer { entity } }")["data"] == {"viewer": {"entity": "tester"}}
        assert refused(server, "query Odd { viewer { shoeSize } }") == 400
        assert refused(server, "{ viewer { entity } }", path="/elsewhere") == 400
        assert refused(server, "{ viewer { entity } }", key="1" * 40) == 401
    assert len(server.refused) == 2 and "Odd" in server.refused[0] and "shoeSize" in server.refused[0]


def test_it_fails_as_it_is_told_and_for_as_long():
    with WandbServer() as server:
        server.fail(500, pattern="graphql", times=1)
        assert refused(server, "{ viewer { entity } }") == 500
        assert ask(server, "{ viewer { entity } }")
        server.fail("down")
        with pytest.raises(OSError):
            ask(server, "{ viewer { entity } }")
        server.heal()
        assert ask(server, "{ viewer { entity } }")


PROGRAM = """import wandb
with wandb.init() as run:
    for i in range(3):
        run.log({"val/acc1": i * run.config.lr})
"""
SWEEP = """program: prog.py
command: [PYTHON, "${program}", "${args}"]
method: grid
metric: {name: val/acc1, goal: maximize}
parameters:
  lr: {values: [0.1, 0.3, 0.2]}
"""


@pytest.mark.slow
def test_wandb_sweep_and_two_agents_go_through_a_grid(wandb_server, tmp_path):
    (tmp_path / "prog.py").write_text(PROGRAM)
    (tmp_path / "sweep.yaml").write_text(SWEEP.replace("PYTHON", sys.executable))
    command = [sys.executable, "-m", "wandb"]
    subprocess.run([*command, "sweep", "--project=maps", "sweep.yaml"], cwd=tmp_path, check=True, capture_output=True)
    (name,) = wandb_server.state.project(None, "maps").sweeps
    agents = [
        subprocess.Popen([*command, "agent", f"tester/maps/{name}"], cwd=tmp_path, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    for agent in agents:
        agent.communicate(timeout=120)
    runs = wandb_server.state.project(None, "maps").runs
    assert {run.state for run in runs.values()} == {"finished"} and len(runs) == 3
    import wandb

    sweep = wandb.Api().sweep(f"tester/maps/{name}")
    assert sweep.best_run(order="-summary_metrics.val/acc1").config["lr"] == 0.3
