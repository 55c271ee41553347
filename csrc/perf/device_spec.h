#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "perf/measured_rates.h"

namespace blendserve {

// A device, or `tp` equal ones that work on every layer together. The fields are of one device; tp scales what is
// derived from them.
struct DeviceSpec {
  std::string name;
  // Peak FLOP/s of dense matrix products (no sparsity) by element size. On GPUs the tensor cores' rate: TF32, fp16 or
  // bf16, and fp8 (int8 where there is no fp8), accumulated in 32 bits.
  double flops_4_byte = 0;
  double flops_2_byte = 0;
  double flops_1_byte = 0;
  double bandwidth = 0;     // of its memory, B/s
  double memory_bytes = 0;  // an 80 GB device has 80e9
  std::int64_t tp = 1;      // tensor-parallel degree

  double beta = 0.5;  // what overlap leaves of the shorter of compute and memory time, 0..1 (docs/performance_model.md)
  std::int64_t num_nano_batches = 1;  // k, into which an overlapped step is split
  std::int64_t token_tile = 128;      // a GEMM's rows are rounded up to a multiple of it
  std::optional<double> kv_memory_bytes =
      std::nullopt;  // for the KV cache, of all tp devices; none: by kv_capacity_tokens()
  std::optional<MeasuredRates> measured = std::nullopt;  // of one device; none: what its data sheet says

  // Throws InvalidInput, with the names of named_devices() for a name that is none of them.
  static DeviceSpec named(std::string_view name, std::int64_t tp = 1);

  // Throws InvalidInput unless every field is in its range.
  void validate() const;

  // Of all tp devices.
  double total_flops(std::int64_t element_bytes) const;
  double total_bandwidth() const { return bandwidth * static_cast<double>(tp); }

  bool operator==(const DeviceSpec&) const = default;
};

}  // namespace blendserve
