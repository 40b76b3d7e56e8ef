"""Files for other schedulers, each of which runs the fleet in shards without our own engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from shlex import quote

import yaml

_INSTALL = "python -m pip install loop-runner"


def _scalar(command: str) -> str:
    """A command in YAML: as it is where that is read back unchanged, else as a JSON string."""
    try:
        is_plain = yaml.safe_load(f"- run: {command}\n") == [{"run": command}]
    except yaml.YAMLError:
        is_plain = False
    return command if is_plain else json.dumps(command)


def github(fleet: Path, shards: int) -> str:
    """A workflow with a matrix of shards. The store must be a repository that the jobs can push to."""
    numbers = ", ".join(str(number) for number in range(shards))
    name = quote(str(fleet))
    run = _scalar(f"loop-runner fleet run {name} --shard ${{{{ matrix.shard }}}}/{shards}")
    results = _scalar(f"loop-runner fleet results {name}")
    return f"""\
name: fleet
on: workflow_dispatch
jobs:
  shard:
    runs-on: ubuntu-latest
    strategy:
      fail-fast: false
      matrix:
        shard: [{numbers}]
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: {_INSTALL}
      - run: {run}
  results:
    needs: shard
    if: always()
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.12"
      - run: {_INSTALL}
      - run: {results}
"""


def gitlab(fleet: Path, shards: int) -> str:
    """A parallel job."""
    name = quote(str(fleet))
    run = _scalar(f"loop-runner fleet run {name} --shard $((CI_NODE_INDEX - 1))/$CI_NODE_TOTAL")
    return f"""\
fleet:
  image: python:3.12
  parallel: {shards}
  script:
    - {_INSTALL}
    - {run}
"""


def slurm(fleet: Path, shards: int) -> str:
    """An array script. The store must be a folder or repository that every node reaches."""
    return f"""\
#!/bin/bash
#SBATCH --job-name=fleet
#SBATCH --array=0-{shards - 1}
#SBATCH --output=fleet-%A-%a.log
set -euo pipefail
loop-runner fleet run {quote(str(fleet))} --shard "$SLURM_ARRAY_TASK_ID/{shards}"
"""


def k8s(fleet: Path, shards: int) -> str:
    """An Indexed Job. IMAGE and the volume with the fleet file are for the user to fill in."""
    name = quote(str(fleet))
    command = f'loop-runner fleet run {name} --shard "$JOB_COMPLETION_INDEX/{shards}"'
    args = json.dumps(command) if "'" in command else f"'{command}'"
    return f"""\
apiVersion: batch/v1
kind: Job
metadata:
  name: fleet
spec:
  completions: {shards}
  parallelism: {shards}
  completionMode: Indexed
  backoffLimitPerIndex: 3
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: worker
          image: IMAGE
          workingDir: /fleet
          command: [sh, -c]
          args: [{args}]
          volumeMounts:
            - {{name: fleet, mountPath: /fleet}}
      volumes:
        - name: fleet
          persistentVolumeClaim: {{claimName: fleet}}
"""


GENERATORS: Mapping[str, Callable[[Path, int], str]] = {
    "github": github,
    "gitlab": gitlab,
    "slurm": slurm,
    "k8s": k8s,
}
