#!/usr/bin/env bash
# Usage: quickstart.sh [quickstart.py options]
#
# Sets up the environment, then pre-trains, fine-tunes and reports on the
# demo data. Run again to continue what was interrupted.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
bash "$ROOT/tools/setup_env.sh"
cd "$ROOT"
export PATH="$ROOT/.venv/bin:$PATH"
exec "$ROOT/.venv/bin/python" tools/quickstart.py "$@"
