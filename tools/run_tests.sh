#!/usr/bin/env bash
# Usage: run_tests.sh [--stack modern|classic] [pytest options]
#
# Sets up the environment and runs the whole test suite on CPU.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
STACK=modern
if [ "${1:-}" = --stack ]; then
    STACK=$2
    shift 2
fi
bash "$ROOT/tools/setup_env.sh" --stack "$STACK"
ENV_DIR=$ROOT/.venv
[ "$STACK" = modern ] || ENV_DIR=$ROOT/.venv-$STACK

cd "$ROOT"
# one thread each: OpenMP threads of several processes wait on one another
export OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE PATH="$ENV_DIR/bin:$PATH"
exec "$ENV_DIR/bin/python" -m pytest -n "${TEST_WORKERS:-2}" --dist worksteal \
    --durations 15 "$@"
