#pragma once

#include <cstdint>

#include "perf/cost_model.h"

namespace blendserve {

// A workload as the sums that its bounds are made of. Doubles: output lengths may be estimates. The p prompt tokens of
// a request are prefilled, which yields its first output token; d − 1 decode steps follow, of which step j reads p + j
// tokens of KV.
struct WorkloadSums {
  double num_requests = 0;
  double unique_prompt_tokens = 0;   // every token of the prefix tree once
  double unique_prompt_squares = 0;  // Σ end² − begin² over the segments of the prefix tree, tokens²
  double decode_steps = 0;           // Σ d − 1
  double kv_reads = 0;               // tokens, Σ over decode steps; a shared segment once a step with cascade attention
  double unshared_kv_reads = 0;      // those of them that no other request shares
  double max_output_len = 0;         // the longest d

  // Segment [begin, end) of the prefix tree.
  void add_segment(double begin, double end);
  // One request's decode steps, which read prompt_len tokens of its prompt; unshared_len of them are its own. An output
  // length that is an estimate has E[d] and E[d²].
  void add_request(double prompt_len, double unshared_len, double mean_output_len, double second_moment);
  void add_request(double prompt_len, double unshared_len, double output_len) {
    add_request(prompt_len, unshared_len, output_len, output_len * output_len);
  }
};

// Lower bounds of the time of a workload on one replica, under any schedule.
struct Bound {
  double t_comp_s = 0;     // C = t_tok·(unique prompt tokens + decode steps) + t_attn·squares + t_head·output tokens
  double t_mem_s = 0;      // Mm = t_kv·KV reads
  double ideal_s = 0;      // max(C, Mm)
  double practical_s = 0;  // max(ideal + β·min(C, Mm), max(N_min, d_max − 1)·W + Mm), N_min = unshared reads / capacity
};

// On num_replicas times the device: C, Mm and N_min are divided by it, d_max and W (every replica reads the weights)
// are not; which takes the replica with the longest output to read its share of the KV. W is that of a single token,
// the least there is in a mixture of experts. Throws InvalidInput for sums that
// are negative or not finite, and when the model leaves no room for KV.
Bound bound(const CostModel& cost, const WorkloadSums& sums, std::int64_t num_replicas = 1);

}  // namespace blendserve
