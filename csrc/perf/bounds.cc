#include "perf/bounds.h"

#include <algorithm>
#include <cmath>

#include "perf/checks.h"

namespace blendserve {
namespace {

void require_sum(const char* name, double value) {
  require(std::isfinite(value) && value >= 0, name, value, "0 or more and finite");
}

void validate(const WorkloadSums& sums) {
  require_sum("num_requests", sums.num_requests);
  require_sum("unique_prompt_tokens", sums.unique_prompt_tokens);
  require_sum("unique_prompt_squares", sums.unique_prompt_squares);
  require_sum("decode_steps", sums.decode_steps);
  require_sum("kv_reads", sums.kv_reads);
  require_sum("unshared_kv_reads", sums.unshared_kv_reads);
  require_sum("max_output_len", sums.max_output_len);
}

}  // namespace

void WorkloadSums::add_segment(double begin, double end) {
  unique_prompt_tokens += end - begin;
  unique_prompt_squares += (end - begin) * (end + begin);
}

void WorkloadSums::add_request(double prompt_len, double unshared_len, double mean_output_len, double second_moment) {
  const double steps = std::max(mean_output_len - 1, 0.0);
  const double output_reads = std::max(second_moment - mean_output_len, 0.0) / 2;  // E[d·(d − 1)/2]
  num_requests += 1;
  decode_steps += steps;
  kv_reads += prompt_len * steps + output_reads;
  unshared_kv_reads += unshared_len * steps + output_reads;
  max_output_len = std::max(max_output_len, mean_output_len);
}

Bound bound(const CostModel& cost, const WorkloadSums& sums, std::int64_t num_replicas) {
  validate(sums);
  require_at_least_one("num_replicas", num_replicas);
  const double replicas = static_cast<double>(num_replicas);
  const double capacity = static_cast<double>(cost.kv_capacity_tokens());
  Bound bound;
  bound.t_comp_s =
      (cost.t_tok() * (sums.unique_prompt_tokens + sums.decode_steps) + cost.t_attn() * sums.unique_prompt_squares +
       cost.t_head() * (sums.num_requests + sums.decode_steps)) /
      replicas;
  bound.t_mem_s = cost.t_kv() * sums.kv_reads / replicas;
  bound.ideal_s = std::max(bound.t_comp_s, bound.t_mem_s);
  const double min_steps = std::max(sums.unshared_kv_reads / (capacity * replicas), sums.max_output_len - 1);
  bound.practical_s = std::max(bound.ideal_s + cost.device().beta * std::min(bound.t_comp_s, bound.t_mem_s),
                               min_steps * cost.weight_read_s() + bound.t_mem_s);
  return bound;
}

}  // namespace blendserve
