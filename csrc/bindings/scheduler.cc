#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/execution.h"
#include "bindings/numpy_view.h"
#include "bindings/planned_prompts.h"
#include "bindings/workload_view.h"
#include "policy/baseline_policy.h"
#include "policy/blend_policy.h"
#include "policy/paper_policy.h"
#include "sched/step_scheduler.h"

namespace py = pybind11;

namespace blendserve::bindings {
namespace {

std::unique_ptr<SchedulingPolicy> baseline_named(const std::string& name, std::uint64_t seed) {
  if (name == "fcfs") return std::make_unique<BaselinePolicy>(StaticOrder::kFcfs, seed);
  if (name == "random") return std::make_unique<BaselinePolicy>(StaticOrder::kRandom, seed);
  if (name == "dfs") return std::make_unique<BaselinePolicy>(StaticOrder::kDfs, seed);
  if (name == "paper" || name == "blend") {
    throw InvalidInput("schedule \"" + name + "\" needs a plan; pass the result of blendserve.plan");
  }
  throw InvalidInput("schedule is \"" + name +
                     "\"; it must be one of fcfs, random, dfs, and with a plan paper or blend");
}

// The plan's requests, each limited by max_new_tokens; where that is 0 only by what the KV cache has room for.
void add_planned_requests(StepScheduler& scheduler, const PrefixTree& tree,
                          std::span<const std::int32_t> max_new_tokens, std::int32_t stop_set) {
  if (static_cast<std::int32_t>(max_new_tokens.size()) != tree.num_requests()) {
    throw InvalidInput("max_new_tokens has " + std::to_string(max_new_tokens.size()) + " entries; the plan has " +
                       std::to_string(tree.num_requests()) + " requests, and each needs one");
  }
  const std::int64_t capacity = scheduler.cache().num_blocks() * scheduler.config().block_size;
  std::int32_t row = 0;
  for (const Workload& window : tree.windows()) {
    std::vector<LengthLimits> limits;
    limits.reserve(static_cast<std::size_t>(window.size()));
    for (std::int64_t i = 0; i < window.size(); ++i, ++row) {
      const std::int64_t room = std::max<std::int64_t>(capacity - tree.prompt_len(row), 1);
      const std::int32_t limit = max_new_tokens[static_cast<std::size_t>(row)];
      limits.push_back(
          {limit == 0 ? static_cast<std::int32_t>(std::min<std::int64_t>(room, INT32_MAX)) : limit, stop_set});
    }
    scheduler.add_requests(window, limits);
  }
}

// Our own schedule keeps what the plan says will be read; the baselines keep what was used last.
std::span<const RequestId> tree_order_for(const std::string& schedule, const PlannedPrompts& planned) {
  if (schedule == "blend") return planned.tree->layout().rows;
  return {};
}

std::unique_ptr<SchedulingPolicy> planned_policy(const PlannedPrompts& planned, const std::string& name,
                                                 double capacity_tokens, std::uint64_t seed, const BlendConfig& blend) {
  if (name == "blend") return std::make_unique<BlendPolicy>(planned.plan, planned.tree->layout(), blend);
  if (name == "paper") return std::make_unique<PaperPolicy>(planned.plan, capacity_tokens);
  return baseline_named(name, seed);
}

std::unique_ptr<StepScheduler> make_scheduler(const py::object& plan, std::int64_t num_blocks, std::int32_t block_size,
                                              std::int32_t max_batch_tokens, std::int32_t max_batch_requests,
                                              std::optional<std::int32_t> max_chunk_tokens,
                                              std::optional<std::int32_t> max_prompt_logits,
                                              const std::optional<std::string>& schedule, std::uint64_t seed,
                                              const std::optional<py::array>& max_new_tokens,
                                              const std::vector<Token>& stop_token_ids, const std::string& execution,
                                              const std::vector<std::int32_t>& first_rows, bool adds_requests,
                                              std::int32_t max_steps_in_flight) {
  BlendConfig blend;
  blend.execution = execution_named(execution);
  blend.first_rows = first_rows;
  SchedulerConfig config;
  config.num_blocks = num_blocks;
  config.block_size = block_size;
  config.max_batch_tokens = max_batch_tokens;
  config.max_batch_requests = max_batch_requests;
  config.max_chunk_tokens = max_chunk_tokens.value_or(config.max_chunk_tokens);
  config.max_prompt_logits = max_prompt_logits.value_or(config.max_prompt_logits);
  config.max_steps_in_flight = max_steps_in_flight;
  if ((plan.is_none() || !adds_requests) && (max_new_tokens || !stop_token_ids.empty())) {
    throw InvalidInput(
        "max_new_tokens and stop_token_ids belong to the requests of a plan that are added with it; give them to "
        "add_request");
  }
  if (plan.is_none()) {
    return std::make_unique<StepScheduler>(config, baseline_named(schedule.value_or("fcfs"), seed));
  }
  config.validate();
  const PlannedPrompts planned = planned_prompts(plan);
  const std::string name = schedule.value_or("paper");
  auto scheduler = std::make_unique<StepScheduler>(
      config, planned_policy(planned, name, static_cast<double>(num_blocks * block_size), seed, blend),
      tree_order_for(name, planned));
  if (!adds_requests) return scheduler;
  const py::array limits = max_new_tokens ? *max_new_tokens : plan.attr("max_new_tokens").cast<py::array>();
  add_planned_requests(*scheduler, *planned.tree, span_of<std::int32_t>(limits, "max_new_tokens"),
                       scheduler->add_stop_set(stop_token_ids));
  return scheduler;
}

RequestId add_request(StepScheduler& scheduler, const std::vector<Token>& prompt_token_ids, std::int32_t max_new_tokens,
                      const std::vector<Token>& stop_token_ids, std::optional<std::int32_t> prompt_logprobs) {
  const LengthLimits limits{max_new_tokens, scheduler.add_stop_set(stop_token_ids)};
  const std::int32_t num_top = prompt_logprobs.value_or(kNoPromptLogprobs);
  return scheduler.add_requests(Workload::from_prompts({prompt_token_ids}), std::span(&limits, 1),
                                std::span(&num_top, 1));
}

RequestId add_requests(StepScheduler& scheduler, const py::object& tokens, const py::object& offsets,
                       const py::array& max_new_tokens, const py::array& stop_sets,
                       const std::optional<py::array>& prompt_logprobs) {
  const auto lengths = span_of<std::int32_t>(max_new_tokens, "max_new_tokens");
  const auto sets = span_of<std::int32_t>(stop_sets, "stop_sets");
  if (sets.size() != lengths.size()) {
    throw InvalidInput("stop_sets has " + std::to_string(sets.size()) + " entries, max_new_tokens " +
                       std::to_string(lengths.size()) + "; both need one per prompt");
  }
  std::vector<LengthLimits> limits;
  limits.reserve(lengths.size());
  for (std::size_t i = 0; i < lengths.size(); ++i) limits.push_back({lengths[i], sets[i]});

  const auto num_top =
      prompt_logprobs ? span_of<std::int32_t>(*prompt_logprobs, "prompt_logprobs") : std::span<const std::int32_t>();
  return scheduler.add_requests(workload_of(tokens, offsets), limits, num_top);
}

py::object name_of(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return py::none();
    case FinishReason::kStopToken:
      return py::str("stop_token");
    case FinishReason::kLength:
      return py::str("length");
    case FinishReason::kStopped:
      return py::str("stopped");
  }
  return py::none();
}

py::list take_answers(StepScheduler& scheduler, const py::array& request_ids) {
  const auto ids = span_of<RequestId>(request_ids, "request_ids");
  py::list answers(ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const RequestRow& row = scheduler.row(ids[i]);
    py::tuple tokens(row.output.size());
    for (std::size_t k = 0; k < row.output.size(); ++k) tokens[k] = py::int_(row.output[k]);
    answers[i] = py::make_tuple(tokens, name_of(row.finish_reason));
    scheduler.forget(ids[i]);
  }
  return answers;
}

template <auto Member>
py::array plan_array(const py::object& self) {
  return view_of(self.cast<const StepPlan&>().*Member, self);
}

void register_step_plan(py::module_& m) {
  py::class_<StepPlan, std::shared_ptr<StepPlan>>(
      m, "StepPlan", "One step for an executor: S sequences, T tokens, M sampled tokens, as read-only arrays.")
      .def_readonly("step", &StepPlan::step, "Number of the step, counted from 0.")
      .def_property_readonly("request_ids", plan_array<&StepPlan::request_ids>, "int32 [S].")
      .def_property_readonly("qo_indptr", plan_array<&StepPlan::qo_indptr>, "int32 [S + 1]: tokens of each sequence.")
      .def_property_readonly("token_ids", plan_array<&StepPlan::token_ids>, "int32 [T].")
      .def_property_readonly("positions", plan_array<&StepPlan::positions>, "int32 [T]: absolute positions.")
      .def_property_readonly("slot_mapping", plan_array<&StepPlan::slot_mapping>,
                             "int64 [T]: where each token's K and V go, block * block_size + offset.")
      .def_property_readonly("kv_lens", plan_array<&StepPlan::kv_lens>,
                             "int32 [S]: positions in the KV cache once this step's are appended.")
      .def_property_readonly("block_indptr", plan_array<&StepPlan::block_indptr>, "int32 [S + 1].")
      .def_property_readonly("block_table", plan_array<&StepPlan::block_table>,
                             "int32 [block_indptr[S]]: blocks of each sequence in order of position.")
      .def_property_readonly("logit_rows", plan_array<&StepPlan::logit_rows>,
                             "int32 [M]: the rows of [T] whose logits are needed.")
      .def_property_readonly("sample_ids", plan_array<&StepPlan::sample_ids>, "int32 [M]: the requests they belong to.")
      .def_property_readonly("sample_positions", plan_array<&StepPlan::sample_positions>,
                             "int32 [M]: index of the output token each gets, counted from 0.")
      .def_property_readonly(
          "prompt_logit_rows", plan_array<&StepPlan::prompt_logit_rows>,
          "int32 [P]: the rows of [T] whose logits score the prompt token behind them. Each score is "
          "kept at the row's slot: requests that share the prefix read it there.")
      .def_property_readonly("prompt_next_tokens", plan_array<&StepPlan::prompt_next_tokens>, "int32 [P]: that token.")
      .def_property_readonly("pending_rows", plan_array<&StepPlan::pending_rows>,
                             "int32 [Q]: the rows of [T] whose token the step before samples; -1 until it is updated.")
      .def_property_readonly("pending_samples", plan_array<&StepPlan::pending_samples>,
                             "int32 [Q]: which of that step's samples each gets.");
}

void register_stats(py::module_& m) {
  py::class_<SchedulerStats>(m, "SchedulerStats", "Counts since construction; docs/metrics.md defines them.")
      .def(py::init<>())
      .def_readonly("num_steps", &SchedulerStats::num_steps)
      .def_readonly("num_prompt_tokens", &SchedulerStats::num_prompt_tokens)
      .def_readonly("num_cached_tokens", &SchedulerStats::num_cached_tokens)
      .def_readonly("num_joined_tokens", &SchedulerStats::num_joined_tokens)
      .def_readonly("num_output_tokens", &SchedulerStats::num_output_tokens)
      .def_readonly("num_recomputed_tokens", &SchedulerStats::num_recomputed_tokens)
      .def_readonly("num_preemptions", &SchedulerStats::num_preemptions)
      .def_readonly("num_wasted_tokens", &SchedulerStats::num_wasted_tokens)
      .def_readonly("num_finished", &SchedulerStats::num_finished)
      .def_readonly("num_evicted_blocks", &SchedulerStats::num_evicted_blocks)
      .def_readonly("num_dead_blocks", &SchedulerStats::num_dead_blocks)
      .def(
          "__add__", [](SchedulerStats sum, const SchedulerStats& other) { return sum += other; }, py::arg("other"),
          "The counts of two schedulers together.");
}

}  // namespace

void register_scheduler(py::module_& m) {
  register_step_plan(m);
  register_stats(m);
  using ReleaseGil = py::call_guard<py::gil_scoped_release>;
  py::class_<StepScheduler>(m, "StepScheduler",
                            "Continuous batching with a paged KV cache and a runtime prefix tree, for any executor:\n\n"
                            "    while (step := scheduler.schedule()):\n"
                            "        scheduler.update(step, sampled_tokens)  # one token per step.sample_ids\n\n"
                            "One thread at a time may use it. Bad input raises ValueError.")
      .def(
          py::init(&make_scheduler), py::arg("plan") = py::none(), py::kw_only(), py::arg("num_blocks"),
          py::arg("block_size") = 16, py::arg("max_batch_tokens") = 2048, py::arg("max_batch_requests") = 1024,
          py::arg("max_chunk_tokens") = py::none(), py::arg("max_prompt_logits") = py::none(),
          py::arg("schedule") = py::none(), py::arg("seed") = 0, py::arg("max_new_tokens") = py::none(),
          py::arg("stop_token_ids") = std::vector<Token>{}, py::arg("execution") = "overlapped",
          py::arg("first_rows") = std::vector<std::int32_t>{}, py::arg("adds_requests") = true,
          py::arg("max_steps_in_flight") = 1,
          "num_blocks KV blocks of block_size tokens; at most max_batch_tokens tokens and max_batch_requests requests "
          "a step, of one request at most max_chunk_tokens, and at most max_prompt_logits rows that score prompts "
          "(None: no such limit). schedule is fcfs (default), "
          "random (by seed) or dfs.\n\n"
          "With a blendserve.Plan its requests are added, request i as id i, and schedule may be and is by default "
          "paper, its dual scanner, or blend, which paces its steps for overlapped or sequential execution and runs "
          "first_rows (the length samples) before all others. They end at one of stop_token_ids or after "
          "max_new_tokens (int32 [n], 0: as many "
          "as the KV cache has room for; default plan.max_new_tokens). Without adds_requests they are added by the "
          "caller, before all others and before the first step: each with limits of its own, by add_requests.\n\n"
          "With max_steps_in_flight 2 schedule() may be called once more before update(): the next step is planned "
          "while this one runs. Its token_ids are complete once this one is updated; what it samples for requests that "
          "ended meanwhile is thrown away.")
      .def("add_stop_set", &StepScheduler::add_stop_set, py::arg("token_ids"),
           "Register a set of stop token ids; returns its index, the same for an equal set. Set 0 is empty.")
      .def(
          "add_request", &add_request, py::arg("prompt_token_ids"), py::kw_only(), py::arg("max_new_tokens"),
          py::arg("stop_token_ids") = std::vector<Token>{}, py::arg("prompt_logprobs") = py::none(),
          "Add one request; returns its id. With max_new_tokens 0 it ends with its prompt. prompt_logprobs: its prompt "
          "is scored, with so many most likely tokens beside each.")
      .def(
          "add_requests", &add_requests, py::arg("tokens"), py::arg("offsets"), py::arg("max_new_tokens"),
          py::arg("stop_sets"), py::arg("prompt_logprobs") = py::none(),
          "Add n requests without a copy: prompt i is tokens[offsets[i]:offsets[i + 1]]. tokens int32 [T], offsets "
          "int64 [n + 1], max_new_tokens int32 [n], stop_sets int32 [n], prompt_logprobs int32 [n] (-1: none). Returns "
          "the first id; ids are consecutive. The buffers must not change while the scheduler lives.")
      .def(
          "schedule", [](StepScheduler& self) { return std::const_pointer_cast<StepPlan>(self.schedule()); },
          ReleaseGil(),
          "The next StepPlan, or None: when every request is finished, or while a step is in flight when nothing can "
          "be "
          "planned before it is updated.")
      .def(
          "update",
          [](StepScheduler& self, const StepPlan& step, const py::array& sampled_tokens) {
            const auto sampled = span_of<Token>(sampled_tokens, "sampled_tokens");
            const auto update = [&]() -> const std::vector<RequestId>& {
              const py::gil_scoped_release release;
              return self.update(step, sampled);
            };
            return copy_of(update());
          },
          py::arg("step"), py::arg("sampled_tokens"),
          "The step ran: sampled_tokens int32 [M] are the next tokens of step.sample_ids. Returns the ids of the "
          "requests that finished, int32.")
      .def("abort_step", &StepScheduler::abort_step, py::arg("step"),
           "The step failed: nothing of it, nor of one planned behind it, is published, and their requests wait again "
           "with the output they have.")
      .def("stop", &StepScheduler::stop, py::arg("request_id"),
           "End a request now; what steps in flight sample for it is thrown away. One whose prompt they compute can't "
           "be stopped before update().")
      .def("take_over_cache", &StepScheduler::take_over_cache, py::arg("other"),
           "Before the first step: go on with what another scheduler, which runs nothing now, has cached. Both must "
           "have as many blocks of the same size.")
      .def("correct_times", &StepScheduler::correct_times, py::arg("correction"),
           "Between steps: by how much the device's times differ from those that blend paces steps with, 1 until told. "
           "The other schedules take no notice.")
      .def("forget", &StepScheduler::forget, py::arg("request_id"), "Drop the output of a finished request.")
      .def(
          "output_tokens", [](const StepScheduler& self, RequestId id) { return copy_of(self.row(id).output); },
          py::arg("request_id"), "The tokens generated so far, int32.")
      .def("take_answers", &take_answers, py::arg("request_ids"),
           "Of the finished requests int32 [F]: the tokens of each, which are dropped as by forget(), and its finish "
           "reason.")
      .def(
          "finish_reason", [](const StepScheduler& self, RequestId id) { return name_of(self.row(id).finish_reason); },
          py::arg("request_id"), "None while unfinished, else stop_token, length, or stopped (by stop()).")
      .def(
          "num_cached_tokens",
          [](const StepScheduler& self, RequestId id) { return std::max(0, self.row(id).num_cached); },
          py::arg("request_id"), "Prompt tokens found in the cache when the request was first admitted.")
      .def_property_readonly("stats", &StepScheduler::stats)
      .def_property_readonly("num_running", &StepScheduler::num_running)
      .def_property_readonly("num_requests", &StepScheduler::num_requests)
      .def_property_readonly("num_unfinished", &StepScheduler::num_unfinished)
      .def_property_readonly("num_blocks", [](const StepScheduler& self) { return self.cache().num_blocks(); })
      .def_property_readonly(
          "num_available_blocks", [](const StepScheduler& self) { return self.cache().num_available(); },
          "Blocks that are free or hold a cached prefix nobody reads.")
      .def("verify", &StepScheduler::verify, "Raise RuntimeError unless every invariant holds.")
      .def(
          "to_string", [](const StepScheduler& self) { return self.cache().to_string(); },
          "The runtime prefix tree, one block a line.");
}

}  // namespace blendserve::bindings
