#!/usr/bin/env bash
# Make the environment of brian2-loihi, which needs an older numpy than ours, and run its tests:
#   scripts/brian2_loihi_env.sh FOLDER && SPIKEFIT_BRIAN2_LOIHI=FOLDER/bin/python pytest tests/interop/test_loihi.py
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
python3 -m venv "$1"
"$1/bin/pip" install "brian2-loihi==0.5.2" "brian2==2.9.0" "numpy<2" setuptools
