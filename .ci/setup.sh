#!/usr/bin/env bash
# Makes .venv: torch, everything in requirements.lock, and this project itself, editable.
#
# Does nothing, within milliseconds, when .venv was finished in this place with the lock, the project file and this
# script as they are now. An install that was killed while packages were written is started again from nothing,
# because pip cannot tell a half-written package from a whole one.
#
#     .ci/setup.sh                 finds Python by itself
#     PYTHON=/path/to/python3.12 .ci/setup.sh
set -euo pipefail

TORCH=2.13.0
NEEDS_GB=6       # the environment, and what pip unpacks on the way
NEEDS_GB_CUDA=14 # the same with plain torch, which brings CUDA's libraries
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$ROOT/.venv
READY=$VENV/.ready           # the place, then the fingerprint of all that the set-up reads
LOCKED=$VENV/.locked         # the fingerprint of the lock whose packages are installed
UNFINISHED=$VENV/.unfinished # exists while packages are written
LOG=$VENV/set-up.log
SUPPORTED="Linux x86_64 with glibc 2.31 or newer, CPython 3.11 to 3.14"

fail() {
    echo "set-up: $*" >&2
    exit 1
}

say() {
    printf 'set-up: %4d s  %s\n' "$SECONDS" "$*" >&2
}

digest() {
    cat "$@" | sha256sum
}

ready() {
    [[ -x $VENV/bin/python && -f $READY && ! -e $UNFINISHED && $(<"$READY") == "$WANTED" ]]
}

supported() {
    "$1" -c 'import sys
sys.exit(sys.implementation.name != "cpython" or not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1
}

# Prints a usable Python, or explains why there is none.
find_python() {
    local candidate seen=""
    local candidates=(python3.11 python3.12 python3.13 python3.14 python3 python)
    [[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
    for candidate in "${candidates[@]}"; do
        command -v "$candidate" >/dev/null 2>&1 || continue
        if ! supported "$candidate"; then
            seen+=" $candidate is $("$candidate" --version 2>&1 | head -n 1);"
            continue
        fi
        if ! "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            seen+=" $candidate lacks the venv module (Debian and Ubuntu: install python3-venv);"
            continue
        fi
        command -v "$candidate"
        return
    done
    fail "needs CPython 3.11 to 3.14;${seen:- found no Python${PYTHON:+ at $PYTHON};} set PYTHON=/path/to/python3.11"
}

check_machine() {
    local machine libc
    machine=$(uname -sm)
    [[ $machine == "Linux x86_64" ]] || fail "the pinned wheels exist for $SUPPORTED; this is $machine"
    libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || true)
    [[ $libc == glibc\ * && $(printf '%s\n' 2.31 "${libc#glibc }" | sort -V | head -n 1) == 2.31 ]] ||
        fail "the pinned wheels exist for $SUPPORTED; this machine has ${libc:-another C library}"
    check_disk "$NEEDS_GB"
}

check_disk() {
    local free
    free=$(df -Pk "$ROOT" | awk 'NR == 2 { print int($4 / 1048576) }')
    [[ $free -ge $1 ]] || fail "needs $1 GB of free disk at $ROOT; there are $free GB"
}

# pip in the environment, into the log.
pip() {
    echo "+ pip $*" >"$LOG"
    "$VENV/bin/python" -m pip "$@" </dev/null >>"$LOG" 2>&1
}

pip_failed() {
    # What failed before it wrote anything (no network, no such version) has left nothing half-written.
    grep -q "^Installing collected packages" "$LOG" || rm -f "$UNFINISHED"
    tail -n 15 "$LOG" >&2
    fail "pip failed after $SECONDS s; its log is $LOG; run this again when the cause is mended"
}

install_torch() {
    say "torch $TORCH+cpu"
    if pip install --no-deps --no-compile "torch==$TORCH+cpu"; then
        return
    fi
    grep -q "No matching distribution found" "$LOG" || pip_failed
    say "pip is offered no $TORCH+cpu here: installing plain torch $TORCH with all that it needs (gigabytes more)"
    check_disk "$NEEDS_GB_CUDA"
    # Dependencies that the lock names come at the lock's versions.
    pip install --no-compile --constraint "$ROOT/requirements.lock" "torch==$TORCH" || pip_failed
}

install_packages() {
    touch "$UNFINISHED"
    if ! "$VENV/bin/python" -m pip show torch 2>/dev/null | grep -q "^Version: $TORCH"; then
        install_torch
    fi
    say "$(grep -c '==' "$ROOT/requirements.lock") packages of requirements.lock"
    pip install --no-deps --no-compile --only-binary :all: -r "$ROOT/requirements.lock" || pip_failed
    # On all cores, where pip takes one. What does not compile (templates, other Pythons' files) is never imported.
    say "bytecode"
    "$VENV/bin/python" -m compileall -q -j 0 "$VENV"/lib/python3.*/site-packages </dev/null >"$LOG" 2>&1 || true
    digest "$ROOT/requirements.lock" >"$LOCKED"
    rm "$UNFINISHED"
}

# The mark stays until all else is gone, so that even this may be interrupted.
start_over() {
    say "$1: starting over"
    touch "$UNFINISHED"
    find "$VENV" -mindepth 1 -maxdepth 1 ! -name "${UNFINISHED##*/}" -exec rm -rf {} +
    rm -rf "$VENV"
}

WANTED=$ROOT$'\n'$(digest "$ROOT/requirements.lock" "$ROOT/pyproject.toml" "${BASH_SOURCE[0]}")
! ready || exit 0

# One set-up at a time; whoever waited finds the work done.
if command -v flock >/dev/null 2>&1; then
    exec 9<"${BASH_SOURCE[0]}"
    flock 9
    ! ready || exit 0
fi

unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_NO_DEPS PIP_NO_BINARY
export PIP_USER=0 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COLOR=1

if [[ -e $UNFINISHED ]]; then
    start_over "an earlier set-up was interrupted"
elif [[ -f $READY && $(head -n 1 "$READY") != "$ROOT" ]]; then
    start_over "the folder was moved, which its environment does not survive"
elif [[ -d $VENV ]]; then
    supported "$VENV/bin/python" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1 ||
        fail "$VENV is no environment of CPython 3.11 to 3.14 with pip; remove it and run this again"
fi
if [[ ! -d $VENV ]]; then
    check_machine
    python=$(find_python)
    say "$("$python" --version) at $python, environment in $VENV"
    mkdir "$VENV"
    touch "$UNFINISHED"
    "$python" -m venv "$VENV" || fail "$python -m venv failed"
fi
rm -f "$READY"
if [[ ! -f $LOCKED || $(<"$LOCKED") != "$(digest "$ROOT/requirements.lock")" ]]; then
    install_packages
fi
say "this project, editable"
pip install --no-deps --no-build-isolation --no-index -e "$ROOT" || pip_failed
echo "$WANTED" >"$READY"
say "done"
