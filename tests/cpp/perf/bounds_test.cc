#include "perf/bounds.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "base/error.h"
#include "perf/step_time.h"

using namespace blendserve;

namespace {

CostModel llama_on_a100() { return {ModelSpec::named("llama-3.1-8b"), DeviceSpec::named("a100-sxm-80gb")}; }

// num_requests that share their first `shared` prompt tokens.
WorkloadSums sums_of(int num_requests, double shared, double prompt_len, double output_len) {
  WorkloadSums sums;
  sums.add_segment(0, shared);
  for (int i = 0; i < num_requests; ++i) {
    sums.add_segment(shared, prompt_len);
    sums.add_request(prompt_len, prompt_len - shared, output_len);
  }
  return sums;
}

}  // namespace

TEST_CASE("the sums of a request are those of its decode steps one by one") {
  WorkloadSums sums;
  sums.add_request(100, 30, 5);
  CHECK(sums.num_requests == 1);
  CHECK(sums.decode_steps == 4);
  CHECK(sums.kv_reads == 101 + 102 + 103 + 104);
  CHECK(sums.unshared_kv_reads == 31 + 32 + 33 + 34);
  CHECK(sums.max_output_len == 5);
}

TEST_CASE("shared prompt tokens are computed once and read by everyone") {
  const WorkloadSums sums = sums_of(3, 70, 100, 2);
  CHECK(sums.unique_prompt_tokens == 70 + 3 * 30);
  CHECK(sums.unique_prompt_squares == 70 * 70 + 3 * (100 * 100 - 70 * 70));
  CHECK(sums.kv_reads == 3 * 101);
  CHECK(sums.unshared_kv_reads == 3 * 31);
}

TEST_CASE("a bound is made of the exact sums") {
  const CostModel cost = llama_on_a100();
  const WorkloadSums sums = sums_of(1000, 200, 512, 256);
  const Bound result = bound(cost, sums);
  const double comp =
      cost.t_tok() * (200 + 1000 * 312 + 1000 * 255) + cost.t_attn() * (200.0 * 200 + 1000 * (512.0 * 512 - 200 * 200));
  const double mem = cost.t_kv() * 1000 * (512 * 255 + 255 * 256 / 2);
  CHECK(result.t_comp_s == Approx(comp));
  CHECK(result.t_mem_s == Approx(mem));
  CHECK(result.ideal_s == Approx(comp));
  CHECK(result.practical_s == Approx(comp + 0.5 * mem));
}

TEST_CASE("the longest output is a chain of steps that all read the weights") {
  const CostModel cost = llama_on_a100();
  const Bound result = bound(cost, sums_of(1, 0, 100, 1001));
  CHECK(result.practical_s == Approx(1000 * cost.weight_read_s() + result.t_mem_s));
}

TEST_CASE("no step reads more unshared KV than the memory holds") {
  const CostModel cost = llama_on_a100();
  WorkloadSums sums;
  sums.kv_reads = sums.unshared_kv_reads = 100.0 * 411520;
  sums.max_output_len = 50;
  CHECK(bound(cost, sums).practical_s == Approx(100 * cost.weight_read_s() + cost.t_kv() * 100 * 411520));
  sums.unshared_kv_reads = 0;
  CHECK(bound(cost, sums).practical_s == Approx(49 * cost.weight_read_s() + cost.t_kv() * 100 * 411520));
}

TEST_CASE("replicas divide the work but not the longest output") {
  const CostModel cost = llama_on_a100();
  const WorkloadSums sums = sums_of(1000, 0, 512, 256);
  const Bound one = bound(cost, sums);
  const Bound four = bound(cost, sums, 4);
  CHECK(four.t_comp_s == Approx(one.t_comp_s / 4));
  CHECK(four.t_mem_s == Approx(one.t_mem_s / 4));
  CHECK(four.ideal_s == Approx(one.ideal_s / 4));
  CHECK(bound(cost, sums, 1000).practical_s == Approx(255 * cost.weight_read_s() + one.t_mem_s / 1000));
}

TEST_CASE("requests that only prefill have no memory time") {
  const Bound result = bound(llama_on_a100(), sums_of(10, 0, 100, 1));
  CHECK(result.t_mem_s == 0);
  CHECK(result.practical_s == result.t_comp_s);
  CHECK(bound(llama_on_a100(), WorkloadSums{}).practical_s == 0);
}

TEST_CASE("no schedule of equal requests beats the practical bound") {
  for (const auto execution : {Execution::kSequential, Execution::kOverlapped}) {
    for (const int num_requests : {1, 5, 300}) {
      for (const int output_len : {1, 2, 40}) {
        CAPTURE(num_requests, output_len);
        const CostModel cost = llama_on_a100();
        BatchDesc prefill;
        for (int i = 0; i < num_requests; ++i) prefill.add_chunk(0, 600);
        double total_s = step_time(cost, prefill, execution).total_s;
        for (int step = 1; step < output_len; ++step) {
          BatchDesc decode;
          for (int i = 0; i < num_requests; ++i) decode.add_decode(600 + step);
          total_s += step_time(cost, decode, execution).total_s;
        }
        CHECK(bound(cost, sums_of(num_requests, 0, 600, output_len)).practical_s <= total_s * (1 + 1e-12));
      }
    }
  }
}

TEST_CASE("sums out of range and models without room for KV are refused") {
  WorkloadSums sums;
  sums.kv_reads = -1;
  CHECK_THROWS_WITH(bound(llama_on_a100(), sums), Catch::Matchers::Contains("kv_reads is -1"));
  sums.kv_reads = std::nan("");
  CHECK_THROWS_AS(bound(llama_on_a100(), sums), InvalidInput);
  CHECK_THROWS_AS(bound(llama_on_a100(), WorkloadSums{}, 0), InvalidInput);
  const CostModel large(ModelSpec::named("llama-3.1-70b"), DeviceSpec::named("a100-sxm-80gb"));
  CHECK_THROWS_AS(bound(large, WorkloadSums{}), InvalidInput);
}
