#!/usr/bin/env bash
# Checks and measures the CUDA kernels on a machine with a GPU; needs no network. Stages run in this order, each under
# its own time limit, and what one measured is on disk before the next begins:
#   correctness  tests/gpu, file by file
#   bandwidth    decode bandwidth by SM budget, a GEMM beside attention, GEMM time by rows -> cuda_attention.json
#   prefill      prompts and chunks by backend, shapes that only paged_attention takes -> prefill.json
#   shared       decode with shared prefixes beside plain decode -> shared_prefixes.json
#   end_to_end   the engine on a model of Llama-3.1-8B's shape with random weights -> end_to_end.json, and with a KV cache
#                in e4m3 -> end_to_end_fp8.json
#   sanitizer    compute-sanitizer memcheck and racecheck on tiny shapes
#   e4m3         decode and shared prefixes over keys and values in e4m3 -> e4m3.json
# Only when asked for, with a library built by `make cuda FLASHINFER=on`:
#   flashinfer   tests/gpu/test_flashinfer.py
#
#   tools/gpu_check.sh OUTPUT_DIR [STAGE...]
#
# BLENDSERVE_CUDA_LIB names a library built elsewhere (default: build/cuda, what `make cuda` builds). PYTHON names the
# interpreter that has torch, pytest and blendserve, COMMIT the commit of the library.
set -uo pipefail

[ $# -ge 1 ] || { sed -n '2,18p' "$0"; exit 2; }
output=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
commit=${COMMIT:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}
export BLENDSERVE_CUDA_LIB=${BLENDSERVE_CUDA_LIB:-$PWD/build/cuda/csrc/kernels/cuda/libblendserve_cuda.so}
export PYTHONUNBUFFERED=1
tiny_shapes="rows_of_queries or any_size or any_shape or several_levels or (every_token and 33-8)"
failed=0

run() {  # run NAME LIMIT_S COMMAND...
  local name=$1 limit=$2 begin=$SECONDS
  shift 2
  timeout -s INT -k 20 "$limit" "$@" >"$output/$name.log" 2>&1
  local status=$?
  [ $status -eq 0 ] || { failed=1; tail -n 30 "$output/$name.log"; }
  echo "$name: exit $status after $((SECONDS - begin)) s (limit $limit s); $(tail -n 1 "$output/$name.log" | cut -c1-200)"
}

correctness() {  # a process for each file: after an illegal access CUDA fails in all that follows
  for part in kv_append paged_decode native_cuda shared_decode engine; do
    run "correctness_$part" 60 "$python" -m pytest "tests/gpu/test_$part.py" -v --tb=short --timeout 50 --timeout-method thread
  done
}

bandwidth() {
  run bandwidth 120 "$python" benchmarks/kernels/cuda_kernels.py -o "$output/cuda_attention.json" --commit "$commit" \
    --stage bandwidth --stage beside --stage gemm
}

prefill() {
  run prefill 60 "$python" benchmarks/kernels/cuda_kernels.py -o "$output/prefill.json" --commit "$commit" \
    --stage prefill --stage any_shape
}

flashinfer() {
  run flashinfer 60 "$python" -m pytest tests/gpu/test_flashinfer.py -q
}

shared() {
  run shared 60 "$python" benchmarks/kernels/cuda_kernels.py -o "$output/shared_prefixes.json" --commit "$commit" \
    --stage shared
}

e4m3() {
  run e4m3 90 "$python" benchmarks/kernels/cuda_kernels.py -o "$output/e4m3.json" --commit "$commit" --stage e4m3
}

end_to_end() {
  run end_to_end 180 "$python" benchmarks/e2e/throughput.py --shape llama-3.1-8b --scale 4 --tolerance 0.15 \
    --schedules fcfs dfs --repeats 1 --commit "$commit" --out "$output/end_to_end.json"
  run end_to_end_fp8 180 "$python" benchmarks/e2e/throughput.py --shape llama-3.1-8b --scale 4 --tolerance 0.5 \
    --kv-dtype fp8_e4m3 --schedules dfs --repeats 1 --commit "$commit" --out "$output/end_to_end_fp8.json"
}

sanitizer() {
  for tool in memcheck racecheck; do
    PYTORCH_NO_CUDA_MEMORY_CACHING=1 run "$tool" 90 compute-sanitizer --tool "$tool" --error-exitcode 1 \
      --kernel-regex kns=blendserve "$python" -m pytest tests/gpu -q --ignore tests/gpu/test_flashinfer.py -p no:cacheprovider -k "$tiny_shapes"
  done
}

stages=("$@")
[ $# -gt 0 ] || stages=(correctness bandwidth prefill shared end_to_end sanitizer e4m3)
for stage in "${stages[@]}"; do
  "$stage"
done
exit $failed
