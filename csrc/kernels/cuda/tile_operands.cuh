#pragma once

#include <cuda_fp8.h>

#include <cstdint>

#include "kernels/cuda/ptx.cuh"

namespace blendserve::cuda {

// How what lies in a tile becomes operands of tensor core products, for queries of type T and keys and values of type
// Kv. An ldmatrix of four matrices, of keys or transposed of values, takes 32 bytes of each of the 16 rows; they are
// the operands of kStepsPerLoad products over 16 elements of a head each. Queries must lie in the order in which
// `keys` leaves the elements, and row r of a product of values is element `element_of_row(r)` of its step.
//
// `keys` and `values` give the first factor of a product, 16 rows; `key_columns` and `value_columns` the second factors
// of two, 8 columns each, from loads whose matrices 1 and 2 have changed places.
template <typename T, typename Kv>
struct TileOperands;

// As they are stored.
template <typename T>
struct TileOperands<T, T> {
  using Operand = T;
  static constexpr int kStepsPerLoad = 1;

  __device__ static void query(std::uint32_t (&operand)[2], const T* query, int head_dim, int step, int lane) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(query) + step * 8 + lane % 4;
    operand[0] = step * 16 < head_dim ? words[0] : 0U;
    operand[1] = step * 16 + 8 < head_dim ? words[4] : 0U;
  }
  __device__ static void keys(std::uint32_t (&operand)[4], const std::uint32_t (&loaded)[4], int) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      operand[i] = loaded[i];
    }
  }
  __device__ static void values(std::uint32_t (&operand)[4], const std::uint32_t (&loaded)[4], int step) {
    keys(operand, loaded, step);
  }
  __device__ static void key_columns(std::uint32_t (&first)[2], std::uint32_t (&second)[2],
                                     const std::uint32_t (&loaded)[4], int) {
    first[0] = loaded[0];
    first[1] = loaded[1];
    second[0] = loaded[2];
    second[1] = loaded[3];
  }
  __device__ static void value_columns(std::uint32_t (&first)[2], std::uint32_t (&second)[2],
                                       const std::uint32_t (&loaded)[4], int step) {
    key_columns(first, second, loaded, step);
  }
  static constexpr bool kInterleavesRows = false;
  __device__ static constexpr int element_of_row(int row) { return row; }
};

// e4m3 is multiplied in float16, which holds every e4m3 number. So it holds bfloat16 queries of 2^-14 to 65504; smaller
// ones are off by 2^-25 at most, larger ones are infinite.
template <typename T>
struct TileOperands<T, __nv_fp8_e4m3> {
  using Operand = __half;
  static constexpr int kStepsPerLoad = 2;
  static constexpr std::uint32_t kByElement = 0x3120;  // bytes 0 and 2, then 1 and 3

  // A lane's word of a loaded matrix has four neighbouring elements: the first two are taken for those that the first
  // half of a product wants of it, the others for those of the second half.
  __device__ static void query(std::uint32_t (&operand)[2], const T* query, int head_dim, int step, int lane) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(query) + step * 8 + lane % 4 * 2;
    operand[0] = step * 16 < head_dim ? ptx::to_half_pair<T>(words[0]) : 0U;
    operand[1] = step * 16 < head_dim ? ptx::to_half_pair<T>(words[1]) : 0U;
  }
  __device__ static void keys(std::uint32_t (&operand)[4], const std::uint32_t (&loaded)[4], int step) {
    ptx::unpack_e4m3(loaded[2 * step], operand[0], operand[2]);
    ptx::unpack_e4m3(loaded[2 * step + 1], operand[1], operand[3]);
  }

  // Transposed, a word has two neighbouring elements of one position, then of the next: elements 2 i and 2 i + 1 of a
  // step become the rows i and i + 8 of its product.
  __device__ static void values(std::uint32_t (&operand)[4], const std::uint32_t (&loaded)[4], int step) {
    ptx::unpack_e4m3(__byte_perm(loaded[step], 0, kByElement), operand[0], operand[1]);
    ptx::unpack_e4m3(__byte_perm(loaded[step + 2], 0, kByElement), operand[2], operand[3]);
  }
  __device__ static void key_columns(std::uint32_t (&first)[2], std::uint32_t (&second)[2],
                                     const std::uint32_t (&loaded)[4], int step) {
    ptx::unpack_e4m3(loaded[step], first[0], first[1]);
    ptx::unpack_e4m3(loaded[step + 2], second[0], second[1]);
  }
  __device__ static void value_columns(std::uint32_t (&first)[2], std::uint32_t (&second)[2],
                                       const std::uint32_t (&loaded)[4], int step) {
    ptx::unpack_e4m3(__byte_perm(loaded[2 * step], 0, kByElement), first[0], second[0]);
    ptx::unpack_e4m3(__byte_perm(loaded[2 * step + 1], 0, kByElement), first[1], second[1]);
  }
  static constexpr bool kInterleavesRows = true;
  __device__ static constexpr int element_of_row(int row) { return row % 8 * 2 + row / 8; }
};

}  // namespace blendserve::cuda
