#pragma once

#include <span>
#include <string_view>

#include "perf/architecture.h"

namespace blendserve {

struct NamedModel {
  std::string_view name;
  double num_params;  // as its authors publish it
  Architecture architecture;
};

std::span<const NamedModel> named_models();

}  // namespace blendserve
