#include <catch2/catch.hpp>
#include <vector>

#include "base/rng.h"
#include "kernels/cuda/kv_append.cuh"

// The append kernel's own source, bit for bit against rotation and copies written out.
using namespace blendserve;
using namespace blendserve::cuda;

namespace {

constexpr std::int32_t kTokens = 5;
constexpr std::int32_t kHeads = 5;
constexpr std::int32_t kKvHeads = 2;
constexpr std::int32_t kBlocks = 6;
constexpr std::int32_t kBlockSize = 3;

template <typename T>
std::vector<T> random_values(std::uint64_t key, std::size_t count) {
  std::vector<T> values;
  for (std::size_t i = 0; i < count; ++i) {
    values.push_back(T(static_cast<float>(4 * random_uniform(key, i) - 2)));
  }
  return values;
}

// Rotates [heads, head_dim] as torch does: a product and a sum, each rounded.
template <typename T>
void rotate(T* heads, std::int32_t num_heads, std::int32_t head_dim, const T* cos, const T* signed_sin) {
  for (std::int32_t head = 0; head < num_heads; ++head) {
    T* x = heads + head * head_dim;
    const std::vector<T> before(x, x + head_dim);
    for (std::int32_t d = 0; d < head_dim; ++d) {
      const auto swapped = static_cast<float>(before[static_cast<std::size_t>((d + head_dim / 2) % head_dim)]);
      const T product(static_cast<float>(x[d]) * static_cast<float>(cos[d]));
      x[d] = T(static_cast<float>(product) + swapped * static_cast<float>(signed_sin[d]));
    }
  }
}

template <typename T>
void expect_append(std::int32_t head_dim, bool rotates) {
  const KvLayout layout{kBlocks, kKvHeads, kBlockSize, head_dim};
  const std::int64_t stride = (kHeads + 2 * kKvHeads + 1) * head_dim;  // of the tokens in one buffer of q, k and v
  std::vector<T> buffer = random_values<T>(1, static_cast<std::size_t>(kTokens * stride));
  std::vector<T> kv = random_values<T>(2, static_cast<std::size_t>(layout.layer_size()));
  const std::vector<T> cos = random_values<T>(3, static_cast<std::size_t>(kTokens * head_dim));
  const std::vector<T> signed_sin = random_values<T>(4, static_cast<std::size_t>(kTokens * head_dim));
  const std::vector<std::int64_t> slots{17, 0, 4, 9, 5};

  std::vector<T> expected_buffer = buffer;
  std::vector<T> expected_kv = kv;
  for (std::int64_t token = 0; token < kTokens; ++token) {
    T* q = expected_buffer.data() + token * stride;
    T* k = q + kHeads * head_dim;
    T* v = k + kKvHeads * head_dim;
    if (rotates) {
      rotate(q, kHeads + kKvHeads, head_dim, &cos[static_cast<std::size_t>(token * head_dim)],
             &signed_sin[static_cast<std::size_t>(token * head_dim)]);
    }
    const std::int64_t slot = slots[static_cast<std::size_t>(token)];
    for (std::int32_t head = 0; head < kKvHeads; ++head) {
      const auto block = static_cast<BlockId>(slot / kBlockSize);
      const std::int64_t in_tile = slot % kBlockSize * head_dim;
      std::copy_n(k + head * head_dim, head_dim, expected_kv.begin() + layout.k_offset(block, head) + in_tile);
      std::copy_n(v + head * head_dim, head_dim, expected_kv.begin() + layout.v_offset(block, head) + in_tile);
    }
  }

  const blendserve_kv_append_params params{.q = buffer.data(),
                                           .k = buffer.data() + kHeads * head_dim,
                                           .v = buffer.data() + (kHeads + kKvHeads) * head_dim,
                                           .kv = kv.data(),
                                           .slot_mapping = slots.data(),
                                           .cos = rotates ? cos.data() : nullptr,
                                           .signed_sin = rotates ? signed_sin.data() : nullptr,
                                           .q_stride = stride,
                                           .k_stride = stride,
                                           .v_stride = stride,
                                           .num_tokens = kTokens,
                                           .num_heads = kHeads,
                                           .num_kv_heads = kKvHeads,
                                           .head_dim = head_dim,
                                           .block_size = kBlockSize,
                                           .dtype = 0};
  cuda_emulator::run_grid(3, kAppendThreads, [&] { kv_append_kernel<T>(params); });
  const auto bits = [](const std::vector<T>& values) {
    std::vector<std::uint16_t> words(values.size());
    std::memcpy(words.data(), values.data(), 2 * values.size());
    return words;
  };
  CHECK(bits(buffer) == bits(expected_buffer));
  CHECK(bits(kv) == bits(expected_kv));
}

}  // namespace

TEST_CASE("append puts keys and values into their slots and rotates queries and keys if asked") {
  for (const std::int32_t head_dim : {16, 64, 80, 128}) {
    for (const bool rotates : {false, true}) {
      expect_append<__nv_bfloat16>(head_dim, rotates);
      expect_append<__half>(head_dim, rotates);
    }
  }
}
