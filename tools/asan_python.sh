#!/usr/bin/env bash
# The tests of planning and scheduling, fuzzing among them, on an extension built with AddressSanitizer and
# UndefinedBehaviorSanitizer. Shares build/asan with `make asan`. PYTHON is an interpreter that has what the tests need.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-.venv/bin/python}
build=$PWD/build/asan

if [[ ! -d $build/pybind11 ]]; then
  "$python" -m pip install --quiet --target "$build/pybind11" 'pybind11>=2.13'
fi
cmake --preset asan -DBLENDSERVE_WERROR="${WERROR:-OFF}" -DBLENDSERVE_BUILD_PYTHON=ON \
  -DPython_EXECUTABLE="$(realpath -s "$python")" -Dpybind11_DIR="$build/pybind11/pybind11/share/cmake/pybind11"
cmake --build "$build" --target _core --parallel "${JOBS:-$(nproc)}"

package=$build/package
rm -rf "$package"
mkdir -p "$package"
cp -r python/blendserve "$package"
rm -f "$package"/blendserve/_core*.so
cp "$build"/csrc/bindings/_core*.so "$package/blendserve"

# The interpreter is not instrumented, so the runtime has to come first; what the interpreter leaks is not ours. --capture=sys: a report of
# theirs must not go down with the process.
export LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)"
export ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$package PYTHONDONTWRITEBYTECODE=1
"$python" -c "import blendserve._core as core; assert core.__file__.startswith('$package'), core.__file__"
"$python" -m pytest -q -p no:cacheprovider --capture=sys tests/python/planning tests/python/test_scheduler_bindings.py \
  tests/python/test_decoder_bindings.py
