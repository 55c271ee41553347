#include "kernels/cpu/gemm.h"

#include <catch2/catch.hpp>
#include <limits>

#include "kernels/cpu/isa.h"
#include "kernels/gemm_case.h"
#include "kernels/isas.h"

using namespace blendserve;
using namespace blendserve::cpu;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::vector<std::int32_t> argmax(const GemmCase& layer, const PackedMatrix& matrix, ThreadPool& pool) {
  std::vector<std::int32_t> best(static_cast<std::size_t>(layer.num_rows), -1);
  gemm_argmax(layer.a.data(), layer.a_stride(), layer.num_rows, matrix, layer.with_bias ? layer.bias.data() : nullptr,
              best.data(), pool);
  return best;
}

}  // namespace

TEST_CASE("an element is one chain of fused multiply-adds, to the bit, with every instruction set") {
  const std::string isa = GENERATE(from_range(isas()));
  const WeightDtype dtype = GENERATE(WeightDtype::kFloat32, WeightDtype::kBFloat16, WeightDtype::kInt8);
  set_active_isa(isa);
  ThreadPool pool(2);
  std::mt19937 engine(7);
  const auto up_to = [&](std::uint32_t n) { return static_cast<std::int32_t>(1 + engine() % n); };
  for (std::uint32_t seed = 0; seed < 25; ++seed) {
    GemmCase layer(up_to(150), up_to(seed % 2 == 0 ? 20 : 700), up_to(50), dtype, seed);
    layer.with_bias = seed % 3 == 0;
    layer.accumulate = seed % 4 < 2;
    INFO(isa << ": " << layer.num_rows << " rows, " << layer.num_inputs << " inputs, " << layer.num_outputs
             << " outputs, seed " << seed);
    const PackedMatrix matrix = layer.pack(pool);
    REQUIRE(layer.multiply(matrix, 0, layer.num_rows, 0.5F, pool) == layer.expected_batch(0.5F));
  }
  set_active_isa("auto");
}

TEST_CASE("a row has the same bits alone and anywhere in a batch, with any number of threads") {
  const std::string isa = GENERATE(from_range(isas()));
  const WeightDtype dtype = GENERATE(WeightDtype::kFloat32, WeightDtype::kBFloat16, WeightDtype::kInt8);
  set_active_isa(isa);
  const bool is_slow = isa == "scalar";
  ThreadPool one(1);
  ThreadPool three(3);
  const GemmCase layer(is_slow ? 40 : 200, 600, 600, dtype, 3);
  const PackedMatrix matrix = layer.pack(one);
  const std::vector<float> whole = layer.multiply(matrix, 0, 600, 0.0F, three);
  std::mt19937 engine(5);
  for (int i = 0; i < (is_slow ? 10 : 60); ++i) {
    const auto begin = static_cast<std::int32_t>(engine() % 600);
    const std::uint32_t most = i % 2 == 0 ? 16 : 600;
    const std::int32_t end = std::min(600, begin + 1 + static_cast<std::int32_t>(engine() % most));
    INFO(isa << ": rows " << begin << " to " << end);
    const std::vector<float> expected(whole.begin() + begin * layer.out_stride(),
                                      whole.begin() + end * layer.out_stride());
    REQUIRE(layer.multiply(matrix, begin, end, 0.0F, i % 3 == 0 ? one : three) == expected);
  }
  set_active_isa("auto");
}

TEST_CASE("argmax is the first of the largest outputs of gemm") {
  const std::string isa = GENERATE(from_range(isas()));
  const WeightDtype dtype = GENERATE(WeightDtype::kFloat32, WeightDtype::kInt8);
  set_active_isa(isa);
  ThreadPool pool(2);
  for (const std::int64_t num_outputs : {1, 31, 33, 700}) {
    GemmCase layer(num_outputs, 70, 23, dtype, 9);
    // The second half repeats the first: every maximum occurs twice.
    const std::int64_t half = num_outputs / 2;
    std::copy_n(layer.weights.begin(), half * layer.a_stride(), layer.weights.begin() + half * layer.a_stride());
    layer.with_bias = num_outputs % 2 != 0;
    const PackedMatrix matrix = layer.pack(pool);
    const std::vector<float> out = layer.multiply(matrix, 0, layer.num_rows, 0.0F, pool);
    std::vector<std::int32_t> expected;
    for (auto row = out.begin(); row < out.end(); row += layer.out_stride()) {
      expected.push_back(static_cast<std::int32_t>(std::max_element(row, row + num_outputs) - row));
    }
    CHECK(argmax(layer, matrix, pool) == expected);
  }
  set_active_isa("auto");
}

TEST_CASE("NaN and infinity reach their own row or output only") {
  const std::string isa = GENERATE(from_range(isas()));
  set_active_isa(isa);
  ThreadPool pool(1);
  GemmCase layer(50, 300, 20, WeightDtype::kFloat32, 4);
  const std::vector<float> clean = layer.multiply(layer.pack(pool), 0, 20, 0.0F, pool);
  layer.a[static_cast<std::size_t>(7 * layer.a_stride() + 299)] = kNaN;
  layer.a[static_cast<std::size_t>(8 * layer.a_stride())] = kInf;
  layer.weights[static_cast<std::size_t>(49 * layer.a_stride() + 5)] = -kInf;
  const PackedMatrix matrix = layer.pack(pool);
  const std::vector<float> out = layer.multiply(matrix, 0, 20, 0.0F, pool);
  for (std::int32_t row = 0; row < 20; ++row) {
    for (std::int32_t n = 0; n < 50; ++n) {
      const auto i = static_cast<std::size_t>(row * layer.out_stride() + n);
      if (row == 7) {
        CHECK(std::isnan(out[i]));
      } else if (row == 8 || n == 49) {
        CHECK_FALSE(std::isfinite(out[i]));
      } else {
        CHECK(out[i] == clean[i]);
      }
    }
  }
  CHECK(argmax(layer, matrix, pool)[7] == 0);
  set_active_isa("auto");
}

TEST_CASE("argmax takes the first NaN, and 0 where nothing is larger than -infinity") {
  ThreadPool pool(2);
  GemmCase layer(100, 1, 2, WeightDtype::kFloat32, 6);
  layer.with_bias = true;
  const PackedMatrix matrix = layer.pack(pool);
  layer.bias[40] = layer.bias[64] = kNaN;
  layer.bias[3] = kInf;
  CHECK(argmax(layer, matrix, pool) == std::vector<std::int32_t>{40, 40});
  std::fill(layer.bias.begin(), layer.bias.end(), -kInf);
  CHECK(argmax(layer, matrix, pool) == std::vector<std::int32_t>{0, 0});
}

TEST_CASE("a batch without rows touches nothing") {
  ThreadPool pool(2);
  const GemmCase layer(40, 30, 0, WeightDtype::kBFloat16, 1);
  const PackedMatrix matrix = layer.pack(pool);
  gemm({.weights = &matrix}, pool);
  CHECK(argmax(layer, matrix, pool).empty());
}
