#!/usr/bin/env bash
# Usage: setup_env.sh [--stack modern|classic] [--env DIR]
#
# Creates or updates a virtual environment with everything that mmdense, its
# toolboxes, its tests and its linters need. Does nothing when it is up to
# date. PYTHON=... chooses the interpreter. A CPU build of torch is taken on
# machines without an NVIDIA GPU if one of pip's indexes has it.
set -euo pipefail

ROOT=$(cd "$(dirname "$0")/.." && pwd)
STACK=modern
ENV_DIR=
while [ $# -gt 0 ]; do
    case $1 in
        --stack) STACK=$2; shift 2 ;;
        --env) ENV_DIR=$2; shift 2 ;;
        *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
done
PINS=$ROOT/requirements/stack-$STACK.txt
if [ ! -f "$PINS" ]; then
    echo "setup_env: no stack '$STACK': choose modern or classic" >&2
    exit 2
fi
if [ -z "$ENV_DIR" ]; then
    ENV_DIR=$ROOT/.venv
    [ "$STACK" = modern ] || ENV_DIR=$ROOT/.venv-$STACK
fi
LOG=$ENV_DIR.log

find_python() {
    local name
    for name in ${PYTHON:-python3.11 python3.12 python3.10 python3.9 python3}; do
        if "$name" - "$STACK" 2>/dev/null <<'PY'
import sys, venv
bounds = {'classic': ((3, 9), (3, 11)), 'modern': ((3, 10), (3, 12))}
low, high = bounds[sys.argv[1]]
sys.exit(not low <= sys.version_info[:2] <= high)
PY
        then
            command -v "$name"
            return
        fi
    done
    echo "setup_env: the $STACK stack needs Python" \
        "$([ "$STACK" = classic ] && echo 3.9 to 3.11 || echo 3.10 to 3.12)" \
        "with venv; set PYTHON=/path/to/python" >&2
    return 1
}

# step MESSAGE COMMAND...: one line with the time it took; output to the log
step() {
    local message=$1 start=$SECONDS pid shown=0
    shift
    echo "==> $*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 &
    pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        sleep 1
        if [ $((SECONDS - start - shown)) -ge 10 ]; then
            shown=$((SECONDS - start))
            printf '  %s ... %d s | %s\n' "$message" "$shown" \
                "$(tail -n 1 "$LOG" | cut -c 1-70)"
        fi
    done
    if ! wait "$pid"; then
        echo "setup_env: failed: $message. The end of $LOG:" >&2
        tail -n 25 "$LOG" >&2
        return 1
    fi
    printf '  %s: done, %d s\n' "$message" $((SECONDS - start))
}

PYTHON_BIN=$(find_python)
GPU=cpu
if command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then
    GPU=cuda
fi
STAMP=$(
    {
        echo "$STACK $GPU $ROOT"
        "$PYTHON_BIN" --version
        cat "$PINS" "$ROOT"/requirements/{tests,dev}.txt "$ROOT/setup.py"
    } | sha256sum | cut -d ' ' -f 1
)
if [ "$(cat "$ENV_DIR/.mmdense-stamp" 2>/dev/null)" = "$STAMP" ] \
    && [ -e "$ROOT/mmdense/.mim/model-index.yml" ]; then
    echo "environment $ENV_DIR ($STACK, $GPU) is up to date"
    exit 0
fi

echo "setting up $ENV_DIR ($STACK stack, $GPU), log in $LOG"
mkdir -p "$(dirname "$ENV_DIR")"
: >"$LOG"
rm -f "$ENV_DIR/.mmdense-stamp"
BIN=$ENV_DIR/bin
# an interrupted or older environment: no pip, or another Python
version() { "$1" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null; }
if ! "$BIN/python" -m pip --version >/dev/null 2>&1 \
    || [ "$(version "$BIN/python")" != "$(version "$PYTHON_BIN")" ]; then
    step 'create environment' "$PYTHON_BIN" -m venv --clear "$ENV_DIR"
fi
PIP="$BIN/python -m pip install --disable-pip-version-check --progress-bar off"

TORCH=$(grep '^torch==' "$PINS")
VISION=$(grep '^torchvision==' "$PINS")
if ! "$BIN/python" -c "
import sys, torch, torchvision
wanted = ['${TORCH#*==}', '${VISION#*==}']
have = [m.__version__.split('+')[0] for m in (torch, torchvision)]
sys.exit(have != wanted)" 2>/dev/null; then
    # --dry-run resolves without downloading the wheels
    # shellcheck disable=SC2086
    if [ "$GPU" = cpu ] && [ "$(uname -s)" = Linux ] && $PIP --dry-run \
        --no-deps --quiet "$TORCH+cpu" "$VISION+cpu" >>"$LOG" 2>&1; then
        step "install $TORCH (CPU build)" $PIP "$TORCH+cpu" "$VISION+cpu" 'numpy<2'
    else
        step "install $TORCH" $PIP "$TORCH" "$VISION" 'numpy<2'
    fi
fi

# The cache of built mmcv wheels is keyed by torch and Python: pip's own is
# not, and hands out wheels that were compiled against another torch.
build_mmcv() {
    local key wheels
    "$BIN/python" -c 'import mmcv._ext' 2>/dev/null && return
    # shellcheck disable=SC2086
    step 'install build tools' $PIP 'setuptools<81' wheel ninja 'numpy<2'
    key=$("$BIN/python" -c "
import sys, torch
print(f'torch{torch.__version__}-cp{sys.version_info[0]}{sys.version_info[1]}-$GPU')")
    wheels=${MMDENSE_WHEELS:-${XDG_CACHE_HOME:-$HOME/.cache}/mmdense}/$key
    if ! ls "$wheels"/mmcv-2.1.0-*.whl >/dev/null 2>&1; then
        mkdir -p "$wheels"
        step 'compile mmcv 2.1.0 (10 to 20 minutes on two cores)' env \
            MMCV_WITH_OPS=1 MAX_JOBS="${MAX_JOBS:-$(nproc)}" CFLAGS=-g0 \
            "$BIN/python" -m pip wheel --no-cache-dir --no-build-isolation \
            --no-deps --wheel-dir "$wheels" mmcv==2.1.0
    fi
    # shellcheck disable=SC2086
    step 'install compiled mmcv' $PIP --no-deps --force-reinstall \
        "$wheels"/mmcv-2.1.0-*.whl
}
[ "$STACK" = modern ] || build_mmcv

# shellcheck disable=SC2086
step 'install the toolboxes' $PIP -r "$PINS" \
    -r "$ROOT/requirements/tests.txt" -r "$ROOT/requirements/dev.txt"
# shellcheck disable=SC2086
step 'install mmdense in place' $PIP --no-deps --no-build-isolation -e "$ROOT"
step 'check the requirements of all packages' "$BIN/python" -m pip check
step 'import the stack' "$BIN/python" -c '
import mmdense, mmpretrain.models, mmseg.models, mmdet.models'
echo "$STAMP" >"$ENV_DIR/.mmdense-stamp"
echo "ready: source $BIN/activate"
