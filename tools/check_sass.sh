#!/usr/bin/env bash
# Fails unless every kernel of our own in libblendserve_cuda keeps its variables in registers, and the hot ones are built of the
# instructions they are meant to have: tensor core products, tiles that arrive by bulk or 16-byte asynchronous copies, and
# conversions of e4m3 where the chip has them.
#
#   tools/check_sass.sh [LIBRARY]        CUOBJDUMP names the disassembler (default: cuobjdump on the PATH)
set -euo pipefail

library=${1:-$(dirname "$0")/../build/cuda/csrc/kernels/cuda/libblendserve_cuda.so}
cuobjdump=${CUOBJDUMP:-cuobjdump}

"$cuobjdump" --dump-resource-usage "$library" 2>&1 | awk '
  /Function / { name = $2 }
  / REG:/ && name ~ /blendserve/ {
    ++kernels
    if ($0 !~ /STACK:0 / || $0 !~ / LOCAL:0 /) { print "spills or uses the stack: " name $0; bad = 1 }
  }
  END {
    if (!kernels) { print "no kernel found"; exit 1 }
    if (!bad) print kernels " kernels, no stack and no spills"
    exit bad
  }'

"$cuobjdump" --dump-sass "$library" | awk '
  function require(pattern, what) {
    if (!(pattern in seen)) { print name " (" arch ") has no " what; bad = 1 }
  }
  function check() {
    if (name !~ /blendserve/) return
    if ("LDL" in seen || "STL" in seen) { print name " (" arch ") uses local memory"; bad = 1 }
    if (name ~ /(paged|shared)_decode_kernel/ && !(name ~ /BulkTileCopy/ && arch ~ /^sm_8/)) {
      ++hot
      require("HMMA", "tensor core product")
      require("LDSM", "matrix load")
      if (name ~ /e4m3/ && arch !~ /^sm_8[0-8]/) require("E4M3", "conversion of e4m3")
      if (name ~ /BulkTileCopy/) require("UTMALDG", "bulk tensor copy")
      else require("LDGSTS128", "16-byte asynchronous copy")
    }
    if (name ~ /paged_attention_kernel/) {
      ++hot
      require("HMMA", "tensor core product")
      require("LDSM", "matrix load")
      require("LDGSTS128", "16-byte asynchronous copy")
    }
    if (name ~ /kv_append_kernel/) {
      require("LDG128", "16-byte load"); require("STG128", "16-byte store")
      if ("LDGU16" in seen || "STGU16" in seen) { print name " (" arch ") moves single elements"; bad = 1 }
    }
  }
  /arch = / { next_arch = $3 }
  /Function : / { check(); name = $3; arch = next_arch; split("", seen) }
  match($0, /[ \t](HMMA|LDSM|UTMALDG|LDGSTS|LDG|STG|LDL|STL|F2FP)[.A-Z0-9]*/) {
    split(substr($0, RSTART + 1, RLENGTH - 1), word, ".")
    seen[word[1]] = 1
    if (substr($0, RSTART, RLENGTH) ~ /\.128/) seen[word[1] "128"] = 1
    if (substr($0, RSTART, RLENGTH) ~ /\.U16/) seen[word[1] "U16"] = 1
    if (substr($0, RSTART, RLENGTH) ~ /\.E4M3/) seen["E4M3"] = 1
  }
  END {
    check()
    if (!hot) { print "no attention kernel found"; exit 1 }
    if (!bad) print hot " attention kernels have the copies and products they should"
    exit bad
  }'
