#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/isa.h"

namespace blendserve {

// The instruction sets this processor has, worst first.
inline std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const cpu::Isa isa : {cpu::Isa::kScalar, cpu::Isa::kAvx2, cpu::Isa::kAvx512}) {
    if (isa <= cpu::best_isa()) names.emplace_back(cpu::to_string(isa));
  }
  return names;
}

}  // namespace blendserve
