#!/usr/bin/env bash
# Builds, checks and measures on a machine with an NVIDIA GPU, nvcc and torch >= 2.10.
#
#   benchmarks/gpu.sh build             the native libraries, for this GPU
#   benchmarks/gpu.sh contract [ROOM]   the contract on CUDA, then small lines under compute-sanitizer
#   benchmarks/gpu.sh bench [ROOM]      every operator against its peers, and a training step of each recipe
#   benchmarks/gpu.sh                   all three, all rooms
#
# Each stage takes under ten minutes a room and merges into benchmarks/results/<device>.json. PYTHON=... chooses
# the interpreter. DRY_RUN=1 prints the commands.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
LIMIT=${LIMIT:-590}
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"

run() {
  echo "+ $*"
  if [[ "${DRY_RUN:-0}" != 1 ]]; then timeout "$LIMIT" "$@"; fi
}

python_says() {
  "$PYTHON" -c "$1"
}

require_gpu() {
  if [[ "${DRY_RUN:-0}" == 1 ]]; then return; fi
  python_says 'import sys, torch; sys.exit(not torch.cuda.is_available())' || {
    echo "gpu.sh: torch sees no GPU here; DRY_RUN=1 prints the commands" >&2
    exit 2
  }
}

build() {
  local arch
  arch=$(python_says 'import torch; print("%d.%d" % torch.cuda.get_device_capability() if torch.cuda.is_available() else "9.0")')
  run env FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="$arch" "$PYTHON" setup.py -q build_ext --inplace
}

# contract [ROOM]: everything on CUDA, none of it on a reference by mistake.
contract() {
  local room=${1:-} words
  words=("$PYTHON" -m pytest -q python_tests/test_contract.py)
  if [[ -n "$room" ]]; then
    words+=(-k "$("$PYTHON" - "$room" <<'PY'
import sys
from sslkernels import _op
_op.declare_all()
print(" or ".join(sorted({op.name for op in _op.OPS.values() if op.package.split(".")[1] == sys.argv[1]})))
PY
)")
  fi
  run env SSLKERNELS_STRICT=1 "${words[@]}"
  if command -v compute-sanitizer >/dev/null; then
    local tool
    for tool in memcheck racecheck synccheck initcheck; do
      run compute-sanitizer --tool "$tool" --error-exitcode 9 --kernel-name-exclude kernel_substring=at:: \
        "$PYTHON" -m benchmarks.small_lines ${room:+"$room"}
    done
  else
    echo "compute-sanitizer is not installed: small lines were not run under it"
  fi
}

# bench [ROOM]: operators, and recipes where all rooms are asked for.
bench() {
  run "$PYTHON" -m benchmarks.gpu ${1:+"$1"}
  if [[ -z "${1:-}" ]]; then
    run "$PYTHON" -m benchmarks.recipes
  fi
  run "$PYTHON" -m benchmarks.report
}

stage=${1:-all}
room=${2:-}
case "$stage" in
  build) build ;;
  contract) require_gpu; contract "$room" ;;
  bench) require_gpu; bench "$room" ;;
  all) require_gpu; build; contract; bench ;;
  *)
    echo "gpu.sh: no stage $stage; there are build, contract and bench" >&2
    exit 2
    ;;
esac
