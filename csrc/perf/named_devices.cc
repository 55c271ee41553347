#include "perf/named_devices.h"

#include "perf/find_named.h"

namespace blendserve {
namespace {

// From NVIDIA's data sheets (A100, H100, H200, HGX B200, L40S, L4) and white papers (GA102, Ada: GeForce, at the rates
// with 32-bit accumulation). Ampere has no fp8: its 1-byte rate is int8's.
constexpr NamedDevice kDevices[] = {
    {"a100-sxm-80gb", 156e12, 312e12, 624e12, 2039e9, 80e9},
    {"a100-sxm-40gb", 156e12, 312e12, 624e12, 1555e9, 40e9},
    {"a100-pcie-80gb", 156e12, 312e12, 624e12, 1935e9, 80e9},
    {"h100-sxm-80gb", 494.5e12, 989e12, 1979e12, 3350e9, 80e9},
    {"h100-pcie-80gb", 378e12, 756e12, 1513e12, 2000e9, 80e9},
    {"h200-sxm-141gb", 494.5e12, 989e12, 1979e12, 4800e9, 141e9},
    {"b200-sxm-180gb", 1125e12, 2250e12, 4500e12, 7700e9, 180e9},
    {"l40s-48gb", 183e12, 362e12, 733e12, 864e9, 48e9},
    {"l4-24gb", 60e12, 121e12, 242e12, 300e9, 24e9},
    {"rtx-4090-24gb", 82.6e12, 165.2e12, 330.3e12, 1008e9, 24e9},
    {"rtx-3090-24gb", 35.6e12, 71e12, 284e12, 936e9, 24e9},
    // Eight cores with two AVX2 FMA units at 3 GHz, which compute narrow elements as fp32; two channels of DDR4-3200.
    {"cpu", 768e9, 768e9, 768e9, 51.2e9, 64e9},
};

}  // namespace

std::span<const NamedDevice> named_devices() { return kDevices; }

DeviceSpec DeviceSpec::named(std::string_view name, std::int64_t tp) {
  const NamedDevice& sheet = find_named(named_devices(), name, "device", "give a DeviceSpec its figures");
  DeviceSpec spec;
  spec.name = std::string(sheet.name);
  spec.flops_4_byte = sheet.flops_4_byte;
  spec.flops_2_byte = sheet.flops_2_byte;
  spec.flops_1_byte = sheet.flops_1_byte;
  spec.bandwidth = sheet.bandwidth;
  spec.memory_bytes = sheet.memory_bytes;
  spec.tp = tp;
  spec.validate();
  return spec;
}

}  // namespace blendserve
