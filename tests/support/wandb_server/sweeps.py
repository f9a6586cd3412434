"""Sweeps as far as agents need them: the next parameters of a grid, or drawn at random (bayes too)."""

import hashlib
import itertools
import json
import math
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from wandb_server.graphql import QueryError
from wandb_server.state import Run, Sweep, new_id, now

if TYPE_CHECKING:
    from wandb_server.schema import Schema

Object = dict[str, Any]


def upsert(schema: "Schema", input: Object) -> Object:
    """Register a sweep, or change its state."""
    project = schema.make_project(input.get("entityName"), input.get("projectName") or "uncategorized")
    sweep = next((one for one in project.sweeps.values() if one.id == input.get("id")), None)
    if sweep is None:
        name = hashlib.sha256(new_id("SweepName").encode()).hexdigest()[:8]
        sweep = project.sweeps.setdefault(name, Sweep(project, name, input["config"]))
    sweep.config = input.get("config") or sweep.config
    sweep.state = input.get("state") or sweep.state
    sweep.display_name = input.get("displayName") or sweep.display_name
    sweep.updated_at = now()
    answer = schema.objects.sweep(sweep)
    return {"__typename": "UpsertSweepPayload", "sweep": answer, "configValidationWarnings": []}


def create_agent(schema: "Schema", input: Object) -> Object:
    """Register an agent."""
    project = schema.make_project(input.get("entityName"), input["projectName"])
    if input["sweep"] not in project.sweeps:
        raise QueryError(f"there is no sweep {input['sweep']}")
    id = new_id("Agent")
    project.sweeps[input["sweep"]].agents.append(id)
    return {"__typename": "CreateAgentPayload", "agent": {"__typename": "Agent", "id": id}}


def heartbeat(schema: "Schema", input: Object) -> Object:
    """Hear from an agent what runs; give it the next run, tell it which to stop, or to leave."""
    sweep = _of_agent(schema, input["id"])
    running = json.loads(input.get("runState") or "{}")
    stops = [name for name in running if name in sweep.project.runs and sweep.project.runs[name].stop]
    commands: list[Object] = [{"type": "stop", "run_id": name} for name in stops]
    if sweep.state in ("FINISHED", "CANCELED"):
        commands.append({"type": "exit"})
    elif not running and sweep.state != "PAUSED":
        commands.append(_next_run(sweep))
    agent = {"__typename": "Agent", "id": input["id"]}
    return {"__typename": "AgentHeartbeatPayload", "agent": agent, "commands": json.dumps(commands)}


def _of_agent(schema: "Schema", id: str) -> Sweep:
    for project in schema.state.projects.values():
        for sweep in project.sweeps.values():
            if id in sweep.agents:
                return sweep
    raise QueryError(f"there is no agent with the id {id}")


def _next_run(sweep: Sweep) -> Object:
    config = yaml.safe_load(sweep.config)
    number, cap = len(sweep.given), config.get("run_cap", math.inf)
    chosen = next(itertools.islice(_choices(config), number, None), None) if number < cap else None
    if chosen is None:
        sweep.state = "FINISHED"
        return {"type": "exit"}
    sweep.state = "RUNNING"
    name = hashlib.sha256(f"{sweep.name}{number}".encode()).hexdigest()[:8]
    sweep.given.append(name)
    run = sweep.project.runs.setdefault(name, Run(sweep.project, name))
    run.sweep, run.state = sweep, "pending"
    args = {key: {"value": value} for key, value in chosen.items()}
    return {"type": "run", "run_id": name, "run_storage_id": run.id, "program": config.get("program"), "args": args}


def _choices(config: Object) -> Iterator[Object]:
    parameters = config["parameters"]
    if config["method"] == "grid":
        values = [spec.get("values") or [spec["value"]] for spec in parameters.values()]
        return (dict(zip(parameters, one, strict=True)) for one in itertools.product(*values))
    if config["method"] not in ("random", "bayes"):
        raise QueryError(f"unknown sweep method {config['method']!r}")
    dice = random.Random(0)
    return ({name: _draw(spec, dice) for name, spec in parameters.items()} for _ in itertools.count())


def _draw(spec: Object, dice: random.Random) -> Any:
    if "value" in spec:
        return spec["value"]
    if "values" in spec:
        return dice.choices(spec["values"], spec.get("probabilities"))[0]
    kind, low, high = spec.get("distribution"), spec.get("min"), spec.get("max")
    if kind == "int_uniform":
        return dice.randint(low, high)
    if kind == "uniform":
        return dice.uniform(low, high)
    if kind == "log_uniform_values":
        return math.exp(dice.uniform(math.log(low), math.log(high)))
    if kind == "q_log_uniform_values":
        q = spec.get("q", 1)
        return round(math.exp(dice.uniform(math.log(low), math.log(high))) / q) * q
    raise QueryError(f"unknown distribution in {spec!r}")
