#pragma once

#include <catch2/catch.hpp>
#include <cstdint>
#include <span>
#include <vector>

#include "base/rng.h"
#include "sched/step_plan.h"

namespace blendserve::testing {

// A "model" without floating point: the state at a position is a hash of all tokens up to it, the K/V of a position is
// that state, and the next token is a function of the last state. Any wrong block, slot or position shows at once.
class TokenExecutor {
 public:
  TokenExecutor(std::int64_t num_blocks, std::int32_t block_size, Token vocab_size)
      : block_size_(block_size), vocab_size_(vocab_size) {
    slots_.resize(static_cast<std::size_t>(num_blocks * block_size), kNothing);
    scores_.resize(slots_.size(), kNothing);
  }

  static std::uint64_t extend(std::uint64_t state, Token token) {
    return mix64(state ^ (static_cast<std::uint64_t>(token) + 1));
  }
  Token next_token(std::uint64_t state) const {
    return static_cast<Token>(mix64(state) % static_cast<std::uint64_t>(vocab_size_));
  }

  // What the model generates after `prompt`, with no scheduler in the way.
  std::vector<Token> generate(std::span<const Token> prompt, std::int32_t num_tokens) const {
    std::uint64_t state = kStart;
    for (const Token token : prompt) state = extend(state, token);
    std::vector<Token> output;
    while (static_cast<std::int32_t>(output.size()) < num_tokens) {
      output.push_back(next_token(state));
      state = extend(state, output.back());
    }
    return output;
  }

  std::vector<Token> run(const StepPlan& plan) {
    REQUIRE(plan.qo_indptr.size() == plan.request_ids.size() + 1);
    std::vector<std::uint64_t> states(plan.token_ids.size());
    for (std::size_t s = 0; s < plan.request_ids.size(); ++s) append(plan, s, states);
    for (std::size_t s = 0; s < plan.request_ids.size(); ++s) check_reads(plan, s, states);
    REQUIRE(plan.prompt_next_tokens.size() == plan.prompt_logit_rows.size());
    for (std::size_t i = 0; i < plan.prompt_logit_rows.size(); ++i) {
      const auto row = static_cast<std::size_t>(plan.prompt_logit_rows[i]);
      scores_.at(static_cast<std::size_t>(plan.slot_mapping[row])) = score(states[row], plan.prompt_next_tokens[i]);
    }
    std::vector<Token> sampled;
    for (const std::int32_t row : plan.logit_rows) sampled.push_back(next_token(states[static_cast<std::size_t>(row)]));
    return sampled;
  }

  // After the step ran: sequence s finds the score of every prompt token behind those it has computed, its own and
  // those of the cached blocks it reads.
  void check_scores(const StepPlan& plan, std::size_t s, std::span<const Token> prompt) {
    std::uint64_t state = kStart;
    for (std::int32_t position = 0; position < plan.kv_lens[s]; ++position) {
      const auto next = static_cast<std::size_t>(position) + 1;
      if (next >= prompt.size()) break;
      state = extend(state, prompt[next - 1]);
      REQUIRE(scores_.at(index_of(plan, s, position)) == score(state, prompt[next]));
    }
  }

 private:
  static constexpr std::uint64_t kStart = 42;
  static constexpr std::uint64_t kNothing = 0;

  static std::uint64_t score(std::uint64_t state, Token next) { return extend(mix64(state), next); }

  std::size_t index_of(const StepPlan& plan, std::size_t sequence, std::int32_t position) const {
    const auto block = plan.block_table.at(static_cast<std::size_t>(plan.block_indptr[sequence]) +
                                           static_cast<std::size_t>(position / block_size_));
    return static_cast<std::size_t>(block) * static_cast<std::size_t>(block_size_) +
           static_cast<std::size_t>(position % block_size_);
  }
  std::uint64_t& slot_of(const StepPlan& plan, std::size_t sequence, std::int32_t position) {
    return slots_.at(index_of(plan, sequence, position));
  }

  // A sequence's new states follow from the cached state before them, which an earlier sequence may have just written.
  void append(const StepPlan& plan, std::size_t s, std::vector<std::uint64_t>& states) {
    for (auto t = static_cast<std::size_t>(plan.qo_indptr[s]); t < static_cast<std::size_t>(plan.qo_indptr[s + 1]);
         ++t) {
      const std::int32_t position = plan.positions[t];
      const std::uint64_t before = position == 0 ? kStart : slot_of(plan, s, position - 1);
      REQUIRE(before != kNothing);
      states[t] = extend(before, plan.token_ids[t]);
      std::uint64_t& slot = slot_of(plan, s, position);
      REQUIRE(&slot == &slots_.at(static_cast<std::size_t>(plan.slot_mapping[t])));
      slot = states[t];
    }
  }

  // No other sequence may have overwritten what this one reads.
  void check_reads(const StepPlan& plan, std::size_t s, const std::vector<std::uint64_t>& states) {
    const auto last = static_cast<std::size_t>(plan.qo_indptr[s + 1]) - 1;
    REQUIRE(plan.kv_lens[s] == plan.positions[last] + 1);
    REQUIRE(slot_of(plan, s, plan.positions[last]) == states[last]);
  }

  std::int32_t block_size_;
  Token vocab_size_;
  std::vector<std::uint64_t> slots_;
  std::vector<std::uint64_t> scores_;  // of the prompt token behind each slot's
};

}  // namespace blendserve::testing
