#include "kernels/cpu/packed_matrix.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "kernels/gemm_case.h"

using namespace blendserve;
using namespace blendserve::cpu;

namespace {

bool same_bytes(const PackedMatrix& left, const PackedMatrix& right) {
  const auto num_bytes = static_cast<std::size_t>(left.panel(left.num_panels()) - left.panel(0));
  const auto num_scales = static_cast<std::size_t>(left.scales() == nullptr ? 0 : left.num_outputs());
  return left.size_bytes() == right.size_bytes() && std::memcmp(left.panel(0), right.panel(0), num_bytes) == 0 &&
         std::equal(left.scales(), left.scales() + num_scales, right.scales());
}

template <class Act>
std::string message(const Act& act) {
  try {
    act();
  } catch (const InvalidInput& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a panel is inputs by outputs, and outputs past the last one are 0") {
  ThreadPool pool(2);
  const float weights[] = {1, 2, -1, /**/ 3, 4, -1, /**/ 5, 6, -1};
  const PackedMatrix matrix = PackedMatrix::pack(weights, 3, 2, 3, WeightDtype::kFloat32, pool);
  CHECK(matrix.num_panels() == 1);
  CHECK(matrix.size_bytes() == 2 * 32 * sizeof(float));
  std::vector<float> expected(64, 0.0F);
  std::copy_n(std::vector<float>{1, 3, 5}.begin(), 3, expected.begin());
  std::copy_n(std::vector<float>{2, 4, 6}.begin(), 3, expected.begin() + 32);
  const auto* panel = reinterpret_cast<const float*>(matrix.panel(0));
  CHECK(std::vector<float>(panel, panel + 64) == expected);
}

TEST_CASE("int8 divides an output's weights by the largest of them over 127") {
  ThreadPool pool(1);
  const float weights[] = {-2.54F, 1.27F, 0.01F, 0.03F, /**/ 0, 0, 0, 0};
  const PackedMatrix matrix = PackedMatrix::pack(weights, 2, 4, 4, WeightDtype::kInt8, pool);
  const auto* panel = reinterpret_cast<const std::int8_t*>(matrix.panel(0));
  for (int k = 0; k < 4; ++k) {
    CHECK(static_cast<int>(panel[32 * k]) == std::vector<int>{-127, 64, 0, 2}[static_cast<std::size_t>(k)]);
    CHECK(static_cast<int>(panel[32 * k + 1]) == 0);
  }
  CHECK(matrix.scales()[0] == 2.54F / 127.0F);
  CHECK(matrix.scales()[1] == 0.0F);
}

TEST_CASE("a row comes back as it is stored") {
  ThreadPool pool(2);
  std::vector<float> weights(70 * 5);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.01F * static_cast<float>(i) - 1.0F;
  for (const auto& [dtype, error] :
       {std::pair{WeightDtype::kFloat32, 0.0}, {WeightDtype::kBFloat16, 0.004}, {WeightDtype::kInt8, 0.011}}) {
    const PackedMatrix matrix = PackedMatrix::pack(weights.data(), 70, 5, 5, dtype, pool);
    for (const std::int64_t output : {0, 31, 32, 69}) {
      std::vector<float> row(5);
      matrix.unpack_row(output, row.data());
      for (std::size_t k = 0; k < row.size(); ++k) {
        CHECK(std::abs(row[k] - weights[static_cast<std::size_t>(output) * 5 + k]) <= error * 2.5);
      }
    }
  }
}

TEST_CASE("matrices stacked one by one are the matrix packed at once, from float32 and from bfloat16") {
  const WeightDtype dtype = GENERATE(WeightDtype::kFloat32, WeightDtype::kBFloat16, WeightDtype::kInt8);
  ThreadPool pool(2);
  std::vector<float> weights = random_floats(100 * 37, 1);
  std::vector<std::uint16_t> bits;
  for (float& weight : weights) {
    bits.push_back(bfloat16_from_float(weight));
    weight = bfloat16_to_float(bits.back());
  }
  const PackedMatrix whole = PackedMatrix::pack(weights.data(), 100, 37, 37, dtype, pool);
  PackedMatrix stacked(100, 37, dtype);
  stacked.pack_rows(45, weights.data() + 45 * 37, 50, 37, pool);
  stacked.pack_rows(0, bits.data(), 45, 37, pool);
  stacked.pack_rows(95, bits.data() + 95 * 37, 5, 37, pool);
  CHECK(same_bytes(stacked, whole));
}

TEST_CASE("weights that do not fit are refused with their values") {
  ThreadPool pool(2);
  CHECK(message([] { PackedMatrix(0, 3, WeightDtype::kFloat32); }) ==
        "the matrix has 0 outputs and 3 inputs; both must be 1 or more");
  const float weights[] = {1, 2, 3, std::numeric_limits<float>::infinity()};
  PackedMatrix matrix(2, 2, WeightDtype::kInt8);
  CHECK(message([&] { matrix.pack_rows(1, weights, 2, 2, pool); }) ==
        "outputs 1 to 3 do not lie in a matrix of 2 outputs");
  CHECK(message([&] { matrix.pack_rows(0, weights, 2, 2, pool); }) ==
        "the weight of output 1 and input 1 is inf; int8 holds finite weights only: store it as bfloat16 or float32");
}
