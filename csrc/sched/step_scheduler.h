#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kv/kv_cache.h"
#include "request/request.h"
#include "request/scheduling_policy.h"
#include "request/workload.h"
#include "sched/scheduler_config.h"
#include "sched/sequence.h"
#include "sched/step_plan.h"
#include "sched/waiting_neighbours.h"

namespace blendserve {

// Counted since construction; docs/metrics.md defines them.
struct SchedulerStats {
  std::int64_t num_steps = 0;
  std::int64_t num_prompt_tokens = 0;  // of requests admitted at least once
  std::int64_t num_cached_tokens = 0;  // of these, found in the cache at first admission
  std::int64_t num_joined_tokens = 0;  // of these, being computed by another request then
  std::int64_t num_output_tokens = 0;
  std::int64_t num_recomputed_tokens = 0;  // computed again after a preemption
  std::int64_t num_preemptions = 0;
  std::int64_t num_wasted_tokens = 0;  // sampled for requests that had ended when the step ran
  std::int64_t num_finished = 0;
  std::int64_t num_evicted_blocks = 0;  // cached ones whose space was needed
  std::int64_t num_dead_blocks = 0;     // cached ones given back because no planned request will read them

  SchedulerStats& operator+=(const SchedulerStats& other);
};

// The mechanics of continuous batching: admission against the KV cache, chunked prefill, decode, preemption. What runs
// next is the policy's decision. The loop of any engine is
//
//   while (const auto plan = scheduler.schedule()) scheduler.update(*plan, tokens_sampled_for(*plan));
//
// With max_steps_in_flight 2, schedule() may be called once more before update(): the next step is planned while this
// one runs, on the assumption that no request ends in it before its limit. The tokens it lacks are filled in by
// update(). What a request that ended all the same gets in that step is thrown away. Steps must run in order: blocks
// that a finished request gave back are written again by later steps only.
//
// Not thread-safe: one thread drives it.
class StepScheduler {
 public:
  // `tree_order`: the first requests to arrive, in depth-first order of their prefix tree. Of what these have cached
  // the prefixes that others of them wait to read are evicted last; without it what was released longest ago goes
  // first.
  StepScheduler(const SchedulerConfig& config, std::unique_ptr<SchedulingPolicy> policy,
                std::span<const RequestId> tree_order = {});
  ~StepScheduler();  // also while a step is in flight
  StepScheduler(const StepScheduler&) = delete;
  StepScheduler& operator=(const StepScheduler&) = delete;

  // Registers a set of stop token ids and returns its index; set 0 is the empty set.
  std::int32_t add_stop_set(std::vector<Token> tokens);
  // Appends the rows of `workload`, limits[i] and prompt_logprobs[i] (or none, when empty) for row i, and returns the
  // id of the first; ids are consecutive.
  // Throws InvalidInput for an empty prompt and for a request whose prompt and output can't fit the KV cache alone.
  RequestId add_requests(Workload workload, std::span<const LengthLimits> limits,
                         std::span<const std::int32_t> prompt_logprobs = {});

  // The next step, or null: with no step in flight every request is finished, with one in flight nothing can be planned
  // before it is updated. Every plan must be followed by update() or abort_step(), in order.
  std::shared_ptr<const StepPlan> schedule();
  // The step ran: sampled[i] is the next token of plan.sample_ids[i]. Returns the requests that finished.
  const std::vector<RequestId>& update(const StepPlan& plan, std::span<const Token> sampled);
  // The step failed: its blocks are never published, and its requests wait again with the output they have. So does the
  // step that was planned behind it.
  void abort_step(const StepPlan& plan);
  // Ends a request that is not finished. What steps in flight sample for it is thrown away; one whose prompt they
  // compute can't be stopped before it is updated, since others may be reading it.
  void stop(RequestId id);
  // Takes over what `other`, which runs nothing, has cached; before the first step, and for a cache of the same size.
  void take_over_cache(StepScheduler& other);
  // What the policy is to know of the times of the steps to come.
  void correct_times(const TimeCorrection& correction) { policy_->correct_times(correction); }
  // Drops a finished request's output.
  void forget(RequestId id);

  const RequestRow& row(RequestId id) const;
  const SchedulerConfig& config() const { return config_; }
  SchedulerStats stats() const;
  const KvCache& cache() const { return cache_; }
  const SchedulingPolicy& policy() const { return *policy_; }
  std::int32_t num_running() const { return static_cast<std::int32_t>(running_.size()); }
  std::int64_t num_requests() const { return static_cast<std::int64_t>(rows_.size()); }
  std::int64_t num_unfinished() const { return num_requests() - stats_.num_finished; }

  // Throws InternalError unless pool, prefix tree and request table agree. Between steps.
  void verify() const;

 private:
  enum class Admission : std::uint8_t { kAdmitted, kNoRoom, kWaitsForPrefix };  // room: blocks, rows that score prompts
  // What running requests bring into the step being planned.
  struct Load {
    std::int32_t num_decodes = 0;
    std::int64_t decode_kv_tokens = 0;
    std::int64_t num_prefill_tokens = 0;  // left when the step started
    std::int32_t prefill_context = 0;     // of the first that prefills
  };
  struct WaitingReader {
    RequestId id;
    BlockId block;     // pending when the reader was turned away
    RequestId writer;  // its owner then
    std::int32_t end;  // the writer has computed the block once this many of its tokens are computed
  };

  // arrival.cc: new requests
  void check_arrival(const Request& request, std::int64_t index) const;

  // step_scheduler.cc
  SchedulerView view() const;
  std::int64_t num_watermark_blocks() const;
  RequestRow& mutable_row(RequestId id) { return rows_[static_cast<std::size_t>(id)]; }
  void check_oldest(const StepPlan& plan) const;
  void start_plan();
  void append_to_plan(RequestRow& row, std::int32_t num_new_tokens);
  void append_prompt_logits(const RequestRow& row, std::int32_t begin, std::int32_t end);
  void fill_pending_tokens(std::span<const Token> sampled);
  void prefetch_update(const StepPlan& plan, std::size_t s) const;
  void accept_computed(RequestRow& row, std::int32_t num_computed);
  void accept_token(RequestRow& row, Token token);
  bool is_stop_token(std::int32_t stop_set, Token token) const;
  void finish(RequestRow& row, FinishReason reason);
  void drop_ended();

  // decode.cc: sequences with one token left, and the blocks they need
  bool reserve_decode_blocks();
  void look_at_running();
  void schedule_decodes();
  void mark_pending_tokens();

  // prefill.cc: running sequences with more left, in chunks
  void schedule_prefills(std::int32_t& budget);
  void schedule_chunk(RequestRow& row, std::int32_t& budget);
  std::int32_t max_scored_chunk(const RequestRow& row, std::int32_t begin) const;

  // admission.cc
  void admit_requests(std::int32_t& budget);
  bool admit_waiting_readers(std::int32_t& budget);
  Admission try_admit(RequestRow& row, std::int32_t& budget, WaitingReader& reader);
  bool is_prefix_ready(const WaitingReader& reader) const;
  bool will_be_computed(RequestId writer, std::int32_t end) const;

  // liveness.cc: what waiting requests may still read
  void on_wait(RequestId id);
  void on_wait_end(RequestId id);
  std::int32_t live_len(const RequestRow& row) const;
  bool knows_readers() const;
  bool keeps_dead() const;

  // preemption.cc
  std::vector<RequestId> running_ids() const;
  void preempt(RequestId id);
  void retract(RequestRow& row);

  SchedulerConfig config_;
  std::unique_ptr<SchedulingPolicy> policy_;
  KvCache cache_;
  WaitingNeighbours waiting_;
  std::vector<Workload> workloads_;  // keep the prompts alive
  std::vector<std::vector<Token>> stop_sets_{{}};
  std::vector<RequestRow> rows_;
  std::vector<std::unique_ptr<Sequence>> running_;  // in order of admission
  std::vector<WaitingReader> waiting_readers_;
  std::vector<RequestId> finished_;
  std::vector<Sequence*> decoding_;        // of what runs when a step is planned: those with one token left to compute,
  std::vector<Sequence*> prefilling_;      // those with more,
  std::vector<Sequence*> lacking_blocks_;  // and of both those that need one more block
  std::shared_ptr<StepPlan> plan_;         // being built
  std::deque<std::shared_ptr<StepPlan>> in_flight_;  // the oldest first
  Load load_;
  SchedulerStats stats_;
};

}  // namespace blendserve
