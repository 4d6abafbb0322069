#!/bin/sh
# Installs what building the agent needs into the current Python: the agent's own packages at
# the pinned versions, and the tools. torch is not among them: no module of the agent is frozen with
# it, and the runtime is packed from its own download.
set -eu

python -m pip install --quiet "pip>=25.1"
python -m pip install --quiet --no-deps --editable .
mkdir -p build
python installers/build/requirements.py >build/requirements.txt
python -m pip install --quiet --constraint constraints.txt --group packaging \
    --requirement build/requirements.txt
