#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "request/workload.h"

namespace blendserve {

// Prompts in the order of their tokens, a prefix before what it begins, equal prompts by row.
struct PromptOrder {
  std::vector<std::int32_t> rows;  // [n]
  std::vector<std::int32_t> lcp;   // [n] tokens that prompt rows[i] has in common with rows[i - 1]; lcp[0] is 0
};

// A multi-key sort: a group of prompts with a common prefix is scanned once to the end of that prefix, then split by
// the next token, so that only the tokens that tell prompts apart are read, and each of them once. Needs 24 bytes a
// prompt while it runs. The result is the same for any number of threads.
PromptOrder sort_prompts(const Workload& workload, ThreadPool& pool);

}  // namespace blendserve
