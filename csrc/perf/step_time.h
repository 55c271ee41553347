#pragma once

#include <cstdint>

#include "perf/batch_desc.h"
#include "perf/cost_model.h"
#include "request/time_correction.h"

namespace blendserve {

enum class Execution : std::uint8_t {
  kSequential,  // one operator after the other: vLLM, SGLang
  kOverlapped,  // GEMM and decode attention at the same time: NanoFlow
};

struct StepTime {
  double compute_s = 0;  // c': GEMM and prefill attention, not less than reading the weights
  double memory_s = 0;   // m: decode attention
  double total_s = 0;    // with what a measured device takes besides
  // The total, but for that, by what bounds it: arithmetic, and reading weights and KV cache.
  double arithmetic_s = 0;
  double read_s = 0;
};

// The time of one step, as docs/performance_model.md defines it; an empty batch takes none.
// With n tokens in ⌈n/tile⌉ tiles, c = tiles·tile·t_tok + t_attn·Σ(2·ctx·x + x²) and m = t_kv·Σ len:
//   sequential   c' = max(c, W), t = c' + m
//   overlapped   k nano-batches share the tiles, each at least one, as evenly as whole tiles allow, and the prefill
//                attention and the tokens that draw experts evenly: c' = Σ max(c_i, W_i),
//                t = max(max(c', m) + β·min(c', m), ΣW_i + m)
// A measured device has c by its curves, the LM head for the rows that pass it, and a constant for every step.
// A correction lengthens c, and W and m, before anything else.
StepTime step_time(const CostModel& cost, const BatchDesc& batch, Execution execution,
                   const TimeCorrection& correction = {});

}  // namespace blendserve
