#pragma once

#include <cstdint>

#include "kernels/cuda/kv_tile.cuh"
#include "kernels/cuda/paged_decode.h"
#include "kernels/cuda/softmax_state.h"

namespace blendserve::cuda {

// Every warp streams its own tiles (warp w takes tiles w, w + 8, ... of each item) through its own ring of
// shared-memory stages: it waits for a tile, reads it into registers, and at once starts the copy of the
// tile that many stages ahead, across the ends of items. No warp waits for another but to join the results of an item.
//
// Scores are computed transposed, S^T[tokens, queries] = K Q^T, and so is the output, O^T[d, queries] = V^T P^T: the KV
// tile fills the 16 rows of the tensor core's first operand and the queries of a group its 8 columns.
template <typename T, int kHeadDim, int kQueryTiles>
class GroupAttention {
 public:
  // Starts the load of the queries of one row and KV head, [group, head_dim]; those past the group count as zero.
  __device__ void load_queries(const T* q, int group) {
    const auto* words = reinterpret_cast<const std::uint32_t*>(q);
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
      const int query = n * 8 + lane_ / 4;
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
        const int word = (query * kHeadDim + k * 16) / 2 + lane_ % 4;
        q_[n][k][0] = query < group ? words[word] : 0U;
        q_[n][k][1] = query < group ? words[word + 4] : 0U;
      }
    }
  }

  // Forgets all positions.
  __device__ void reset() {
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
      state_[n][0] = state_[n][1] = SoftmaxState{};
#pragma unroll
      for (int m = 0; m < kSteps; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          o_[n][m][i] = 0.0F;
        }
      }
    }
  }

  // Takes what add_tile() needs out of shared memory: the scores, and the values transposed.
  __device__ void read_tile(std::uint32_t tile) {
    const std::uint32_t k_address = tile + Tile::offset(lane_ % 16, lane_ / 16);
    const std::uint32_t v_address = tile + Tile::kValues + Tile::offset(lane_ % 8 + lane_ / 16 * 8, lane_ / 8 % 2);
    float chains[2][kQueryTiles][4] = {};  // two independent chains of products
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      std::uint32_t keys[4];
      ptx::load_matrices(keys, Tile::advance(k_address, k));
#pragma unroll
      for (int n = 0; n < kQueryTiles; ++n) {
        ptx::multiply_add<T>(chains[k % 2][n], keys, q_[n][k]);
      }
    }
#pragma unroll
    for (int m = 0; m < kSteps; ++m) {
      ptx::load_matrices_transposed(values_[m], Tile::advance(v_address, m));
    }
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores_[n][i] = chains[0][n][i] + chains[1][n][i];
      }
    }
  }

  // Adds the first `num_rows` (1..16) positions of the tile read. The others may hold anything, NaN included.
  __device__ void add_tile(int num_rows, float scale_log2) {
    if (num_rows < Tile::kTokens) {
      mask(num_rows);
    }
#pragma unroll
    for (int n = 0; n < kQueryTiles; ++n) {
      std::uint32_t p[2];
      update_state(n, scale_log2);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        p[i] = ptx::transpose_matrix(ptx::pack<T>(scores_[n][2 * i], scores_[n][2 * i + 1]));
      }
#pragma unroll
      for (int m = 0; m < kSteps; ++m) {
        ptx::multiply_add<T>(o_[n][m], values_[m], p);
      }
    }
  }

  // The state of query n * 8 + (lane % 4) * 2 + j over all the tokens of this warp.
  __device__ SoftmaxState state(int n, int j) const {
    SoftmaxState total = state_[n][j];
#pragma unroll
    for (int distance = 4; distance < 32; distance *= 2) {
      total.sum += __shfl_xor_sync(0xFFFFFFFF, total.sum, distance);
    }
    return total;
  }

  // Calls store(query of the tile, d, value) for every element of O^T that this lane holds.
  template <typename Store>
  __device__ void for_each_output(int n, Store store) const {
#pragma unroll
    for (int m = 0; m < kSteps; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        store((lane_ % 4) * 2 + i % 2, m * 16 + (i / 2) * 8 + lane_ / 4, o_[n][m][i]);
      }
    }
  }

 private:
  using Tile = KvTile<kHeadDim>;
  static constexpr int kSteps = kHeadDim / 16;

  __device__ void mask(int num_rows) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const bool valid = lane_ / 4 + (i / 2) * 8 < num_rows;
      const int num_valid = num_rows - ((lane_ % 4) * 2 + (i / 2) * 8);  // of the two tokens of a word of values
      const std::uint32_t kept = num_valid >= 2 ? 0xFFFFFFFFU : num_valid == 1 ? 0xFFFFU : 0U;
#pragma unroll
      for (int n = 0; n < kQueryTiles; ++n) {
        scores_[n][i] = valid ? scores_[n][i] : -INFINITY;
      }
#pragma unroll
      for (int m = 0; m < kSteps; ++m) {
        values_[m][i] &= kept;
      }
    }
  }

  // Turns scores into weights under the new maximum and rescales what was summed under the old one.
  __device__ void update_state(int n, float scale_log2) {
    float (&scores)[4] = scores_[n];
    float rescale[2];
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float max = fmaxf(scores[j], scores[j + 2]);
#pragma unroll
      for (int distance = 4; distance < 32; distance *= 2) {
        max = fmaxf(max, __shfl_xor_sync(0xFFFFFFFF, max, distance));
      }
      max = fmaxf(max * scale_log2, state_[n][j].max);
      rescale[j] = ptx::exp2_approx(state_[n][j].max - max);
      scores[j] = ptx::exp2_approx(scores[j] * scale_log2 - max);
      scores[j + 2] = ptx::exp2_approx(scores[j + 2] * scale_log2 - max);
      state_[n][j] = {max, state_[n][j].sum * rescale[j] + scores[j] + scores[j + 2]};
    }
    if (__any_sync(0xFFFFFFFF, rescale[0] != 1.0F || rescale[1] != 1.0F)) {
#pragma unroll
      for (int m = 0; m < kSteps; ++m) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          o_[n][m][i] *= rescale[i % 2];
        }
      }
    }
  }

  int lane_ = static_cast<int>(threadIdx.x) % 32;
  std::uint32_t q_[kQueryTiles][kSteps][2];
  SoftmaxState state_[kQueryTiles][2];  // max over all of the warp's tokens, sum over those of this lane
  float o_[kQueryTiles][kSteps][4];
  float scores_[kQueryTiles][4];
  std::uint32_t values_[kSteps][4];
};

// Walks the tiles that one warp reads, over all the items of its CTA.
class TileCursor {
 public:
  __device__ TileCursor(const DecodePlanView& plan, const std::int32_t* block_table, int warp)
      : items_(plan.items()),
        index_(plan.cta_indptr()[blockIdx.x]),
        end_(plan.cta_indptr()[blockIdx.x + 1]),
        block_table_(block_table),
        first_position_(warp * kDecodeTileTokens) {
    enter();
  }

  __device__ bool valid() const { return index_ < end_; }

  __device__ TileSpan span() const {
    return {blocks_, kv_head_, position_, min(kDecodeTileTokens, kv_end_ - position_)};
  }

  __device__ void advance() {
    position_ += kDecodeWarps * kDecodeTileTokens;
    if (position_ >= kv_end_) {
      ++index_;
      enter();
    }
  }

 private:
  // Goes to this warp's first tile of item index_, or of the next item that has one.
  __device__ void enter() {
    for (; index_ < end_; ++index_) {
      const DecodeItem item = items_[index_];
      position_ = item.kv_begin + first_position_;
      if (position_ < item.kv_end) {
        kv_end_ = item.kv_end;
        kv_head_ = item.kv_head;
        blocks_ = block_table_ + item.first_block;
        return;
      }
    }
  }

  const DecodeItem* items_;
  std::int32_t index_;
  std::int32_t end_;
  const std::int32_t* block_table_;
  const std::int32_t* blocks_ = nullptr;
  std::int32_t first_position_;  // within an item
  std::int32_t kv_head_ = 0;
  std::int32_t kv_end_ = 0;
  std::int32_t position_ = 0;
};

// Stages of a warp's ring.
template <int kHeadDim>
inline constexpr int kNumDecodeStages = kDecodeRingBytes / (kDecodeWarps * KvTile<kHeadDim>::kBytes);

// One warp's ring of stages: tiles are copied ahead in the order in which they are used.
template <int kHeadDim, typename TileCopy>
class TileRing {
 public:
  static constexpr int kBytes = kNumDecodeStages<kHeadDim> * KvTile<kHeadDim>::kBytes;

  __device__ TileRing(std::uint32_t stages, std::uint32_t barriers, TileCursor cursor, TileCopy copy)
      : stages_(stages), barriers_(barriers), cursor_(cursor), copy_(copy) {
    init_barriers();
    if (cursor_.valid()) {
      copy_.locate(cursor_.span());
    }
    for (int stage = 0; stage < kNumDecodeStages<kHeadDim>; ++stage) {
      start_copy(stage);
    }
  }

  // Waits for the next tile; it stays valid until release().
  __device__ std::uint32_t wait() const {
    ptx::wait_barrier(barrier(stage_), parity_);
    return stages_ + static_cast<std::uint32_t>(stage_ * KvTile<kHeadDim>::kBytes);
  }

  __device__ void release() {
    __syncwarp();
    start_copy(stage_);
    if (++stage_ == kNumDecodeStages<kHeadDim>) {
      stage_ = 0;
      parity_ ^= 1U;
    }
  }

 private:
  __device__ void init_barriers() const {
    if (threadIdx.x % 32 == 0) {
      for (int stage = 0; stage < kNumDecodeStages<kHeadDim>; ++stage) {
        ptx::init_barrier(barrier(stage), TileCopy::kArrivals);
      }
#if __CUDA_ARCH__ >= 900
      ptx::fence_barrier_init();
#endif
    }
    __syncwarp();
  }

  __device__ std::uint32_t barrier(int stage) const { return barriers_ + static_cast<std::uint32_t>(stage * 8); }

  __device__ void start_copy(int stage) {
    if (cursor_.valid()) {
      copy_.issue(stages_ + static_cast<std::uint32_t>(stage * KvTile<kHeadDim>::kBytes), barrier(stage));
      cursor_.advance();
      if (cursor_.valid()) {
        copy_.locate(cursor_.span());
      }
    }
  }

  std::uint32_t stages_;
  std::uint32_t barriers_;
  int stage_ = 0;
  std::uint32_t parity_ = 0;
  TileCursor cursor_;
  TileCopy copy_;
};

// Shared memory of a CTA: the stages of all warps first (aligned to 1 KB for the swizzle), then this.
template <int kHeadDim, int kQueryTiles>
struct DecodeScratch {
  static constexpr int kRowFloats = kHeadDim + 4;  // padded: the lanes of a store fall into different banks

  float outputs[kDecodeWarps][8][kRowFloats];  // one query tile at a time
  SoftmaxState states[kDecodeWarps][kQueryTiles * 8];
  std::uint64_t barriers[kDecodeWarps][kNumDecodeStages<kHeadDim>];
};

// Joins what the warps computed for one item and writes the output, or the partial result. Warp 0 has a tile of every
// item, so its maximum is finite. Ends with a barrier.
template <typename T, int kHeadDim, int kQueryTiles>
__device__ void write_item(const blendserve_paged_decode_params& params, const DecodeItem& item,
                           const GroupAttention<T, kHeadDim, kQueryTiles>& attention,
                           DecodeScratch<kHeadDim, kQueryTiles>& scratch, int group) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const PartialSlots slots = partial_slots(params);
#pragma unroll
  for (int n = 0; n < kQueryTiles; ++n) {
    attention.for_each_output(n, [&](int query, int d, float value) { scratch.outputs[warp][query][d] = value; });
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const SoftmaxState state = attention.state(n, j);
      if (lane < 4) {
        scratch.states[warp][n * 8 + lane * 2 + j] = state;
      }
    }
    __syncthreads();
    constexpr int kQuads = kHeadDim / 4;
    const int num_queries = min(8, group - n * 8);
    for (int at = static_cast<int>(threadIdx.x); at < num_queries * kQuads; at += kDecodeWarps * 32) {
      const int query = at / kQuads;
      const int d = at % kQuads * 4;
      const int head = n * 8 + query;
      SoftmaxState total = scratch.states[0][head];
#pragma unroll
      for (int other = 1; other < kDecodeWarps; ++other) {
        total = softmax_union(total, scratch.states[other][head]);
      }
      float4 sum = {0.0F, 0.0F, 0.0F, 0.0F};
#pragma unroll
      for (int other = 0; other < kDecodeWarps; ++other) {
        const float weight = softmax_weight(scratch.states[other][head], total.max);
        const float4 part = *reinterpret_cast<const float4*>(&scratch.outputs[other][query][d]);
        sum.x += weight * part.x;
        sum.y += weight * part.y;
        sum.z += weight * part.z;
        sum.w += weight * part.w;
      }
      if (item.partial == kNoPartial) {
        T* out =
            static_cast<T*>(params.out) + item.row * params.out_stride + (item.kv_head * group + head) * kHeadDim + d;
        const float inverse = 1.0F / total.sum;
        *reinterpret_cast<uint2*>(out) = {ptx::pack<T>(sum.x * inverse, sum.y * inverse),
                                          ptx::pack<T>(sum.z * inverse, sum.w * inverse)};
      } else {
        const std::int64_t slot = std::int64_t{item.partial} * group + head;
        *reinterpret_cast<float4*>(slots.outputs + slot * kHeadDim + d) = sum;
        if (d == 0) {
          slots.states[slot] = total;
        }
      }
    }
    __syncthreads();
  }
}

// What the host works out before a launch.
struct DecodeLaunch {
  FastDivisor block_size;
  float scale_log2;  // of the scores, in the base-2 domain
};

template <typename T, int kHeadDim, int kQueryTiles, template <int> typename TileCopy>
__device__ __forceinline__ void run_cta(const blendserve_paged_decode_params& params, const CUtensorMap& kv_map,
                                        const DecodeLaunch& launch) {
  using Tile = KvTile<kHeadDim>;
  extern __shared__ __align__(1024) unsigned char shared[];
  using Ring = TileRing<kHeadDim, TileCopy<kHeadDim>>;
  auto& scratch = *reinterpret_cast<DecodeScratch<kHeadDim, kQueryTiles>*>(shared + kDecodeRingBytes);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const DecodePlanView plan(params.plan, params.num_ctas);
  const KvSource source{static_cast<const std::uint16_t*>(params.kv),
                        &kv_map,
                        {params.num_blocks, params.num_kv_heads, params.block_size, params.head_dim},
                        launch.block_size};
  Ring ring(ptx::shared_address(shared) + static_cast<std::uint32_t>(warp * Ring::kBytes),
            ptx::shared_address(scratch.barriers[warp]), TileCursor(plan, params.block_table, warp),
            TileCopy<kHeadDim>(source));

  std::int32_t index = plan.cta_indptr()[blockIdx.x];
  const std::int32_t end = plan.cta_indptr()[blockIdx.x + 1];
  if (index == end) {
    return;
  }
  const int group = params.num_heads / params.num_kv_heads;
  const auto queries_of = [&](const DecodeItem& item) {
    return static_cast<const T*>(params.q) + item.row * params.q_stride + item.kv_head * group * kHeadDim;
  };
  DecodeItem item = plan.items()[index];
  GroupAttention<T, kHeadDim, kQueryTiles> attention;
  attention.load_queries(queries_of(item), group);
  while (true) {
    attention.reset();
    for (std::int32_t position = item.kv_begin + warp * Tile::kTokens; position < item.kv_end;
         position += kDecodeWarps * Tile::kTokens) {
      attention.read_tile(ring.wait());
      ring.release();
      attention.add_tile(min(Tile::kTokens, item.kv_end - position), launch.scale_log2);
    }
    const DecodeItem done = item;
    if (++index < end) {  // the next queries come while this item is joined
      item = plan.items()[index];
      attention.load_queries(queries_of(item), group);
    }
    write_item<T, kHeadDim, kQueryTiles>(params, done, attention, scratch, group);
    if (index == end) {
      return;
    }
  }
}

template <typename T, int kHeadDim, int kQueryTiles, template <int> typename TileCopy>
__global__ void __launch_bounds__(kDecodeWarps * 32, 1)
    paged_decode_kernel(const __grid_constant__ blendserve_paged_decode_params params,
                        const __grid_constant__ CUtensorMap kv_map, const __grid_constant__ DecodeLaunch launch) {
#if __CUDA_ARCH__ < 900
  if constexpr (!TileCopy<kHeadDim>::kNeedsSm90) {
    run_cta<T, kHeadDim, kQueryTiles, TileCopy>(params, kv_map, launch);
  }
#else
  run_cta<T, kHeadDim, kQueryTiles, TileCopy>(params, kv_map, launch);
#endif
}

}  // namespace blendserve::cuda
