#include "policy/blend_policy.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <memory>
#include <random>
#include <vector>

#include "plan/planned_job.h"
#include "policy/kv_forecast.h"
#include "policy/pace.h"
#include "policy/paper_policy.h"
#include "sim/simulate.h"

using namespace blendserve;

namespace {

const CostModel& llama_on_a100() {
  static const CostModel model(ModelSpec::named("llama-3.1-8b"), DeviceSpec::named("a100-sxm-80gb"));
  return model;
}

// Requests of two kinds: long prompts with short answers, and short prompts with long ones.
struct MixedJob {
  Prompts prompts;
  std::vector<std::int32_t> lens;

  MixedJob(int count, double share_of_long, std::uint64_t seed) {
    std::mt19937_64 rng(seed);
    std::uniform_real_distribution<double> uniform(0, 1);
    for (Token i = 0; i < count; ++i) {
      const bool is_long = uniform(rng) < share_of_long;
      const int prompt_len = is_long ? 40 : static_cast<int>(200 + 1200 * uniform(rng));
      std::vector<Token> prompt(static_cast<std::size_t>(prompt_len), i);
      prompt.front() = is_long ? 1'000'000 : 2'000'000;
      prompts.push_back(std::move(prompt));
      lens.push_back(static_cast<std::int32_t>(is_long ? 1000 + 6000 * uniform(rng) : 1 + 60 * uniform(rng)));
    }
  }
};

enum class Known : std::uint8_t { kAll, kSamples };

struct Outcome {
  double fraction = 0;  // of the practical optimum
  SchedulerStats stats;
};

template <typename MakePolicy>
Outcome run(const MixedJob& job, Known known, std::int64_t num_blocks, const MakePolicy& make_policy) {
  ThreadPool pool(1);
  const auto tree = PrefixTree::build(Workload::from_prompts(job.prompts), pool);
  std::vector<double> lens(job.lens.begin(), job.lens.end());
  const double bound_s = Plan::make(tree, {.lengths = lens}, llama_on_a100(), {}, 0.0)->summary().bound.practical_s;
  if (known == Known::kSamples) {
    for (std::size_t row = 0; row < lens.size(); ++row) {
      if (row % 20 != 0) lens[row] = kUnknownLength;
    }
  }
  const auto plan = Plan::make(tree, {.lengths = lens}, llama_on_a100(), {}, 0.0);
  StepScheduler scheduler({.num_blocks = num_blocks}, make_policy(plan, tree));
  std::vector<LengthLimits> limits;
  for (const std::int32_t len : job.lens) limits.push_back({len, 0});
  scheduler.add_requests(Workload::from_prompts(job.prompts), limits);
  const Simulation simulation = simulate(scheduler, llama_on_a100(), job.lens, {});
  scheduler.verify();
  return {bound_s / simulation.total_s, scheduler.stats()};
}

Outcome run_blend(const MixedJob& job, Known known, std::int64_t num_blocks) {
  return run(job, known, num_blocks, [](const auto& plan, const PrefixTree& tree) {
    return std::make_unique<BlendPolicy>(plan, tree.layout(), BlendConfig{});
  });
}

constexpr std::int64_t kAllBlocks = 25'720;

}  // namespace

TEST_CASE("blend comes near the bound of a mixed job, and beats the paper's schedule") {
  const MixedJob job(3000, 0.1, 1);
  const auto paper = run(job, Known::kAll, kAllBlocks, [](const auto& plan, const PrefixTree&) {
    return std::make_unique<PaperPolicy>(plan, kAllBlocks * 16.0);
  });
  const Outcome known = run_blend(job, Known::kAll, kAllBlocks);
  CHECK(known.stats.num_finished == 3000);
  CHECK(known.fraction <= 1.0);
  CHECK(known.fraction > 0.85);
  CHECK(known.fraction > paper.fraction);
  CHECK(known.stats.num_preemptions == 0);
  const Outcome sampled = run_blend(job, Known::kSamples, kAllBlocks);
  CHECK(sampled.stats.num_finished == 3000);
  CHECK(sampled.fraction > 0.75);
}

TEST_CASE("blend finishes every request however little memory there is") {
  const MixedJob job(300, 0.3, 2);
  for (const std::int64_t num_blocks : {450, 900, 3000}) {
    for (const Known known : {Known::kAll, Known::kSamples}) {
      const Outcome outcome = run_blend(job, known, num_blocks);
      CHECK(outcome.stats.num_finished == 300);
      CHECK(outcome.fraction <= 1.0);
    }
  }
}

TEST_CASE("a forecast has room until the peak of what runs reaches the limit") {
  KvForecast forecast;
  forecast.add(KvCourse::known(100, 1000));
  CHECK(forecast.has_room_for(KvCourse::known(100, 1000), 2200, 1.0));
  CHECK_FALSE(forecast.has_room_for(KvCourse::known(100, 1000), 2100, 1.0));
  // One that has ended before the other grows fits where a long one does not.
  CHECK(forecast.has_room_for(KvCourse::known(100, 100), 1150, 1.0));
}

TEST_CASE("an uncertain course holds what its survival says, and needs room for its spread") {
  const auto half = KvCourse::uncertain(1000, [](double) { return 0.5; });
  CHECK(half.held[5] == Approx(0.5 * (1000 + (Horizon::begin(5) + Horizon::end(5)) / 2)));
  KvForecast forecast;
  CHECK(forecast.has_room_for(half, 200'000, 0.0));
  CHECK_FALSE(forecast.has_room_for(half, 60'000, 1.0));
}

TEST_CASE("free compute is what a step's reads pay for, cheap compute reaches up to its memory time") {
  const Pace pace(llama_on_a100(), Execution::kOverlapped);
  const double weights = llama_on_a100().weight_read_s();
  CHECK(pace.free_compute_s(0) == Approx(weights));
  CHECK(pace.free_compute_s(weights) == Approx(1.5 * weights));
  CHECK(pace.free_compute_s(10 * weights) == Approx(2 * weights));
  CHECK(pace.cheap_compute_s(10 * weights) == Approx(10 * weights));
  CHECK(pace.cheap_compute_s(weights) == Approx(1.5 * weights));
}

TEST_CASE("a sequential step is free up to where its products are efficient") {
  DeviceSpec device = DeviceSpec::named("cpu");
  const ModelSpec model = ModelSpec::named("smollm2-135m-instruct");
  const CostModel sheet(model, device);
  CHECK(Pace(sheet, Execution::kSequential).free_compute_s(1) == sheet.weight_read_s());
  device.measured = MeasuredRates{.element_bytes = 4,
                                  .layers = RateCurve({{1, 10e9}, {64, 200e9}, {128, 235e9}, {512, 250e9}}),
                                  .head = RateCurve({{1, 300e9}}),
                                  .prefill_attention_flops = 180e9,
                                  .decode_attention_bandwidth = 23e9};
  const CostModel measured(model, device);
  const Pace pace(measured, Execution::kSequential);
  CHECK(pace.free_compute_s(1) == Approx(128 * (measured.t_tok() + measured.t_head())));
  CHECK(pace.cheap_compute_s(1) == pace.free_compute_s(1));
}

TEST_CASE("compute is spread so that it lasts as long as the memory time") {
  Pace pace(llama_on_a100(), Execution::kOverlapped);
  const double full = 0.024;
  for (const double compute_s : {5.0, 30.0, 100.0}) {
    pace.plan({compute_s, 24.0}, full, {});  // 1,000 steps
    const double a_step = pace.compute_s(full);
    CHECK(a_step >= pace.free_compute_s(full));
    if (compute_s > 1000 * pace.free_compute_s(full)) CHECK(1000 * a_step == Approx(compute_s));
  }
}
