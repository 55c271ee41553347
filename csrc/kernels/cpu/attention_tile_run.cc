#include "kernels/cpu/attention_tile_run.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "kernels/cpu/isa.h"

namespace blendserve::cpu {

namespace {

constexpr float kLog2E = 1.44269504088896340736F;

struct alignas(64) CacheLine {
  float values[16];
};

}  // namespace

// Memory a thread works in, kept from call to call.
struct ThreadBuffers {
  struct Rows {
    std::array<const void*, kSplitLen> k;
    std::array<const void*, kSplitLen> v;
    std::int32_t begin;
    std::int32_t end;
  };

  std::vector<CacheLine> floats;
  std::vector<std::int32_t> row_begins;
  std::vector<std::int32_t> row_ends;
  std::array<Rows, 2> rows;  // of a split and the one after it

  float* resize(std::int64_t num_floats) {
    floats.resize(std::max(floats.size(), static_cast<std::size_t>(whole_lines(num_floats) / 16)));
    return reinterpret_cast<float*>(floats.data());
  }
};

namespace {

ThreadBuffers& thread_buffers() {
  thread_local ThreadBuffers buffers;
  return buffers;
}

PartialRows partial_rows(float* at, std::int64_t num_rows, std::int32_t head_dim) {
  return {at, at + num_rows, at + whole_lines(2 * num_rows), padded(head_dim)};
}

// Adds the positions of `right`, all later, to `left`.
void merge_row(const PartialRows& left, const PartialRows& right, std::ptrdiff_t row, std::int32_t head_dim) {
  const float max = std::max(left.max[row], right.max[row]);
  const float left_factor = std::exp2(left.max[row] - max);
  const float right_factor = std::exp2(right.max[row] - max);
  float* acc = left.acc + row * left.acc_stride;
  const float* right_acc = right.acc + row * right.acc_stride;
  for (std::int32_t i = 0; i < head_dim; ++i) {
    acc[i] = acc[i] * left_factor + right_acc[i] * right_factor;
  }
  left.sum[row] = left.sum[row] * left_factor + right.sum[row] * right_factor;
  left.max[row] = max;
}

void copy_row(const PartialRows& from, std::ptrdiff_t row, std::int32_t head_dim, const PartialRows& to) {
  std::copy_n(from.acc + row * from.acc_stride, head_dim, to.acc + row * to.acc_stride);
  to.sum[row] = from.sum[row];
  to.max[row] = from.max[row];
}

}  // namespace

TileRun::TileRun(const PagedAttentionParams& params, const Tile& tile)
    : params_(params),
      tile_(tile),
      buffers_(thread_buffers()),
      head_dim_(params.layout.head_dim),
      group_(params.num_heads / params.layout.num_kv_heads),
      num_rows_(tile.num_rows(group_)),
      exponent_cap_(params.softcap * kLog2E) {
  const std::int64_t q_len = whole_lines(std::int64_t{num_rows_} * head_dim_);
  const std::int64_t rows_len = partial_len(num_rows_, head_dim_);
  float* memory =
      buffers_.resize(q_len + 2 * rows_len + static_cast<std::int64_t>(split_scratch_len(num_rows_, head_dim_)));
  q_ = memory;
  total_ = partial_rows(memory + q_len, num_rows_, head_dim_);
  part_ = partial_rows(memory + q_len + rows_len, num_rows_, head_dim_);
  scratch_ = memory + q_len + 2 * rows_len;
  buffers_.row_begins.resize(static_cast<std::size_t>(num_rows_));
  buffers_.row_ends.resize(static_cast<std::size_t>(num_rows_));
}

void TileRun::attend() {
  load_q();
  const std::int32_t first_split = tile_.first_split(0);
  point_to_rows(first_split);
  attend_split(first_split, total_);
  for (std::int32_t split = first_split + 1; split < tile_.end_split(); ++split) {
    attend_split(split, part_);
    merge(split, part_);
  }
  write_out(total_);
}

void TileRun::attend_partly(std::int32_t first_split, std::int32_t end_split, float* workspace) {
  load_q();
  point_to_rows(first_split);
  for (std::int32_t split = first_split; split < end_split; ++split) {
    attend_split(split, partial(workspace, split));
  }
}

void TileRun::merge_partials(float* workspace) {
  const std::int32_t first_split = tile_.first_split(0);
  total_ = partial(workspace, first_split);
  for (std::int32_t split = first_split + 1; split < tile_.end_split(); ++split) {
    merge(split, partial(workspace, split));
  }
  write_out(total_);
}

PartialRows TileRun::partial(float* workspace, std::int32_t split) const {
  const std::int64_t at = tile_.partials_at + (split - tile_.first_split(0)) * partial_len(num_rows_, head_dim_);
  return partial_rows(workspace + at, num_rows_, head_dim_);
}

TileRun::RowRange TileRun::rows_in(std::int32_t split) const {
  if (tile_.num_tokens == 1) {
    return {0, num_rows_};
  }
  return {tile_.first_token_in(split) * group_, tile_.end_token_in(split) * group_};
}

void TileRun::load_q() {
  const float factor = params_.softcap > 0.0F ? params_.scale / params_.softcap : params_.scale * kLog2E;
  const std::int32_t token_len = tile_.num_kv_heads * group_ * head_dim_;
  float* to = q_;
  for (std::int32_t t = 0; t < tile_.num_tokens; ++t) {
    const float* from = params_.q + (tile_.first_token + t) * params_.q_stride + first_column();
    to = std::transform(from, from + token_len, to, [&](float x) { return x * factor; });
  }
}

void TileRun::attend_split(std::int32_t split, const PartialRows& out) {
  point_to_rows(split + 1);
  const ThreadBuffers::Rows& rows = buffers_.rows[static_cast<std::size_t>(split % 2)];
  const ThreadBuffers::Rows& next_rows = buffers_.rows[static_cast<std::size_t>((split + 1) % 2)];
  const RowRange range = rows_in(split);
  const std::int32_t rows_of_head = (range.end - range.begin) / tile_.num_kv_heads;
  for (std::int32_t row = range.begin; row < range.begin + rows_of_head; ++row) {
    const std::int32_t token = token_of(row);
    buffers_.row_begins[static_cast<std::size_t>(row)] =
        std::max(rows.begin, tile_.first_position(token) - split * kSplitLen);
    buffers_.row_ends[static_cast<std::size_t>(row)] = std::min(rows.end, tile_.first_len + token - split * kSplitLen);
  }
  const SplitInputs in{.q = q_ + std::ptrdiff_t{range.begin} * head_dim_,
                       .row_begins = buffers_.row_begins.data() + range.begin,
                       .row_ends = buffers_.row_ends.data() + range.begin,
                       .k_rows = rows.k.data(),
                       .v_rows = rows.v.data(),
                       .next_k_rows = next_rows.k.data(),
                       .num_next_rows = next_rows.end,
                       .num_kv_heads = tile_.num_kv_heads,
                       .num_rows = rows_of_head,
                       .head_dim = head_dim_,
                       .head_stride = params_.layout.tile_size() * element_size(),
                       .exponent_cap = exponent_cap_,
                       .kv_dtype = params_.kv_dtype};
#ifdef __x86_64__
  if (active_isa() == Isa::kAvx512) {
    attend_split_avx512(in, scratch_, out.from(range.begin));
    return;
  }
  if (active_isa() == Isa::kAvx2) {
    attend_split_avx2(in, scratch_, out.from(range.begin));
    return;
  }
#endif
  attend_split_scalar(in, scratch_, out.from(range.begin));
}

// Finds the positions of a split in the cache, those of the first head; one past the last split has none.
void TileRun::point_to_rows(std::int32_t split) {
  const KvLayout& layout = params_.layout;
  const BlockId* blocks = params_.block_table + params_.block_indptr[tile_.seq];
  const auto* kv = static_cast<const std::byte*>(params_.kv);
  const std::int32_t begin = split * kSplitLen;
  ThreadBuffers::Rows& rows = buffers_.rows[static_cast<std::size_t>(split % 2)];
  rows.begin = std::max(0, tile_.first_position(0) - begin);
  rows.end = std::clamp(tile_.num_positions() - begin, 0, kSplitLen);
  const std::int64_t row_bytes = head_dim_ * element_size();
  for (std::int32_t p = rows.begin, len = 0; p < rows.end; p += len) {
    const BlockId block = blocks[(begin + p) / layout.block_size];
    const std::int32_t offset = (begin + p) % layout.block_size;
    const std::byte* k = kv + layout.k_offset(block, tile_.kv_head) * element_size() + offset * row_bytes;
    const std::byte* v = kv + layout.v_offset(block, tile_.kv_head) * element_size() + offset * row_bytes;
    len = std::min(layout.block_size - offset, rows.end - p);
    for (std::int32_t i = 0; i < len; ++i) {
      rows.k[static_cast<std::size_t>(p + i)] = k + i * row_bytes;
      rows.v[static_cast<std::size_t>(p + i)] = v + i * row_bytes;
    }
  }
  if (rows.begin == rows.end) {
    return;
  }
  for (auto* const of : {rows.k.data(), rows.v.data()}) {
    std::fill(of + rows.begin / kLanes * kLanes, of + rows.begin, of[rows.begin]);
    std::fill(of + rows.end, of + padded(rows.end), of[rows.end - 1]);
  }
}

// Adds a later split than the tile's first. A row whose window starts in it is moved: its merging starts here.
void TileRun::merge(std::int32_t split, const PartialRows& part) {
  const RowRange range = rows_in(split);
  for (std::int32_t row = range.begin; row < range.end; ++row) {
    if (tile_.first_split(token_of(row)) == split) {
      copy_row(part, row, head_dim_, total_);
    } else {
      merge_row(total_, part, row, head_dim_);
    }
  }
}

void TileRun::write_out(const PartialRows& rows) {
  const std::int64_t out_stride = std::int64_t{params_.num_heads} * head_dim_;
  for (std::int32_t row = 0; row < num_rows_; ++row) {
    const std::int32_t token = token_of(row);
    const std::int32_t head = row - token * group_;
    float* out =
        params_.out + (tile_.first_token + token) * out_stride + first_column() + std::int64_t{head} * head_dim_;
    const float* acc = rows.acc + row * rows.acc_stride;
    const float factor = 1.0F / rows.sum[row];
    std::transform(acc, acc + head_dim_, out, [&](float x) { return x * factor; });
  }
}

}  // namespace blendserve::cpu
