#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "base/rng.h"
#include "kernels/cuda/kv_append.cuh"

// The append kernel's own source, bit for bit against rotation, rounding and copies written out.
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

// What the cache keeps of x: for e4m3 the nearest of all its numbers, of two the one with an even mantissa.
template <typename Kv, typename T>
Kv cached(T x, float scale) {
  if constexpr (std::is_same_v<Kv, T>) {
    return x;
  } else {
    const float scaled = static_cast<float>(x) * (1 / scale);
    Kv best{};
    for (int bits = 0; bits < 256; ++bits) {
      Kv candidate;
      candidate.__x = static_cast<__nv_fp8_storage_t>(bits);
      const auto distance = [&](Kv to) { return std::fabs(scaled - static_cast<float>(to)); };
      const bool signs_agree = std::signbit(static_cast<float>(candidate)) == std::signbit(scaled);
      if (signs_agree &&
          (distance(candidate) < distance(best) || (distance(candidate) == distance(best) && bits % 2 == 0))) {
        best = candidate;
      }
    }
    return best;
  }
}

template <typename T, typename Kv = T>
void expect_append(std::int32_t head_dim, bool rotates, float k_scale = 1, float v_scale = 1) {
  const KvLayout layout{kBlocks, kKvHeads, kBlockSize, head_dim};
  const std::int64_t stride = (kHeads + 2 * kKvHeads + 1) * head_dim;  // of the tokens in one buffer of q, k and v
  std::vector<T> buffer = random_values<T>(1, static_cast<std::size_t>(kTokens * stride));
  std::vector<Kv> kv = random_values<Kv>(2, static_cast<std::size_t>(layout.layer_size()));
  const std::vector<T> cos = random_values<T>(3, static_cast<std::size_t>(kTokens * head_dim));
  const std::vector<T> signed_sin = random_values<T>(4, static_cast<std::size_t>(kTokens * head_dim));
  const std::vector<std::int64_t> slots{17, 0, 4, 9, 5};

  std::vector<T> expected_buffer = buffer;
  std::vector<Kv> expected_kv = kv;
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
      const auto put = [&](const T* from, std::int64_t to, float scale) {
        std::transform(from, from + head_dim, expected_kv.begin() + to, [&](T x) { return cached<Kv>(x, scale); });
      };
      put(k + head * head_dim, layout.k_offset(block, head) + in_tile, k_scale);
      put(v + head * head_dim, layout.v_offset(block, head) + in_tile, v_scale);
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
                                           .dtype = 0,
                                           .kv_dtype = 0,
                                           .k_scale = k_scale,
                                           .v_scale = v_scale};
  cuda_emulator::run_grid(3, kAppendThreads, [&] { kv_append_kernel<T, Kv>(params); });
  const auto bits = [](const auto& values) {
    const auto* begin = reinterpret_cast<const unsigned char*>(values.data());
    return std::vector<unsigned char>(begin, begin + values.size() * sizeof(values[0]));
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

TEST_CASE("append rounds keys and values to e4m3 after the rotation, by scales of their own, and saturates") {
  for (const std::int32_t head_dim : {16, 64, 80, 128}) {
    for (const bool rotates : {false, true}) {
      expect_append<__nv_bfloat16, __nv_fp8_e4m3>(head_dim, rotates);
      expect_append<__half, __nv_fp8_e4m3>(head_dim, rotates, 1.0F / 512, 0.3F);
    }
  }
}
