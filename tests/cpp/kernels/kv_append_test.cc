#include "kernels/cpu/kv_append.h"

#include <catch2/catch.hpp>
#include <limits>
#include <vector>

#include "base/error.h"
#include "kernels/cpu/bfloat16.h"

using namespace blendserve;
using namespace blendserve::cpu;

TEST_CASE("kv_append puts each head of a token at its slot and touches nothing else") {
  const KvLayout layout{.num_blocks = 3, .num_kv_heads = 2, .block_size = 4, .head_dim = 3};
  // Tokens lie 10 floats apart: 6 for the heads, then 4 that belong to something else.
  std::vector<float> k(20), v(20);
  for (std::size_t i = 0; i < 20; ++i) {
    k[i] = static_cast<float>(i);
    v[i] = static_cast<float>(100 + i);
  }
  const std::int64_t slots[] = {9, 2};
  std::vector<float> kv(static_cast<std::size_t>(layout.layer_size()), -1.0F);
  std::vector<float> expected = kv;
  for (std::int64_t t = 0; t < 2; ++t) {
    for (std::int32_t head = 0; head < 2; ++head) {
      for (std::int64_t i = 0; i < 3; ++i) {
        const auto block = static_cast<BlockId>(slots[t] / 4);
        const std::int64_t in_tile = slots[t] % 4 * 3 + i;
        const float value = static_cast<float>(t * 10 + head * 3 + i);
        expected[static_cast<std::size_t>(layout.k_offset(block, head) + in_tile)] = value;
        expected[static_cast<std::size_t>(layout.v_offset(block, head) + in_tile)] = 100.0F + value;
      }
    }
  }
  ThreadPool pool(2);
  KvAppendParams params{.k = k.data(),
                        .v = v.data(),
                        .slot_mapping = slots,
                        .kv = kv.data(),
                        .k_stride = 10,
                        .v_stride = 10,
                        .num_tokens = 2,
                        .layout = layout,
                        .kv_dtype = KvDtype::kFloat32};
  kv_append(params, pool);
  CHECK(kv == expected);

  const std::int64_t outside[] = {0, 12};
  params.slot_mapping = outside;
  CHECK_THROWS_WITH(kv_append(params, pool), "slot_mapping[1] is 12; the cache has slots 0 to 11");
  CHECK(kv == expected);
}

TEST_CASE("bfloat16 rounds to nearest, ties to even, and keeps infinities and NaN") {
  CHECK(bfloat16_from_float(1.0F) == 0x3F80);
  CHECK(bfloat16_from_float(-2.0F) == 0xC000);
  CHECK(bfloat16_from_float(1.0F + 0x1p-8F) == 0x3F80);             // halfway, to even
  CHECK(bfloat16_from_float(1.0F + 3 * 0x1p-8F) == 0x3F82);         // halfway, to even
  CHECK(bfloat16_from_float(1.0F + 0x1p-8F + 0x1p-20F) == 0x3F81);  // just above
  CHECK(bfloat16_from_float(std::numeric_limits<float>::max()) == 0x7F80);
  CHECK(bfloat16_from_float(-std::numeric_limits<float>::infinity()) == 0xFF80);
  const float almost_infinite_nan = std::bit_cast<float>(0x7F800001U);
  CHECK(std::isnan(bfloat16_to_float(bfloat16_from_float(almost_infinite_nan))));
  for (std::uint32_t bits = 0; bits < 0x7F80; ++bits) {
    REQUIRE(bfloat16_from_float(bfloat16_to_float(static_cast<std::uint16_t>(bits))) == bits);
  }
}
