#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace blendserve {

// The entry called `name`; throws InvalidInput that lists the names there are.
template <typename Entry>
const Entry& find_named(std::span<const Entry> entries, std::string_view name, const std::string& kind,
                        const std::string& otherwise) {
  std::string names;
  for (const Entry& entry : entries) {
    if (entry.name == name) return entry;
    names += (names.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw InvalidInput("no " + kind + " is named \"" + std::string(name) + "\"; use one of " + names + ", or " +
                     otherwise);
}

}  // namespace blendserve
