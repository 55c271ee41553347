#include "model/overlap.h"

#include <algorithm>
#include <vector>

#include "base/ids.h"

namespace blendserve {
namespace {

// Multiply-adds of a core while it reads a byte: 2 to 7 on those that were measured (docs/kernels.md).
constexpr std::int64_t kProductsPerByte = 4;

// Fewer rows than this multiply more slowly for each.
constexpr std::int32_t kMinTokens = 24;

// Whether a sequence before `cut` has a block that a token from `cut` on writes to.
bool reads_across(const LayerStep& step, std::int32_t cut, std::int32_t block_size) {
  std::vector<BlockId> written;
  for (std::int32_t token = step.qo_indptr[cut]; token < step.num_tokens; ++token) {
    const auto block = static_cast<BlockId>(step.slot_mapping[token] / block_size);
    if (written.empty() || written.back() != block) written.push_back(block);
  }
  std::sort(written.begin(), written.end());
  const BlockId* end = step.block_table + step.block_indptr[cut];
  return std::any_of(step.block_table, end,
                     [&](BlockId block) { return std::binary_search(written.begin(), written.end(), block); });
}

}  // namespace

std::int32_t overlap_split(const LayerStep& step, const LayerCosts& costs, std::int32_t block_size) {
  // In bytes: what can be read while a token is multiplied.
  const std::int64_t token_bytes = costs.products_per_token / kProductsPerByte;
  std::int64_t kv_bytes = 0;
  for (std::int32_t seq = 0; seq < step.num_seqs; ++seq) kv_bytes += step.kv_lens[seq] * costs.kv_position_bytes;

  std::int32_t best = 0;
  std::int64_t best_hidden = 2 * costs.weight_bytes;  // they are read once more
  std::int64_t first_kv = 0;
  for (std::int32_t cut = 1; cut < step.num_seqs; ++cut) {
    first_kv += step.kv_lens[cut - 1] * costs.kv_position_bytes;
    const std::int32_t first_tokens = step.qo_indptr[cut];
    const std::int32_t second_tokens = step.num_tokens - first_tokens;
    const std::int64_t hidden =
        std::min(first_tokens * token_bytes, kv_bytes - first_kv) + std::min(second_tokens * token_bytes, first_kv);
    if (std::min(first_tokens, second_tokens) >= kMinTokens && hidden > best_hidden) {
      best = cut;
      best_hidden = hidden;
    }
  }
  return best > 0 && !reads_across(step, best, block_size) ? best : 0;
}

}  // namespace blendserve
